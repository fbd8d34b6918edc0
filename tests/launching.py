"""Runs scripts as users do: in this process where one is enough, or under paddle.distributed.launch on the CPU."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]


def launch(
    num_processes: int, script: str, *arguments: str, log_dir: Path, expect: int = 0, here: bool = True
) -> str:
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
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        with mock.patch.object(sys, "argv", [script, *arguments]):
            try:
                runpy.run_path(script, run_name="__main__")
            except SystemExit as end:
                status = int(end.code or 0)
    return status, output.getvalue()


def _launch(num_processes: int, script: str, arguments: tuple[str, ...], log_dir: Path) -> tuple[int, str]:
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", str(num_processes)]
    command = [*launcher, "--log_dir", str(log_dir), script, *arguments]
    paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "tests", ROOT / "tests" / "heads", log_dir.parent))
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=log_dir.parent, env=environment, capture_output=True, text=True, timeout=240)
    logs = [path.read_text(errors="replace") for path in sorted(log_dir.glob("workerlog.*"))]
    return done.returncode, "".join([done.stdout, done.stderr, *logs])
