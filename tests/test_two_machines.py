"""Several machines: two launchers that find each other under one master address train what one process trains."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
from test_two_processes import ROOT, train

from ppfacerec.training.checkpoints.pretrained import read_weights


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_machine(
    number: int,
    master: str,
    config: Path,
    output: Path,
    *overrides: str,
    cwd: Optional[Path] = None,
    tool="train.py",
    arguments: Optional[list[str]] = None,
    prefix: Sequence[str] = (),
) -> subprocess.Popen[str]:
    cwd = cwd or output.parent
    log = "log" if output.parent == Path() else str(output.parent / f"log_machine{number}")
    command = [
        *prefix, sys.executable, "-m", "paddle.distributed.launch", "--master", master, "--nnodes", "2", "--rank", str(number),
        "--nproc_per_node", "1", "--log_dir", log,
        str(ROOT / "tools" / tool), *(arguments or ["-c", str(config), "-o", f"Global.output_dir={output}", *overrides]),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
def test_two_machines_train_as_one(tiny_net_config, tmp_path):
    """Without batch statistics and dropout, two machines of batch 2 take the very steps of one of batch 4."""
    config = tiny_net_config(**{"Arch.Backbone": {"name": "PlainNet"}})
    shared = ["Global.eval_during_train=False", "Optimizer.name=Momentum"]
    train(1, config, tmp_path / "one", *shared)
    master = f"127.0.0.1:{free_port()}"
    both = [*shared, "DataLoader.Train.sampler.batch_size=2"]
    machines = [start_machine(number, master, config, tmp_path / "two", *both) for number in (0, 1)]
    for machine in machines:
        output, _ = machine.communicate(timeout=240)
        assert machine.returncode == 0, output
    one, two = read_weights(tmp_path / "one" / "latest"), read_weights(tmp_path / "two" / "latest")
    for key in one:
        np.testing.assert_allclose(two[key], one[key], rtol=1e-3, atol=1e-5, err_msg=key)
