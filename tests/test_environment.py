"""Laws of a fresh machine: what is missing is said at once, by the package's name, before anything is done."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from ppfacerec.core import environment, opencv
from ppfacerec.core.distributed.ranks import refuse_lone_slurm_tasks, refuse_loopback_name

ROOT = Path(__file__).parents[1]


def test_two_builds_of_paddle_are_noticed_before_paddle_is_imported(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.6.2" if name.endswith("gpu") else "3.3.1")
    monkeypatch.setattr(environment, "_import_problems", lambda: pytest.fail("imported"))
    with pytest.raises(ImportError) as caught:
        environment.check_environment()
    assert str(caught.value).startswith(
        "paddlepaddle 3.3.1 and paddlepaddle-gpu 2.6.2 are both installed; they share their files, so neither works. "
        "Remove both, then install one:\n  pip uninstall -y paddlepaddle paddlepaddle-gpu\n  pip install "
    )


def test_all_missing_libraries_are_named_with_their_packages(monkeypatch, tmp_path):
    def missing(name):
        return f"raise ImportError('{name}: cannot open shared object file: No such file or directory')"

    (tmp_path / "cv2.py").write_text(missing("libxcb.so.1"))
    (tmp_path / "broken_paddle.py").write_text(missing("libgomp.so.1"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    real_import = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: real_import(f"broken_{name}"))
    opencv.import_cv2.cache_clear()
    try:
        with pytest.raises(ImportError) as caught:
            environment.check_environment()
        first, second = str(caught.value).splitlines()
        assert first == (
            "Paddle does not start: the system library libgomp.so.1 is missing. On Debian and Ubuntu, as root: apt-get "
            "install libgomp1."
        )
        assert "libxcb.so.1 is missing. On Debian and Ubuntu, as root: apt-get install libxcb1" in second
        assert "pip install opencv-python-headless" in second
    finally:
        opencv.import_cv2.cache_clear()


def test_without_a_clone_the_hint_names_no_package_of_ours(monkeypatch, tmp_path):
    assert environment.install_hint("cpu").endswith('[cpu]"')
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "site-packages" / "ppfacerec" / "environment.py"))
    needed = ['paddlepaddle>=2.6.2; extra == "cpu"', "setuptools; extra == 'cpu'", "numpy", 'x; extra == "gpu"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needed)
    assert environment.install_hint("cpu") == 'pip install "paddlepaddle>=2.6.2" "setuptools"'


def test_a_home_that_cannot_be_written_is_replaced_before_step_0(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))  # also for root, a file is no folder
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(logging.getLogger("ppfacerec"), "propagate", True)
    environment.check_environment()
    assert os.environ["HOME"] == str(tmp_path / f"ppfacerec-home-{os.getuid()}")
    assert "this run uses" in caplog.text


def test_a_full_temporary_folder_is_passed_over_or_told(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: usage._replace(free=0 if str(folder) == str(tmp_path) else 1 << 30)
    )
    environment.check_environment()
    assert tempfile.gettempdir() != str(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=0))
    with pytest.raises(ValueError, match="no folder for temporary files has 256 MiB free"):
        environment.check_environment()


def test_an_ascii_locale_is_told_before_a_path_in_other_letters_ends_the_run():
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "ppfacerec", "train", "-c", "quickstart"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "The locale is ASCII and Python's UTF-8 mode is off" in done.stdout


@pytest.mark.parametrize(
    ("variables", "is_refused"),
    [
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, True),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}, True),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, False),  # a batch script
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "PADDLE_TRAINERS_NUM": "2"}, False),  # a launcher in each task
    ],
)
def test_tasks_of_slurm_that_would_each_train_alone_are_refused(monkeypatch, variables, is_refused):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="SLURM has started 2 tasks") if is_refused else nullcontext():
        refuse_lone_slurm_tasks()


@pytest.mark.parametrize(("addresses", "shown"), [(["127.0.1.1", "::1"], "127.0.1.1 and ::1"), ([], "unknown")])
def test_a_name_that_other_machines_cannot_use_is_refused(monkeypatch, addresses, shown):
    def look_up(name, port):
        if not addresses:
            raise OSError("Name or service not known")
        return [(None, None, None, "", (address, 0)) for address in addresses]

    monkeypatch.setattr("socket.gethostname", lambda: "beta")
    monkeypatch.setattr("socket.getaddrinfo", look_up)
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    with pytest.raises(ValueError) as error:
        refuse_loopback_name()
    assert str(error.value) == (
        f"beta, this machine's name, is {shown} here (/etc/hosts), so "
        "other machines' processes would look for this one on their own machine. Give the name its real address, or set "
        "GLOO_SOCKET_IFNAME to the network interface, such as eth0 (`ip -brief address` lists them), before the launcher "
        "starts."
    )
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    refuse_loopback_name()
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    addresses.append("10.0.0.2")
    refuse_loopback_name()
