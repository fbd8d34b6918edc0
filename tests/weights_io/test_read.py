"""Weights of other projects, in their own formats and names, become ours: the same network, number by number."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from torch_writer import TorchWriter, save_torch

from ppfacerec.backbones import BACKBONES
from ppfacerec.core.registry import Spec
from ppfacerec.weights.architecture import identify
from ppfacerec.weights.formats.safetensors_file import write_safetensors
from ppfacerec.weights.read import read_any

sys.path.append(str(Path(__file__).parents[1] / "backbones"))
from backbone_reference import assert_features_equal, pytorch_state, reference_state


def loaded(weights):
    net = BACKBONES.build(weights.arch)
    assert net.set_state_dict(dict(weights.backbone)) == ([], [])
    return net


@pytest.mark.parametrize(
    ("table", "gain", "fixture", "name"),
    [
        ("iresnet18_512", 0.7, "iresnet18_insightface", "IResNet18"),
        ("mobilefacenet_insight_512", 0.85, "mobilefacenet_insightface", "MobileFaceNetInsight"),
        ("mobilefacenet_insight_large_512", 0.85, "mobilefacenet_large_insightface", "MobileFaceNetInsightLarge"),
    ],
)
def test_insightface_backbone_gives_insightfaces_embedding(tmp_path, table, gain, fixture, name):
    weights = read_any(save_torch(tmp_path / "backbone.pth", pytorch_state(table, gain)))
    assert (weights.source, weights.format) == ("insightface", "torch")
    assert weights.arch == Spec(name, {"embedding_size": 512})
    assert_features_equal(loaded(weights), fixture)


@pytest.mark.slow
def test_adaface_checkpoint_gives_adafaces_embedding_and_head(tmp_path):
    kernel = np.random.default_rng(0).standard_normal((512, 7)).astype("float32")
    state = {f"model.{k}": v for k, v in pytorch_state("ir18_512", 0.7).items()}
    path = save_torch(
        tmp_path / "adaface.ckpt", {**state, "head.kernel": kernel, "head.t": np.zeros(1, np.float32)},
        lambda tree: {"epoch": 1, "state_dict": tree},
    )  # fmt: skip
    weights = read_any(path)
    assert (weights.source, weights.arch) == ("adaface", Spec("IR18", {"embedding_size": 512}))
    np.testing.assert_array_equal(weights.head["weight"], kernel)
    assert_features_equal(loaded(weights), "ir18_adaface")


def test_partial_fc_shares_of_the_ranks_become_one_head(tmp_path):
    """insightface's checkpoint_gpu_R.pt: every rank has its classes, (C / ranks, D)."""
    centres = np.arange(5 * 4, dtype=np.float32).reshape(5, 4)
    for rank, share in enumerate((centres[:3], centres[3:])):
        writer = TorchWriter()
        tree = {
            "epoch": 1,
            "state_dict_backbone": {"conv1.weight": writer.tensor(np.ones((2, 3, 1, 1), np.float32))},
            "state_dict_softmax_fc": {"weight": writer.tensor(share)},
        }
        writer.write(tmp_path / f"checkpoint_gpu_{rank}.pt", tree)
    np.testing.assert_array_equal(read_any(tmp_path / "checkpoint_gpu_0.pt").head["weight"], centres.T)


def save_paddle(path, state):
    path.write_bytes(pickle.dumps(state, protocol=4))
    return path


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_paddleclas_weights_with_and_without_prefix(tmp_path, prefix):
    state = {prefix + k: v for k, v in reference_state("mobilefacenet_128", 0.85).items()}
    head = np.ones((128, 3), np.float32)
    weights = read_any(save_paddle(tmp_path / "w.pdparams", {**state, "head.weight": head}))
    assert (weights.source, weights.arch) == ("paddleclas", Spec("MobileFaceNet", {"embedding_size": 128}))
    np.testing.assert_array_equal(weights.head["weight"], head)
    assert_features_equal(loaded(weights), "mobilefacenet_paddleclas")


def test_plsc_weights_have_bare_names(tmp_path):
    state = reference_state("iresnet18_512", 0.7, pytorch=True)
    weights = read_any(save_paddle(tmp_path / "w.pdparams", {**state, "head.weight": np.ones((512, 3), np.float32)}))
    assert (weights.source, weights.arch) == ("plsc", Spec("IResNet18", {"embedding_size": 512}))
    assert set(weights.state_dict()) == {f"backbone.{k}" for k in state} | {"head.weight"}


@pytest.mark.slow
def test_plscs_older_backbone_is_iresnet_under_other_names(tmp_path):
    """FresResNet: a folder with a .pdparam for each parameter; block 27 of a stage is called '{'."""
    own = {k: v.numpy() for k, v in BACKBONES.get("IResNet100")(embedding_size=4).state_dict().items()}
    inside = {
        "bn1": "_batch_norm", "conv1": "conv0._conv", "bn2": "conv0._batch_norm", "conv2": "conv1._conv",
        "bn3": "conv1._batch_norm", "prelu": "prelu", "downsample.0": "short._conv", "downsample.1": "short._batch_norm",
    }  # fmt: skip
    outside = {
        "conv1": "conv._conv", "bn1": "conv._batch_norm", "prelu": "prelu", "bn2": "fc._batch_norm_1", "fc": "fc.fc",
        "features": "fc._batch_norm_2",
    }  # fmt: skip
    for name, array in own.items():
        stem, _, leaf = name.rpartition(".")
        if stem.startswith("layer"):
            stage, block, part = stem.split(".", 2)
            theirs = f"res{int(stage[-1]) + 1}{chr(ord('a') + int(block))}.{inside[part]}.{leaf}"
        else:
            theirs = f"{outside[stem]}.{leaf}"
        array = array if array.ndim < 4 else array[:1, :1]  # small files; only the names matter
        paddle.save(paddle.to_tensor(array), str(tmp_path / f"{theirs}.pdparam"))
    assert (tmp_path / "res4{.conv0._conv.weight.pdparam").exists()
    assert set(read_any(tmp_path).backbone) == set(own)


@pytest.mark.slow
def test_safetensors_of_either_framework(tmp_path):
    theirs = pytorch_state("ir18_512", 0.7)
    write_safetensors(tmp_path / "torch.safetensors", {k: np.ascontiguousarray(v) for k, v in theirs.items()})
    ours = read_any(tmp_path / "torch.safetensors")
    write_safetensors(tmp_path / "paddle.safetensors", ours.state_dict())
    again = read_any(tmp_path / "paddle.safetensors")
    assert ours.arch == again.arch == Spec("IR18", {"embedding_size": 512})
    for name, array in ours.backbone.items():
        np.testing.assert_array_equal(again.backbone[name], array)


def test_half_precision_becomes_float32_and_integers_stay(tmp_path):
    state = {"a": np.ones(2, np.float16), "count": np.array(3), "b": np.array([0x3FC0], np.uint16)}
    read = read_any(save_paddle(tmp_path / "w.pdparams", state)).backbone
    assert (read["a"].dtype, read["count"].dtype, read["count"].shape) == (np.float32, np.int64, ())
    assert read["b"].tolist() == [1.5]  # Paddle saves bfloat16 as uint16


OWN = [name for name in BACKBONES.names() if BACKBONES.get(name).__module__.startswith("ppfacerec.")]


@pytest.mark.parametrize("name", OWN)  # other tests register some
def test_every_backbone_is_known_by_its_names(name):
    with paddle.LazyGuard():  # names and shapes without memory and initial values
        state = BACKBONES.get(name)(embedding_size=8).state_dict()
    spec = identify({key: np.broadcast_to(np.float32(0), tensor.shape) for key, tensor in state.items()})
    assert (spec.name, spec.kwargs["embedding_size"]) == (name, 8)


def test_unknown_names_are_no_known_network(tmp_path):
    weights = read_any(save_paddle(tmp_path / "w.pdparams", {"encoder.weight": np.ones(3, np.float32)}))
    assert (weights.arch, weights.source) == (None, None)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder without \*\.pdparam files"):
        read_any(tmp_path)


def write_shares(folder, sizes):
    """insightface's checkpoints of so many ranks, each with its number of classes."""
    centres = np.arange(sum(sizes) * 4, dtype=np.float32).reshape(-1, 4)
    for rank, share in enumerate(np.split(centres, np.cumsum(sizes)[:-1])):
        writer = TorchWriter()
        backbone = {"conv1.weight": writer.tensor(np.ones((2, 3, 1, 1), np.float32))}
        tree = {"state_dict_backbone": backbone, "state_dict_softmax_fc": {"weight": writer.tensor(share)}}
        writer.write(folder / f"checkpoint_gpu_{rank}.pt", tree)
    return centres


def test_how_many_classes_a_head_has_and_from_which_files_is_said(tmp_path, log_lines):
    centres = write_shares(tmp_path, [3, 3, 2])
    np.testing.assert_array_equal(read_any(tmp_path / "checkpoint_gpu_0.pt").head["weight"], centres.T)
    assert "head: 8 classes from checkpoint_gpu_0.pt, checkpoint_gpu_1.pt, checkpoint_gpu_2.pt" in log_lines.text
    for rank in (1, 2):
        (tmp_path / f"checkpoint_gpu_{rank}.pt").unlink()
    read_any(tmp_path / "checkpoint_gpu_0.pt")
    (warning,) = [r.getMessage() for r in log_lines.records if r.levelname == "WARNING"]
    assert (
        "head: 3 classes from checkpoint_gpu_0.pt alone. Training on several GPUs saves a part of the classes"
        in warning
    )


def test_a_part_of_a_head_is_refused(tmp_path):
    write_shares(tmp_path, [3, 3, 3, 2])
    with pytest.raises(ValueError, match=r"gpu_1\.pt has rank 1's part of the head only\. Give checkpoint_gpu_0\.pt"):
        read_any(tmp_path / "checkpoint_gpu_1.pt")
    (tmp_path / "checkpoint_gpu_1.pt").unlink()
    with pytest.raises(ValueError, match=r"the parts checkpoint_gpu_1\.pt of the head are not beside it"):
        read_any(tmp_path / "checkpoint_gpu_0.pt")
    write_shares(tmp_path, [3, 1, 3, 3])
    with pytest.raises(ValueError, match=r"gpu_1\.pt: its part of the head does not continue .*; one is missing"):
        read_any(tmp_path / "checkpoint_gpu_0.pt")
