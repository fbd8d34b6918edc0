"""docs/examples run as they stand."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import pytest

from ppfacerec.heads import HEADS

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
NOTEBOOKS = ("own_data.py", "judge_embeddings.py", "new_margin.py")


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_notebook_runs(name, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(HEADS, "_table", dict(HEADS._table))  # SquaredMargin is registered in this test alone
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    said, written = capfd.readouterr().out, {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert {
        "own_data.py": "cosine" in said and "output/own/best_model.pdparams" in written,
        "judge_embeddings.py": {"output/eval.json", "output/report/index.html"} <= written,
        "new_margin.py": "SquaredMargin: loss" in said,
    }[name]


def test_the_callback_notes_the_best_score_and_stops(tiny_net_config, tmp_path, monkeypatch):
    import ppfacerec

    monkeypatch.chdir(tmp_path)
    callback = runpy.run_path(str(EXAMPLES / "good_enough.py"))["GoodEnough"](accuracy=0.0)
    evaluations = ppfacerec.train(tiny_net_config(**{"Global.epochs": 3}), callbacks=[callback])
    assert list(evaluations) == [1]
    assert (tmp_path / "best.txt").read_text() == f"epoch 1: {evaluations[1].average_accuracy:.5f}\n"
