"""A file appears whole or not at all, where it was named, with the mode that it had."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import time

import psutil
import pytest

from ppfacerec.core.io.atomic_file import atomic_write, check_target
from ppfacerec.datatools.record_writer import write_records
from ppfacerec.export.exporter import _moved_together


def write(path, private=False, content=b"new"):
    with atomic_write(path, private) as file:
        file.write(content)


def mode(path):
    return path.stat().st_mode & 0o777


def test_a_replaced_file_keeps_its_mode_and_biometrics_begin_private(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a").chmod(0o640)
    write(tmp_path / "a")
    write(tmp_path / "b", private=True)
    write(tmp_path / "c")
    assert [mode(tmp_path / name) for name in "ab"] == [0o640, 0o600]
    assert mode(tmp_path / "c") & 0o400


def test_links_are_followed(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"new"


def test_special_files_and_folders_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises(ValueError, match="cannot be written: it is a folder, a device or a pipe"):
            check_target(path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match=r"out\.npz cannot be written: .*(Not a directory|File exists)"):
        check_target(tmp_path / "file" / "out.npz")


def test_what_a_killed_command_left_is_removed_by_the_next(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f".a.{gone.pid}.tmp").write_bytes(b"half")
    (tmp_path / f".a.{os.getppid()}.tmp").write_bytes(b"of a running one")
    write(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".a.{os.getppid()}.tmp", "a"]


def test_a_failure_leaves_the_old_file(tmp_path):
    write(tmp_path / "a")
    with pytest.raises(TypeError):
        write(tmp_path / "a", content="no bytes")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"new")]


def write_record(path):
    write_records(path, [(0, bytes(3000))])


def write_export(path):
    (path.parent / "work").mkdir()
    for name, size in (("small", 10), (path.name, 3000)):
        (path.parent / "work" / name).write_bytes(bytes(size))
    try:
        with disk_of(1000):
            _moved_together(path.parent / "work", path.parent, ["small", path.name])
    finally:
        shutil.rmtree(path.parent / "work")


@contextlib.contextmanager
def disk_of(size):
    """No file can grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("writer", [lambda path: write(path, content=bytes(3000)), write_record, write_export])
def test_a_full_disk_is_said_with_the_file_and_nothing_is_left(tmp_path, writer):
    with (
        pytest.raises(OSError, match=r"File too large: '.*x\.rec'"),
        disk_of(10**6 if writer is write_export else 1000),
    ):
        writer(tmp_path / "x.rec")
    assert list(tmp_path.iterdir()) == []


def test_a_name_says_what_is_in_the_file(tmp_path):
    check_target(tmp_path / "a.CSV", ".csv")
    message = r"a\.pkl: expected a name that ends in \.png or \.jpg"
    with pytest.raises(ValueError, match=message):
        check_target(tmp_path / "a.pkl", ".png", ".jpg")


@pytest.mark.slow
def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    script = (
        "import time\nfrom ppfacerec.data.loading.parallel import in_processes\n"
        "def work(n):\n    time.sleep(0.2)\n    return n\n"
        "for _ in in_processes(work, list(range(1000)), 2):\n    print('.', flush=True)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    parent.stdout.readline()
    workers = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    assert workers
    until = time.monotonic() + 30
    while any(worker.is_running() and worker.status() != "zombie" for worker in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(worker.is_running() and worker.status() != "zombie" for worker in workers)
