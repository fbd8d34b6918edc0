"""Laws of the VisualDL log: what is written is read back, and whatever fails there ends no training."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest

from ppfacerec.training.monitoring.visualdl_log import VisualDLLog

MISSING = "Global.use_visualdl is on, but VisualDL cannot be imported"


def read(folder: Path):
    from visualdl import LogReader

    (path,) = folder.iterdir()
    return LogReader(file_path=str(path))


def steps(folder: Path, tag: str, kind: str = "scalar") -> list[int]:
    return [record.id for record in read(folder).get_data(kind, tag)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pytest.importorskip("visualdl")
    return tmp_path / "vdl"


def test_what_is_written_is_read_back(folder):
    import cv2

    picture = np.random.default_rng(0).integers(0, 255, (8, 9, 3)).astype(np.uint8)
    log = VisualDLLog(folder)
    log.scalars({"train/loss": 0.5, "eval/100%": 1.0}, 3)
    log.image("train/batch", picture, 4)
    log.histogram("weights/w", np.array([1.0, 2.0, np.nan, 3.0, np.inf]), 5)
    log.histogram("weights/none", np.array([np.nan]), 5)
    log.embeddings("lfw/step_3", np.eye(3, dtype=np.float32), {"person": ["a", "b", "b"], "image": ["1", "2", "3"]})
    log.hyper_parameters({"lr": 0.1, "head": "ArcMargin", "epochs": 3}, ["train/loss"])
    log.close()
    reader = read(folder)
    assert reader.get_tags() == {
        "meta_data": ["meta_data_tag"], "scalar": ["train/loss", "eval/100_"], "image": ["train/batch"],
        "histogram": ["weights/w"], "embeddings": ["lfw/step_3"], "hyper_parameters": ["hparam"],
    }  # fmt: skip
    (loss,) = reader.get_data("scalar", "train/loss")
    assert (loss.id, loss.value) == (3, 0.5)
    (image,) = reader.get_data("image", "train/batch")
    decoded = cv2.imdecode(np.frombuffer(image.image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded[:, :, ::-1], picture)
    (histogram,) = reader.get_data("histogram", "weights/w")
    assert (sum(histogram.histogram.hist), histogram.histogram.bin_edges[0]) == (3, 1.0)
    (points,) = reader.get_data("embeddings", "lfw/step_3")
    assert [list(point.label) for point in points.embeddings.embeddings] == [["a", "1"], ["b", "2"], ["b", "3"]]
    assert list(points.embeddings.label_meta) == ["person", "image"]
    (run,) = reader.get_data("hyper_parameters", "hparam")
    assert [info.name for info in run.hparam.hparamInfos] == ["lr", "head", "epochs"]
    assert [info.name for info in run.hparam.metricInfos] == ["train/loss"]


def write_run(folder: Path, first: int, last: int) -> None:
    log = VisualDLLog(folder)
    log.hyper_parameters({"epochs": 3}, ["train/loss"])
    for step in range(first, last + 1):
        log.scalars({"train/loss": 1 / step}, step)
        if step % 5 == 0:
            log.embeddings(f"lfw/step_{step}", np.eye(2), {"person": ["a", "b"]})
            log.scalars({"eval/lfw": step}, step)
    log.close()


def test_without_visualdl_training_goes_on_and_is_told_how_to_install_it(tmp_path, monkeypatch, log_lines):
    monkeypatch.setitem(sys.modules, "visualdl", None)
    log = VisualDLLog(tmp_path / "vdl")
    log.scalars({"loss": 1.0}, 1)
    log.close()
    assert not log
    assert [r.getMessage() for r in log_lines.records] == [
        f"{MISSING} (import of visualdl halted; None in sys.modules). To install it: pip install visualdl. "
        "Training goes on without it."
    ]


def test_a_visualdl_that_is_broken_is_told_by_its_error(tmp_path, monkeypatch, log_lines):
    (tmp_path / "visualdl.py").write_text("raise TypeError('Descriptors cannot be created directly.\\nMore')")
    monkeypatch.delitem(sys.modules, "visualdl", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    log = VisualDLLog(tmp_path / "vdl")
    assert not log
    assert [r.getMessage() for r in log_lines.records] == [
        "Global.use_visualdl is on, but VisualDL is installed but fails when it is imported (TypeError: Descriptors "
        "cannot be created directly.). A newer version may work: pip install --upgrade visualdl. "
        "Training goes on without it."
    ]


def test_a_folder_that_cannot_be_made_is_told_once(folder, log_lines):
    folder.write_text("a file")
    log = VisualDLLog(folder)
    log.scalars({"loss": 1.0}, 1)
    assert not log
    assert len(log_lines.records) == 1
    assert "VisualDL: a record could not be written (" in log_lines.text


def test_records_that_fail_are_told_once_and_others_are_written(folder, monkeypatch, log_lines):
    log = VisualDLLog(folder)
    for step in range(3):
        log.scalars({"bad": "no number", "good": 1.0}, step)  # type: ignore[dict-item]
    log.close()
    assert steps(folder, "good") == [0, 1, 2]
    assert [r.getMessage() for r in log_lines.records] == [
        "VisualDL: a record could not be written (ValueError: could not convert string to float: 'no number'); "
        "training goes on, further failures are not reported."
    ]


def test_a_full_disk_ends_nothing(folder, monkeypatch):
    from visualdl.io import bfile

    def full(self, *args):
        raise OSError(28, "No space left on device")

    log = VisualDLLog(folder)
    monkeypatch.setattr(bfile.LocalFileSystem, "_write", full)
    for step in range(500):  # more than VisualDL keeps waiting
        log.scalars({"loss": 1.0}, step)
    log.close()


def test_a_disk_that_lags_holds_up_no_step(folder, monkeypatch):
    from visualdl.io import bfile

    original, disk = bfile.LocalFileSystem._write, threading.Event()

    def late(self, *args):
        disk.wait(60)
        original(self, *args)

    log = VisualDLLog(folder)
    monkeypatch.setattr(bfile.LocalFileSystem, "_write", late)
    for step in range(100):
        log.scalars({"loss": 1.0}, step)
    assert not disk.is_set()  # all were taken while the disk wrote nothing
    disk.set()
    log.close()
    assert steps(folder, "loss") == list(range(100))


def get(url: str, seconds: float) -> str:
    """The content of a page of a server that is starting."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urlopen(url, timeout=30) as response:
                return response.read().decode()
        except URLError as error:
            if isinstance(getattr(error, "code", None), int) or time.monotonic() > end:
                raise
            time.sleep(0.3)


@pytest.mark.slow
def test_the_documented_command_serves_the_records_to_a_browser_of_any_language(folder):
    write_run(folder, 1, 12)
    page = (Path(__file__).parents[1] / "docs" / "visualdl.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("    visualdl ")]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    options = [*shlex.split(line)[1:-1], str(folder.parent), "--host", "localhost", "--port", port]
    with subprocess.Popen([sys.executable, "-m", "visualdl.server.app", *options]) as server:
        try:
            assert "<title>VisualDL</title>" in get(f"http://localhost:{port}/app/index", 60)  # asks for no language
            answer = json.loads(get(f"http://localhost:{port}/app/api/scalar/list?run={folder}&tag=train/loss", 30))
        finally:
            server.kill()
    assert [step for _, step, _ in answer["data"]] == list(range(1, 13))
