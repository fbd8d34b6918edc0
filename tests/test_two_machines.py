"""Several machines: two launchers that find each other under one master address train what one process trains."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from launching import ROOT, Launcher
from test_two_processes import train

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
    cwd: Path | None = None,
    tool: str = "train.py",
    arguments: list[str] | None = None,
    prefix: Sequence[str] = (),
) -> Launcher:
    log = "log" if output.parent == Path() else str(output.parent / f"log_machine{number}")
    return Launcher(
        "--master", master, "--nnodes", "2", "--rank", str(number), "--nproc_per_node", "1", "--log_dir", log,
        str(ROOT / "tools" / tool), *(arguments or ["-c", str(config), "-o", f"Global.output_dir={output}", *overrides]),
        cwd=cwd or output.parent, prefix=prefix,
    )  # fmt: skip


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
        assert machine.wait(240) == 0, machine.output()
    one, two = read_weights(tmp_path / "one" / "latest"), read_weights(tmp_path / "two" / "latest")
    for key in one:
        np.testing.assert_allclose(two[key], one[key], rtol=1e-3, atol=1e-5, err_msg=key)
