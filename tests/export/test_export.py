"""What is exported is the same network, or nothing is written."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import paddle
import pytest
import yaml
from conftest import jpeg, picture
from tiny_plugin import TinyNet

import ppfacerec
from ppfacerec.cli import main
from ppfacerec.data.transforms.network_input import to_network_input
from ppfacerec.export import export_model, exporter
from ppfacerec.export.convert_weights import write_pdparams
from ppfacerec.export.network import ExportedNetwork
from ppfacerec.inference import face_model
from ppfacerec.weights.info import ModelInfo, info_path

needs_onnx = pytest.mark.skipif(
    paddle.__version__.startswith("2.")
    or not all(__import__("importlib.util").util.find_spec(n) for n in ("onnx", "onnxruntime", "paddle2onnx")),
    reason="needs Paddle 3, onnx, onnxruntime and paddle2onnx",
)
IMAGES = np.stack([picture(i, 0) for i in range(5)])
THRESHOLDS = {"lfw": {"1e-3": {"cosine": 0.3, "tar": 0.99, "num_different": 3000.0}}}


def tiny(colors="RGB", seed=0):
    paddle.seed(seed)
    net = TinyNet()
    net.eval()
    info = ModelInfo({"name": "TinyNet"}, 16, colors=colors, mean=(0.4, 0.5, 0.6), thresholds=THRESHOLDS)
    return net, info


def eager(net, info, images):
    channels = images[..., ::-1].copy() if info.colors == "BGR" else images
    batch = (channels.astype("float32") * info.scale - np.float32(info.mean)) / np.float32(info.std)
    with paddle.no_grad():
        return net(paddle.to_tensor(batch.transpose(0, 3, 1, 2).astype("float32"))).numpy()


@pytest.mark.parametrize("uint8_input", [False, True])
@pytest.mark.parametrize("colors", ["RGB", "BGR"])
@pytest.mark.parametrize("kind", ["paddle", pytest.param("onnx", marks=needs_onnx)])
def test_an_exported_model_embeds_as_eager_does(tmp_path, kind, colors, uint8_input):
    net, info = tiny(colors)
    export_model(net, info, tmp_path / "out", kind, uint8_input=uint8_input)
    model = ppfacerec.load(tmp_path / "out")
    expected = eager(net, info, IMAGES) + eager(net, info, IMAGES[:, :, ::-1])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.embed(list(IMAGES)), expected, atol=1e-5)
    reversed_info = dataclasses.replace(info, colors="RGB", mean=(0.6, 0.5, 0.4))
    assert model.info == (info if colors == "RGB" else reversed_info)


def test_a_bgr_network_without_one_first_convolution_is_refused(tmp_path):
    class Two(TinyNet):
        def __init__(self):
            super().__init__()
            self.other = paddle.nn.Conv2D(3, 1, 1)

    info = tiny("BGR")[1]
    with pytest.raises(ValueError, match="takes BGR and has no single first convolution"):
        export_model(Two(), info, tmp_path / "out")


@needs_onnx
def test_two_exports_into_one_folder_have_a_description_each(tmp_path):
    net, info = tiny()
    info = dataclasses.replace(info, training_data="/home/someone/ms1m/label.txt", config={"a": "/home/someone"})
    export_model(net, info, tmp_path, "paddle")
    export_model(net, info, tmp_path, "onnx", uint8_input=True)
    first, second = (ppfacerec.load(tmp_path / name) for name in ("inference.yml", "inference.onnx.yml"))
    np.testing.assert_allclose(first.embed(list(IMAGES)), second.embed(list(IMAGES)), atol=1e-5)
    assert first.info.training_data == "ms1m/label.txt"
    assert "/home" not in (tmp_path / "inference.yml").read_text() + (tmp_path / "inference.onnx.yml").read_text()


def test_a_description_of_another_models_files_is_refused(tmp_path):
    export_model(*tiny(), tmp_path / "a")
    export_model(*tiny(seed=1), tmp_path / "b")
    (tmp_path / "a" / "inference.pdiparams").write_bytes((tmp_path / "b" / "inference.pdiparams").read_bytes())
    with pytest.raises(
        ValueError, match=r"inference\.yml describes another inference\.pdiparams than the one beside it"
    ):
        ppfacerec.load(tmp_path / "a")


@pytest.mark.slow
@needs_onnx
@pytest.mark.parametrize("name", ["MobileFaceNet", "MobileFaceNetInsight", "ResNet50", "IResNet18", "IR18"])
def test_every_image_keeps_a_row_of_its_own_in_opencv(tmp_path, monkeypatch, name):
    """OpenCV 4 reads Shape-Slice-Concat-Reshape, which ``flatten`` becomes in ONNX, as one row for the whole batch."""
    import onnx

    from ppfacerec.backbones import BACKBONES
    from ppfacerec.core.registry import Spec

    monkeypatch.setattr(exporter, "_check_spread", lambda embeddings: None)  # of random weights
    monkeypatch.setattr(exporter, "_gate", lambda *arguments: None)
    net = BACKBONES.build(Spec(name), embedding_size=32)
    export_model(net, ModelInfo({"name": name}, 32), tmp_path, "onnx")
    graph = onnx.load(str(tmp_path / "inference.onnx")).graph
    assert {"Shape", "Flatten"}.isdisjoint(node.op_type for node in graph.node)


def test_the_graphs_own_preprocessing_is_the_evaluations():
    from ppfacerec.data.transforms.basic import NormalizeImage

    net, info = tiny()
    graph = ExportedNetwork(net, info, uint8_input=True)
    normalize = NormalizeImage(info.scale, info.mean, info.std)
    with paddle.no_grad():
        inside = graph(paddle.to_tensor(IMAGES)).numpy()
        outside = net(to_network_input(paddle.to_tensor(IMAGES), normalize)).numpy()
    np.testing.assert_allclose(inside, outside, atol=1e-5)


@needs_onnx
def test_an_onnx_file_alone_knows_its_preprocessing(tmp_path):
    net, info = tiny("BGR")
    export_model(net, info, tmp_path, "both")
    alone = ppfacerec.load(tmp_path / "inference.onnx")
    assert alone.info.colors == "RGB"
    np.testing.assert_allclose(alone.embed(list(IMAGES)), ppfacerec.load(tmp_path).embed(list(IMAGES)), atol=1e-5)


@needs_onnx
def test_an_onnx_file_that_was_changed_quotes_no_thresholds(tmp_path, log_lines):
    """A program that quantises keeps the metadata, whose thresholds are of other numbers."""
    import onnx

    net, info = tiny()
    info = dataclasses.replace(info, thresholds={"own": {"1e-3": {"cosine": 0.3, "tar": 0.9, "num_different": 3000.0}}})
    export_model(net, info, tmp_path, "onnx")
    assert ppfacerec.load(tmp_path / "inference.onnx").threshold().cosine == 0.3
    model = onnx.load(str(tmp_path / "inference.onnx"))
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    rounded = onnx.numpy_helper.to_array(weight).round(2)
    weight.CopyFrom(onnx.numpy_helper.from_array(rounded, weight.name))
    onnx.save(model, str(tmp_path / "rounded.onnx"))
    changed = ppfacerec.load(tmp_path / "rounded.onnx")
    assert "rounded.onnx was changed after its export (quantised?)" in log_lines.text
    assert changed.info == dataclasses.replace(info, thresholds={})


@needs_onnx
def test_onnx_has_named_ends_a_free_batch_and_no_batch_norm_behind_a_convolution(tmp_path):
    import onnx

    net, info = tiny()
    export_model(net, info, tmp_path, "onnx")
    model = onnx.load(str(tmp_path / "inference.onnx"))
    graph = model.graph
    assert (graph.input[0].name, graph.output[0].name) == ("images", "embedding")
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [entry.domain for entry in model.opset_import] == [""]
    assert "BatchNormalization" not in [node.op_type for node in graph.node]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inference.onnx", "inference.onnx.yml"]


@needs_onnx
def test_prelu_as_convolutions_gives_the_same_numbers(tmp_path):
    import onnx

    net, info = tiny()
    export_model(net, info, tmp_path / "any", "onnx")
    export_model(net, info, tmp_path / "cpu", "onnx", onnx_for_cpu=True)
    kinds = {
        name: [n.op_type for n in onnx.load(str(tmp_path / name / "inference.onnx")).graph.node]
        for name in ("any", "cpu")
    }
    assert "PRelu" in kinds["any"] and "PRelu" not in kinds["cpu"]
    plain, fast = (ppfacerec.load(tmp_path / name).embed(list(IMAGES)) for name in ("any", "cpu"))
    np.testing.assert_allclose(plain, fast, atol=1e-6)


@needs_onnx
def test_a_foreign_onnx_file_is_refused(tmp_path):
    import onnx

    net, info = tiny()
    export_model(net, info, tmp_path, "onnx")
    model = onnx.load(str(tmp_path / "inference.onnx"))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "foreign.onnx"))
    with pytest.raises(ValueError, match=r"foreign\.onnx does not describe its preprocessing"):
        ppfacerec.load(tmp_path / "foreign.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"abc")
    with pytest.raises(ValueError, match="is not an ONNX model that onnxruntime can run"):
        ppfacerec.load(tmp_path / "broken.onnx")


def test_missing_onnx_packages_say_how_to_install_them(tmp_path, monkeypatch):
    from ppfacerec.export import onnx_format

    monkeypatch.setattr(onnx_format, "paddle", type("Paddle3", (), {"__version__": "3.3.1"}))
    monkeypatch.setitem(__import__("sys").modules, "paddle2onnx", None)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r'pip install -e .*\[onnx\]"'):
        export_model(*tiny(), tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()


def test_a_model_that_differs_is_not_written(tmp_path, monkeypatch):
    net, info = tiny()
    wrong, _ = tiny(seed=1)
    save = exporter.save_paddle
    monkeypatch.setattr(
        exporter, "save_paddle", lambda network, folder: save(ExportedNetwork(wrong, info, False), folder)
    )
    with pytest.raises(ValueError, match=r"run by Paddle Inference, differs from eager by .* nothing was written"):
        export_model(net, info, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda fc: fc.weight.set_value(paddle.zeros_like(fc.weight)),
            "nearly the same embedding for very different pictures",
        ),
        (lambda fc: fc.bias.set_value(paddle.full_like(fc.bias, float("nan"))), "embeddings are not finite"),
    ],
)
def test_a_network_that_no_comparison_could_judge_is_refused(tmp_path, break_it, message):
    net, info = tiny()
    net.fc.bias.set_value(paddle.ones_like(net.fc.bias))
    break_it(net.fc)
    with pytest.raises(ValueError, match=message):
        export_model(net, info, tmp_path / "out")


@pytest.fixture
def weights(tmp_path):
    """TinyNet's weights with their info beside them."""
    net, info = tiny("BGR")
    path = tmp_path / "best_model.pdparams"
    write_pdparams(path, {f"backbone.{k}": v.numpy() for k, v in net.state_dict().items()})
    info.save(info_path(path))
    return tmp_path / "best_model"


def test_export_without_a_config_uses_the_info_beside_the_weights(tmp_path, weights):
    arguments = ["export", "-o", f"Global.pretrained_model={weights}", f"Global.save_inference_dir={tmp_path / 'inf'}"]
    assert main(arguments) == 0
    tree = yaml.safe_load((tmp_path / "inf" / "inference.yml").read_text())
    assert tree["model"]["colors"] == "RGB"
    assert tree["model"]["thresholds"] == THRESHOLDS
    loaded, plain = ppfacerec.load(tmp_path / "inf"), ppfacerec.load(weights)
    np.testing.assert_allclose(loaded.embed(list(IMAGES)), plain.embed(list(IMAGES)), atol=1e-5)
    assert main([*arguments, "Global.epochs=3"]) == 1


def test_a_config_that_prepares_images_otherwise_is_said_and_the_weights_own_is_used(
    tmp_path, weights, tiny_net_config, log_lines
):
    config = tiny_net_config(**{"Global.save_inference_dir": str(tmp_path / "inf"), "DataLoader": {}})
    from ppfacerec.config import load_config
    from ppfacerec.inference.loading import load_backbone

    _, info = load_backbone(str(weights), load_config(config, (), "export")[0])
    assert info.colors == "BGR"
    assert "colors is BGR for the weights and RGB in the config; using that of the weights" in log_lines.text


def test_export_with_a_config_asks_for_no_data(tmp_path, weights, tiny_net_config):
    config = tiny_net_config(**{"DataLoader.Eval.dataset.val_data_path": "gone", "Loss": None})
    arguments = [f"Global.pretrained_model={weights}", f"Global.save_inference_dir={tmp_path / 'inf'}"]
    assert main(["export", "-c", str(config), "-o", *arguments]) == 0
    assert main(["export", "-c", str(config)]) == 1  # no weights


def test_weights_of_an_unknown_network_without_info_ask_for_a_config(tmp_path):
    write_pdparams(tmp_path / "w.pdparams", {"a": np.ones(3, np.float32)})
    with pytest.raises(
        ValueError, match=r"neither its tensor names nor w\.info\.json or config\.yaml beside it identify the network"
    ):
        ppfacerec.load(tmp_path / "w.pdparams")


@pytest.mark.parametrize("content", ["[", "a: 1", "{files: {}, input: {dtype: float32}, model: {name: x}}"])
def test_a_broken_description_is_named(tmp_path, content):
    (tmp_path / "inference.yml").write_text(content)
    with pytest.raises(ValueError, match=r"inference\.yml"):
        face_model.load(tmp_path)


@pytest.mark.slow
def test_train_evaluate_export_and_compare(tmp_path, tiny_net_config):
    """What is trained knows itself: thresholds measured in training decide, wherever the model goes."""
    assert main(["train", "-c", str(tiny_net_config(**{"Global.epochs": 2}))]) == 0
    best = tmp_path / "output" / "best_model"
    tree = json.loads(info_path(f"{best}.pdparams").read_text())
    assert tree["backbone"] == {"name": "TinyNet"}
    assert tree["config"]["Global"]["epochs"] == 2
    assert set(tree["thresholds"]) == {"lfw", "cfp_fp"}
    assert main(["eval", "-o", f"Global.pretrained_model={best}"]) == 0
    assert json.loads(info_path(f"{best}.pdparams").read_text())["training_data"].endswith("label.txt")
    assert (
        main(["export", "-o", f"Global.pretrained_model={best}", f"Global.save_inference_dir={tmp_path / 'inf'}"]) == 0
    )
    model = ppfacerec.load(tmp_path / "inf")
    comparison = model.compare(jpeg(picture(0, 0)), jpeg(picture(0, 0)), far=1e-1)
    assert comparison.is_same
    assert "at most 1 in 10 pairs of different people" in str(comparison)
