"""``ppfacerec selftest``."""

import argparse

from ppfacerec.core import distributed
from ppfacerec.core.device.runtime import choose_device
from ppfacerec.core.log import table
from ppfacerec.engine.selftest import checks, machine


def selftest(arguments: argparse.Namespace) -> int:
    device = choose_device(arguments.device)
    distributed.init()
    found = list(checks(device))
    rows = [
        [one.name, f"{one.expected:.6g}", f"{one.found:.6g}", f"{one.tolerance:g}", "ok" if one.passes else "WRONG"]
        for one in found
    ]
    if distributed.rank() == 0:
        print(f"{machine(device)}\n{table(['check', 'stored', 'found', 'tolerance', ''], rows)}")
    if distributed.world_size() == 1:
        ranks = "--gpus=0,1" if device == "gpu" else "--nproc_per_node 2"
        print(f"Then on two: python -m paddle.distributed.launch {ranks} $(which ppfacerec) selftest")
    return 0 if all(check.passes for check in found) else 1
