"""Laws of the lock: one training in a folder, and a dead one blocks nobody."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ppfacerec.config import load_config
from ppfacerec.engine import Engine
from ppfacerec.training.checkpoints.files import run_lock
from ppfacerec.training.checkpoints.files.run_lock import LOCK_FILE, lock_if_free, make_output_dir, only_run

pytestmark = pytest.mark.slow

HOLDER = """
import sys, time
from pathlib import Path
from ppfacerec.training.checkpoints.files.run_lock import only_run
with only_run(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has locked the folder."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    while process.stdout.readline() != "locked\n":
        assert process.poll() is None
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_is_refused_with_the_first_ones_process_and_host(tmp_path, holder):
    message = (
        f"Global.output_dir: {tmp_path} is in use by another run, process {holder.pid} on {socket.gethostname()}. "
        f"Wait for it, stop it (kill {holder.pid}), or give another output_dir."
    )
    with pytest.raises(ValueError) as caught, only_run(tmp_path):
        pass
    assert str(caught.value) == message


def test_a_killed_run_blocks_nobody(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / LOCK_FILE).exists()
    with only_run(tmp_path):
        pass
    assert not (tmp_path / LOCK_FILE).exists()


def test_the_workers_of_a_killed_run_are_waited_for(tmp_path, holder):
    """They hold its lock, which they got with the fork, a little longer than the run itself."""
    descriptor = os.open(tmp_path / LOCK_FILE, os.O_RDWR)
    holder.kill()
    holder.wait()
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    pid = os.fork()
    if not pid:
        time.sleep(0.5)
        os._exit(0)
    os.close(descriptor)
    began = time.monotonic()
    with only_run(tmp_path):
        assert time.monotonic() - began > 0.3
    os.waitpid(pid, 0)


def test_a_run_after_another_in_one_process_is_no_second_one(tmp_path):
    for _ in range(2):
        with only_run(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []


def test_where_files_cannot_be_locked_the_run_goes_on_with_a_warning(tmp_path, monkeypatch, log_lines):
    def unable(*arguments):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unable)
    with only_run(tmp_path):
        pass
    assert "cannot be locked (Operation not supported): a second run there would not be detected" in log_lines.text


def test_lock_if_free_says_whether_it_is(tmp_path, holder):
    with lock_if_free(tmp_path) as locked:
        assert not locked
    holder.kill()
    holder.wait()
    with lock_if_free(tmp_path) as locked:
        assert locked
    with lock_if_free(Path("/sys/kernel")) as locked:
        assert not locked


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    for folder, reason in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "output", "Not a directory")):
        with pytest.raises(ValueError) as caught:
            make_output_dir(folder)
        assert str(caught.value) == (
            f"Global.output_dir: {folder} cannot be written to ({reason}). Give another folder, or check its permissions and the disk."
        )
    with pytest.raises(ValueError, match=r"Global\.output_dir: /sys/kernel cannot be written to"):
        make_output_dir(Path("/sys/kernel"))  # also for root


def test_a_disk_without_room_for_the_lock_is_told(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_lock.os, "write", full)
    refused = pytest.raises(ValueError, match=r"output_dir: .* cannot be written to \(No space left on device\)\. Give")
    with refused, only_run(tmp_path):
        pass
    monkeypatch.undo()
    with only_run(tmp_path):  # nothing holds it
        pass


def test_a_training_locks_its_folder(tiny_net_config, tmp_path, monkeypatch):
    found = []
    begin = Engine._begin
    monkeypatch.setattr(Engine, "_begin", lambda self, mode: (found.append(_is_locked(tmp_path)), begin(self, mode)))
    config, _ = load_config(tiny_net_config(), ["Global.eval_during_train=False"])
    Engine(config).train()
    assert found == [True]
    assert not (tmp_path / "output" / run_lock.LOCK_FILE).exists()


def _is_locked(tmp_path):
    with lock_if_free(tmp_path / "output") as locked:
        return not locked
