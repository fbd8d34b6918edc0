"""docs/api.md is true: its examples run, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import paddle
import pytest
from conftest import jpeg, picture
from tiny_plugin import TinyNet

from ppfacerec.export.convert_weights import write_pdparams
from ppfacerec.weights.info import ModelInfo, info_path

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    paddle.seed(0)
    weights = tmp_path / "output" / "MobileFaceNet" / "best_model.pdparams"

    weights.parent.mkdir(parents=True)
    write_pdparams(weights, {k: v.numpy() for k, v in TinyNet().state_dict().items()})
    point = {"cosine": 0.8, "tar": 0.9, "num_different": 3000.0}
    ModelInfo({"name": "TinyNet"}, 16, thresholds={"lfw": {"1e-1": point, "1e-3": point}}).save(info_path(weights))
    for name, identity in (("a.jpg", 0), ("b.jpg", 1)):
        (tmp_path / name).write_bytes(jpeg(picture(identity, 9)))
    for identity in range(3):
        (tmp_path / "people" / str(identity)).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "people" / str(identity) / f"{number}.jpg").write_bytes(jpeg(picture(identity, number)))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks[:4]:  # the fifth trains the quick start; tests/engine/test_library.py has its calls
        exec(compile(block, str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    assert "different people (threshold 0.800" in said
    assert re.search(r"^0 0\.9\d+ people/0/\d\.jpg$", said, re.MULTILINE)
