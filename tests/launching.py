"""Runs scripts as users do: in this process where one is enough, or under paddle.distributed.launch on the CPU."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]


def launch(num_processes: int, script: str, *arguments: str, log_dir: Path, expect: int = 0, here: bool = True) -> str:
    """Run a script under the launcher, or alone in this process; the output of all ranks.

    Args:
        here: False for one in a process of its own, where MKL chooses its kernels as in the launcher's.
    """
    if num_processes == 1 and here:
        status, output = _run_here(script, arguments)
    else:
        status, output = _launch(num_processes, script, arguments, log_dir)
    assert (status == 0) == (expect == 0), output
    return output


def _run_here(script: str, arguments: tuple[str, ...]) -> tuple[int, str]:
    """Paddle takes 3 seconds to start."""
    output, status = io.StringIO(), 0
    argv = mock.patch.object(sys, "argv", [script, *arguments])
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), argv:
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            status = int(end.code or 0)
    return status, output.getvalue()


def _launch(num_processes: int, script: str, arguments: tuple[str, ...], log_dir: Path) -> tuple[int, str]:
    options = ["--nproc_per_node", str(num_processes), "--log_dir", str(log_dir)]
    launcher = Launcher(*options, script, *arguments, cwd=log_dir.parent)
    status = launcher.wait(240)
    logs = [path.read_text(errors="replace") for path in sorted(log_dir.glob("workerlog.*"))]
    return status, "".join([launcher.output(), *logs])


class Launcher:
    """``python -m paddle.distributed.launch``, forked from a process that imports Paddle once for all of them.

    Args:
        *arguments: of the launcher.
        cwd: where it starts; plugins are found there.
        prefix: what starts it on another machine; then it imports Paddle itself.
    """

    def __init__(self, *arguments: str, cwd: Path, prefix: Sequence[str] = ()) -> None:
        paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "tests", ROOT / "tests" / "heads", cwd))
        self._output = tempfile.NamedTemporaryFile("ab")  # noqa: SIM115 (it is gone with this object)
        environment = {**os.environ, "PYTHONPATH": paths}
        if prefix:
            command = [*prefix, sys.executable, "-m", "paddle.distributed.launch", *arguments]
            popen = subprocess.Popen(command, cwd=cwd, env=environment, stdout=self._output, stderr=subprocess.STDOUT)
            self.pid, self.poll = popen.pid, popen.poll
        else:
            target = (arguments, str(cwd), environment, self._output.name)
            process = _WITH_PADDLE.Process(target=_be_launcher, args=target, daemon=True)
            process.start()
            self.pid, self.poll = process.pid, lambda: process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        until = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > until:
                self.send_signal(signal.SIGKILL)
                raise TimeoutError(f"The launcher did not end within {timeout} seconds:\n{self.output()}")
            time.sleep(0.05)
        return status

    def output(self) -> str:
        return Path(self._output.name).read_text(errors="replace")


_WITH_PADDLE = multiprocessing.get_context("forkserver")
_WITH_PADDLE.set_forkserver_preload(["paddle.distributed.launch.main"])


def _be_launcher(arguments: tuple[str, ...], cwd: str, environment: dict[str, str], output: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    with open(output, "ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.argv = ["launch", *arguments]
    runpy.run_module("paddle.distributed.launch", run_name="__main__", alter_sys=True)
