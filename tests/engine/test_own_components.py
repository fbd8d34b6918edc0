"""Mistakes in a user's own components are named with their place, and none of them trains in silence."""

from __future__ import annotations

import textwrap

import numpy as np
import paddle
import pytest
from conftest import picture
from paddle import nn

import ppfacerec
from ppfacerec.cli.main import main
from ppfacerec.data.loading.bad_images import BadImages
from ppfacerec.data.loading.batch_maker import BatchMaker
from ppfacerec.data.transforms.basic import DecodeImage, NormalizeImage, Pipeline
from ppfacerec.heads import ArcMargin
from ppfacerec.recognizer import FaceRecognizer


class Maps(nn.Layer):
    """Forgets to flatten."""

    embedding_size = 8

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2D(3, 8, 56, stride=56)

    def forward(self, images):
        return self.conv(images)


def test_a_backbone_without_embedding_size_or_of_another_shape_is_named():
    with pytest.raises(ValueError, match=r"Linear needs an int attribute embedding_size \(CONTRIBUTING.md\)\."):
        FaceRecognizer(nn.Linear(2, 2))
    network, labels = FaceRecognizer(Maps(), ArcMargin(8, 3)), paddle.zeros([2], "int64")
    with pytest.raises(ValueError, match=r"Maps returned the shape \[2, 8, 2, 2\], expected \[N, 8\]\."):
        network.scores(network(paddle.zeros([2, 3, 112, 112])), labels)


class Pixels:
    """Returns decoded images."""

    labels, num_classes = np.zeros(4, np.int32), 1

    def __len__(self):
        return 4

    def read(self, index):
        return picture(0, index)

    def where(self, index):
        return f"picture {index}"


def test_a_data_set_that_returns_pixels_is_told_what_it_must_return():
    maker = BatchMaker(Pixels(), Pipeline([DecodeImage(), NormalizeImage()]), BadImages("skip"), seed=0)
    with pytest.raises(RuntimeError, match="picture 2: TypeError: read returned a ndarray, expected the bytes of an"):
        maker.make(1, np.array([2]), np.empty((1, 112, 112, 3), np.uint8))


def test_what_is_no_callback_is_refused(tiny_net_config):
    with pytest.raises(ValueError, match="object is no callback: derive it from ppfacerec.Callback."):
        ppfacerec.train(tiny_net_config(), callbacks=[object()])


def test_an_error_of_a_plugin_says_its_file_and_line(tiny_net_config, tmp_path, monkeypatch, capsys):
    code = """
        from ppfacerec.training.callbacks import CALLBACKS, Callback

        @CALLBACKS.register
        class Slip(Callback):
            def on_step(self, state):
                int("a")
    """
    (tmp_path / "slips.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    given = ["Global.plugins=[tiny_plugin, slips]", "Global.callbacks=[Slip]"]
    assert main(["train", "-c", str(tiny_net_config()), "-o", *given]) == 1
    place = f"({tmp_path}/slips.py, line 7; PPFACEREC_TRACEBACK=1 shows more)"
    assert f"invalid literal for int() with base 10: 'a' {place}" in capsys.readouterr().out
    assert main(["train", "-c", str(tmp_path / "none.yaml")]) == 1  # ours need no place
    assert "PPFACEREC_TRACEBACK" not in capsys.readouterr().out
