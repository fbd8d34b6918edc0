"""The picture of training images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ppfacerec.cli import main
from ppfacerec.config import load_config
from ppfacerec.engine.build import build_train_loader


def test_the_grid_shows_what_the_loader_gives(tiny_net_config, tmp_path):
    out = tmp_path / "pictures" / "grid.png"
    config = tiny_net_config()
    assert main(["show-batch", "-c", str(config), "--out", str(out), "--columns", "4", "--rows", "2"]) == 0
    picture = cv2.imread(str(out))[:, :, ::-1]
    assert picture.shape == (3 * 116 + 8, 4 * 116 + 4, 3)
    loader = build_train_loader(load_config(config)[0], tmp_path)
    first = next(iter(loader.epoch(1))).images.numpy()
    for k in range(4):  # the tiny config's batch
        shown = picture[8 + 116 : 8 + 116 + 112, 4 + 116 * k : 4 + 116 * k + 112]
        np.testing.assert_array_equal(shown, first[k])


@pytest.mark.parametrize(("option", "value"), [("--columns", "0"), ("--out", "grid.txt")])
def test_bad_options_are_named(tiny_net_config, option, value, capsys):
    assert main(["show-batch", "-c", str(tiny_net_config()), "--out", "grid.png", option, value]) == 1
    assert (
        option if option == "--columns" else "grid.txt: expected a name that ends in .png or .jpg"
    ) in capsys.readouterr().out
