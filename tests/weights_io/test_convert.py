"""convert-weights: a report, refusal by default, and the same network as the source."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from source_forward import numpy_embedding, torch_embedding
from torch_writer import save_torch

from ppfacerec.cli import main
from ppfacerec.export import convert_weights as convert_module
from ppfacerec.export import export_model
from ppfacerec.export.convert_weights import convert_weights, write_pdparams
from ppfacerec.inference.loading import load_backbone
from ppfacerec.inference.parity import relative_difference, spread_images
from ppfacerec.weights.info import info_path, read_info
from ppfacerec.weights.names import PYTORCH_WRAPPERS, from_fresresnet, split_head
from ppfacerec.weights.read import _format_of, _read, as_floats, read_any

sys.path.append(str(Path(__file__).parents[1] / "backbones"))
from backbone_reference import FIXTURES, pytorch_state, reference_images, reference_state


@pytest.fixture(scope="module")
def mbf(tmp_path_factory):
    return save_torch(tmp_path_factory.mktemp("mbf") / "backbone.pth", pytorch_state("mobilefacenet_insight_512", 0.85))


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_a_converted_file_holds_the_same_numbers_and_its_info(tmp_path, mbf, suffix):
    target = tmp_path / f"mbf{suffix}"
    assert main(["convert-weights", str(mbf), str(target), "--from", "insightface"]) == 0
    ours, theirs = read_any(target).backbone, read_any(mbf).backbone
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)
    info = read_info(info_path(target))
    assert (info.spec.name, info.embedding_size, info.colors) == ("MobileFaceNetInsight", 512, "RGB")


def test_paddle_loads_a_converted_file(tmp_path, mbf):
    convert_weights(str(mbf), tmp_path / "mbf.pdparams")
    loaded = paddle.load(str(tmp_path / "mbf.pdparams"))
    assert "backbone.layers.0.layers.0.weight" in loaded


@pytest.mark.slow
def test_adaface_takes_bgr_and_the_info_says_so(tmp_path):
    state = {f"model.{k}": v for k, v in pytorch_state("ir18_512", 0.7).items()}
    path = save_torch(tmp_path / "a.ckpt", state, lambda tree: {"state_dict": tree})
    info = convert_weights(str(path), tmp_path / "ir18.pdparams")
    assert info.colors == read_info(tmp_path / "ir18.info.json").colors == "BGR"


def changed(tmp_path, **changes):
    state = pytorch_state("mobilefacenet_insight_512", 0.85)
    for name, value in changes.items():
        name = name.replace("__", ".")
        if value is None:
            del state[name]
        else:
            state[name] = value
    return save_torch(tmp_path / "changed.pth", state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv_sep__layers__2__weight": None}, r"1 missing: conv_sep\.layers\.2\._weight\."),
        ({"more__weight": np.ones(3, np.float32)}, r"1 unexpected: more\._weight\."),
        (
            {"conv_sep__layers__2__weight": np.ones(3, np.float32)},
            r"1 other shape: conv_sep\.layers\.2\._weight \[3\] for \[512\]\.",
        ),
        (
            {"conv_sep__layers__2__weight": None, "conv_sep__layers__3__weight": np.ones(512, np.float32)},
            r"For 'conv_sep\.layers\.2\._weight' it has no array\. Did you mean 'conv_sep\.layers\.3\._weight'\?",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path, changes, message):
    path = changed(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        convert_weights(str(path), tmp_path / "out.pdparams")
    assert [p.name for p in tmp_path.iterdir()] == ["changed.pth"]


def test_a_mismatch_is_written_where_asked(tmp_path):
    path = changed(tmp_path, conv_sep__layers__2__weight=None)
    convert_weights(str(path), tmp_path / "out.pdparams", allow_mismatch=True)
    assert read_any(tmp_path / "out.pdparams").backbone["conv_sep.layers.2._weight"].tolist() == [0.25] * 512


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source_name": "adaface"}, "is insightface's MobileFaceNetInsight by its tensor names, not adaface's"),
        ({"target": "out.onnx"}, r"out\.onnx: expected a name that ends in \.pdparams or \.safetensors"),
    ],
)
def test_a_wrong_request_is_named(tmp_path, monkeypatch, mbf, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        convert_weights(str(mbf), **{"target": "out.pdparams", **arguments})


def test_an_unknown_network_names_the_known_ones(tmp_path):
    path = save_torch(tmp_path / "w.pth", {"encoder.0.weight": np.ones(3, np.float32)})
    with pytest.raises(
        ValueError,
        match=r"tensor names match no supported network \(encoder\.0\._weight, \.\.\.\)\. Supported: .*IR101, IR18",
    ):
        convert_weights(str(path), tmp_path / "out.pdparams")


def test_a_network_that_differs_from_its_source_is_refused(tmp_path, monkeypatch, mbf):
    monkeypatch.setattr(convert_module, "difference_to", lambda *arguments: 3e-3)
    with pytest.raises(ValueError, match=r"differs from the source \(the source\) by 3\.0e-03 .* Nothing was written"):
        convert_weights(str(mbf), tmp_path / "out.pdparams", reference="the source")
    assert not list(tmp_path.iterdir())


def fresresnet_name(name):
    """What PLSC's older program calls a tensor of IResNet."""
    inside = {
        "bn1": "_batch_norm", "conv1": "conv0._conv", "bn2": "conv0._batch_norm", "prelu": "prelu",
        "conv2": "conv1._conv", "bn3": "conv1._batch_norm", "downsample.0": "short._conv",
        "downsample.1": "short._batch_norm",
    }  # fmt: skip
    outside = {
        "conv1": "conv._conv", "bn1": "conv._batch_norm", "prelu": "prelu", "bn2": "fc._batch_norm_1", "fc": "fc.fc",
        "features": "fc._batch_norm_2",
    }  # fmt: skip
    stem, _, leaf = name.rpartition(".")
    if not stem.startswith("layer"):
        return f"{outside[stem]}.{leaf}"
    stage, block, part = stem.split(".", 2)
    return f"res{int(stage[-1]) + 1}{chr(ord('a') + int(block))}.{inside[part]}.{leaf}"


SOURCES = {  # key table, gain, whether its names are PyTorch's
    "MobileFaceNet": ("mobilefacenet_128", 0.85, False),
    "ResNet50": ("resnet50_face_512", 0.7, False),
    "IResNet18": ("iresnet18_512", 0.7, True),
    "IR18": ("ir18_512", 0.7, True),
    "mbf": ("mobilefacenet_insight_512", 0.85, True),
    "mbf_large": ("mobilefacenet_insight_large_512", 0.85, True),
}
SLOW = ("IR18", "IResNet18", "ResNet50", "mbf_large")


def saved(folder, name):
    """A source's file with weights made by a rule."""
    table, gain, pytorch = SOURCES[name]
    if pytorch:
        return save_torch(folder / "w.pth", pytorch_state(table, gain))
    state = {f"backbone.{key}": value for key, value in reference_state(table, gain).items()}
    return write_pdparams(folder / "w.pdparams", state) or folder / "w.pdparams"


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in SOURCES])
def test_every_source_is_run_once_more_under_its_own_names(tmp_path, name):
    path = saved(tmp_path, name)
    difference = difference_to_source(path, path, SOURCES[name][2])
    assert difference < 2e-5


def difference_to_source(path, original, pytorch):
    """The largest difference of our network with the file's converted weights to the original's own network."""
    convert_weights(str(path), path.with_name("out.pdparams"))
    backbone, _ = load_backbone(str(path.with_name("out.pdparams")))
    backbone.eval()
    images = spread_images()
    with paddle.no_grad():
        ours = backbone(paddle.to_tensor(images)).numpy()
    state = split_head(
        as_floats(_read(str(original), _format_of(str(original)))[0]), PYTORCH_WRAPPERS if pytorch else ("backbone",)
    )[0]
    if pytorch and importlib.util.find_spec("torch"):
        assert relative_difference(ours, torch_embedding(state, images)) < 2e-5
    return relative_difference(ours, numpy_embedding(state, images, pytorch))


@pytest.mark.parametrize(
    ("name", "fixture"),
    [("MobileFaceNet", "mobilefacenet_paddleclas"), ("mbf", "mobilefacenet_insightface"), ("IR18", "ir18_adaface"),
     ("IResNet18", "iresnet18_insightface")],
)  # fmt: skip
def test_what_is_run_is_what_the_sources_own_program_gives(name, fixture):
    """Not only the same as ours: the fixtures are the outputs of PaddleClas's, insightface's and AdaFace's programs."""
    table, gain, pytorch = SOURCES[name]
    state = pytorch_state(table, gain) if pytorch else reference_state(table, gain)
    stored = np.load(FIXTURES / f"{fixture}.npz")
    features = numpy_embedding(state, reference_images(), pytorch)
    if name == "IR18":  # AdaFace's program divides them by their length
        features, stored = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (features, stored["features"]))
    else:
        stored = stored["features"]
    assert np.abs(features - stored).max() / np.abs(stored).max() < 2e-5


@pytest.mark.slow
def test_plscs_older_backbone_is_run_under_its_own_names():
    own = reference_state("iresnet18_512", 0.7)
    theirs = {fresresnet_name(name): array for name, array in own.items()}
    assert from_fresresnet(theirs).keys() == own.keys()
    images = reference_images()
    np.testing.assert_allclose(numpy_embedding(theirs, images, False), numpy_embedding(own, images, False), rtol=1e-12)


@pytest.mark.parametrize("spoilt", ["blocks.3.conv.0.weight", "blocks.2.conv.2._weight", "linear7.bn._variance"])
def test_one_tensor_in_the_wrong_place_is_found(tmp_path, monkeypatch, spoilt):
    """As if a name were mapped to the tensor of a neighbour of the same shape."""
    path = saved(tmp_path, "MobileFaceNet")
    swapped = {"blocks.3.conv.0.weight": "blocks.4.conv.0.weight", "blocks.2.conv.2._weight": "blocks.2.conv.5._weight",
               "linear7.bn._variance": "linear7.bn.weight"}[spoilt]  # fmt: skip

    def read_wrongly(source):
        weights = read_any(source)
        return dataclasses.replace(weights, backbone={**weights.backbone, spoilt: weights.backbone[swapped]})

    monkeypatch.setattr(convert_module, "read_any", read_wrongly)
    assert difference_to_source(path, path, False) > 1e-4


@pytest.mark.slow
def test_an_inference_model_of_paddle_is_a_reference(tmp_path, log_lines):
    path = saved(tmp_path, "MobileFaceNet")
    backbone, info = load_backbone(str(path))
    export_model(backbone, info, tmp_path / "inference")
    convert_weights(str(path), tmp_path / "out.pdparams", reference=str(tmp_path / "inference"))
    assert f"Verified against {tmp_path / 'inference'}: largest difference" in log_lines.text
    with pytest.raises(ValueError, match=r"--verify .*: expected an \.onnx file, or a folder with inference\.pdmodel"):
        convert_weights(str(path), tmp_path / "out.pdparams", reference=str(tmp_path))


def test_models_lists_the_zoo(capsys):
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    for part in ("paddleclas-mobilefacenet", "LFW 99.58", "BGR", "mobilefacenet.pdparams (SHA-256 not published)"):
        assert part in text
