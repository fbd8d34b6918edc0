"""Global.pretrained_model: other projects' files on the fly, the head as asked, and images as the weights want them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

from ppfacerec.backbones import MobileFaceNetInsight
from ppfacerec.config import ConfigError, load_config
from ppfacerec.heads import ArcMargin
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.checkpoints.pretrained import load_pretrained
from ppfacerec.training.checkpoints.saved_layout import to_saved
from ppfacerec.weights.info import ModelInfo, info_path

sys.path.append(str(Path(__file__).parents[1] / "weights_io"))
sys.path.append(str(Path(__file__).parents[1] / "backbones"))
from backbone_reference import assert_features_equal, pytorch_state
from torch_writer import TorchWriter

MBF = {"name": "MobileFaceNetInsight"}


def recognizer(class_num=5):
    return FaceRecognizer(MobileFaceNetInsight(), ArcMargin(512, class_num))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """insightface's checkpoint of rank 0 of 1: backbone, and class centres of 5 people (5, 512)."""
    writer = TorchWriter()
    state = pytorch_state("mobilefacenet_insight_512", 0.85)
    centres = np.random.default_rng(0).standard_normal((5, 512)).astype("float32")
    tree = {
        "state_dict_backbone": {k: writer.tensor(np.ascontiguousarray(v)) for k, v in state.items()},
        "state_dict_softmax_fc": {"weight": writer.tensor(centres)},
    }
    return str(writer.write(tmp_path_factory.mktemp("torch") / "checkpoint_gpu_0.pt", tree)), centres


def test_a_pytorch_checkpoint_loads_into_backbone_and_head(checkpoint):
    path, centres = checkpoint
    net = recognizer()
    load_pretrained(net, path)
    np.testing.assert_array_equal(to_saved(net, "head.weight", net.head.weight), centres.T)
    assert_features_equal(net.backbone, "mobilefacenet_insightface")


def test_load_head_decides(checkpoint, log_lines):
    path, _ = checkpoint
    for load_head, class_num in ((False, 5), ("auto", 7)):
        net = recognizer(class_num)
        before = net.head.weight.numpy().copy()
        load_pretrained(net, path, load_head)
        np.testing.assert_array_equal(net.head.weight.numpy(), before)
    assert log_lines.text.count("the head is not loaded but initialised from scratch") == 1  # False asked for it
    with pytest.raises(
        ValueError, match=r"does not fit the head .* \[512, 5\] for \[512, 7\]\. Global\.load_head: auto"
    ):
        load_pretrained(recognizer(7), path, True)


def test_images_that_the_config_prepares_otherwise_are_said(checkpoint, log_lines):
    net = FaceRecognizer(MobileFaceNetInsight())
    load_pretrained(net, checkpoint[0], config_info=ModelInfo(MBF, 512, colors="BGR", mean=(0.0, 0.5, 0.5)))
    assert "colors is RGB for the weights and BGR in the config. Change the config's transform_ops" in log_lines.text
    assert "mean is [0.5, 0.5, 0.5] for the weights and [0.0, 0.5, 0.5] in the config" in log_lines.text


def test_another_networks_weights_are_named(checkpoint):
    from ppfacerec.backbones import MobileFaceNet

    with pytest.raises(
        ValueError, match=r"does not fit the backbone .* By their names, they are MobileFaceNetInsight's\."
    ):
        load_pretrained(FaceRecognizer(MobileFaceNet()), checkpoint[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adaface-ir50-ms1mv2", "Global.pretrained_model: 'adaface-ir50-ms1mv2' has no direct URL"),
        ("http://x.org/a.pth", "Global.pretrained_model: expected an https URL"),
        ("insightface-r50-ms1mv", "Did you mean 'insightface-r50-ms1mv3'?"),
    ],
)
def test_what_cannot_be_had_is_told_by_the_config_check(tiny_config, name, message):
    with pytest.raises(ConfigError) as caught:
        load_config(tiny_config(), [f"Global.pretrained_model={name}"])
    assert message in str(caught.value)
    load_config(tiny_config(), ["Global.pretrained_model=https://x.org/a.pth", "Global.load_head=True"])


def test_an_evaluation_keeps_its_thresholds_beside_the_weights_unless_images_were_others(
    tiny_net_config, tmp_path, log_lines
):
    from tiny_plugin import TinyNet

    from ppfacerec.cli import main
    from ppfacerec.export.convert_weights import write_pdparams

    paddle.seed(0)
    weights = tmp_path / "w.pdparams"
    write_pdparams(weights, {k: v.numpy() for k, v in TinyNet().state_dict().items()})
    info = ModelInfo({"name": "TinyNet"}, 16, training_data="faces", licence="ours")
    info.save(info_path(weights))
    arguments = ["eval", "-c", str(tiny_net_config()), "-o", f"Global.pretrained_model={weights}"]
    assert main(arguments) == 0
    tree = json.loads(info_path(weights).read_text())
    assert set(tree["thresholds"]) == {"lfw", "cfp_fp"}
    assert (tree["training_data"], tree["licence"], tree["config"]) == ("faces", "ours", None)
    ModelInfo({"name": "TinyNet"}, 16, colors="BGR").save(info_path(weights))
    assert main(arguments) == 0
    assert json.loads(info_path(weights).read_text())["thresholds"] == {}


def test_an_evaluation_says_that_it_takes_no_checkpoint(tiny_net_config, capsys):
    from ppfacerec.cli import main

    assert main(["eval", "-c", str(tiny_net_config()), "-o", "Global.checkpoints=auto"]) == 0
    said = capsys.readouterr().out
    assert "these are the results of random weights. Global.checkpoints is only for training." in said
