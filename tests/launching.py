"""Runs scripts as users do: alone, or under paddle.distributed.launch on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def launch(num_processes: int, script: str, *arguments: str, log_dir: Path, expect: int = 0) -> str:
    """Run a script in one process or under the launcher; the output of all ranks."""
    command = [sys.executable]
    if num_processes > 1:
        command += [
            "-m",
            "paddle.distributed.launch",
            "--nproc_per_node",
            str(num_processes),
            "--log_dir",
            str(log_dir),
        ]
    paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "tests", ROOT / "tests" / "heads", log_dir.parent))
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        [*command, script, *arguments], cwd=log_dir.parent, env=environment, capture_output=True, text=True, timeout=240
    )
    output = done.stdout + done.stderr
    if num_processes > 1:
        output += "".join(path.read_text(errors="replace") for path in sorted(log_dir.glob("workerlog.*")))
    assert (done.returncode == 0) == (expect == 0), output
    return output
