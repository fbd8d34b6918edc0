"""convert-weights: a report, refusal by default, and proof that it is the same network."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from torch_writer import save_torch

from ppfacerec.cli import main
from ppfacerec.model_info import info_path, read_info
from ppfacerec.weights_io import convert as convert_module
from ppfacerec.weights_io.convert import convert_weights
from ppfacerec.weights_io.read import read_any

sys.path.append(str(Path(__file__).parents[1] / "backbones"))
from backbone_reference import pytorch_state


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
        ({"source_name": "adaface"}, "is insightface's MobileFaceNetInsight by its names, not adaface's"),
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
        ValueError, match=r"of no network that is known here \(encoder\.0\._weight, \.\.\.\)\. Known are IR1"
    ):
        convert_weights(str(path), tmp_path / "out.pdparams")


def test_a_network_that_differs_from_its_source_is_refused(tmp_path, monkeypatch, mbf):
    monkeypatch.setattr(convert_module, "verify", lambda *arguments: [("the source", 3e-3)])
    with pytest.raises(ValueError, match=r"differs from the source \(the source\) by 3\.0e-03 .* Nothing was written"):
        convert_weights(str(mbf), tmp_path / "out.pdparams", verified=True)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_verified_is_said(tmp_path, monkeypatch, mbf, log_lines):
    monkeypatch.setattr(convert_module, "verify", lambda *arguments: [])
    convert_weights(str(mbf), tmp_path / "out.pdparams", verified=True)
    assert "Not verified: nothing here can run the source" in log_lines.text


@pytest.mark.parametrize(
    ("table", "gain"), [("iresnet18_512", 0.7), ("mobilefacenet_insight_512", 0.85), ("ir18_512", 0.7)]
)
def test_torch_confirms_the_converted_network(tmp_path, log_lines, table, gain):
    pytest.importorskip("torch")
    path = save_torch(tmp_path / "w.pth", pytorch_state(table, gain))
    convert_weights(str(path), tmp_path / "out.pdparams", verified=True)
    assert "Verified against torch" in log_lines.text


def test_models_lists_the_zoo(capsys):
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    for part in ("paddleclas-mobilefacenet", "LFW 99.58", "BGR", "mobilefacenet.pdparams (SHA-256 not published)"):
        assert part in text
