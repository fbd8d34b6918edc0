"""``ppfacerec selftest``."""

import argparse
import json
from pathlib import Path

import paddle

from ppfacerec.core import distributed
from ppfacerec.core.device.runtime import choose_device
from ppfacerec.core.log import table
from ppfacerec.engine.selftest import checks, machine, spread_over_two


def selftest(arguments: argparse.Namespace) -> int:
    device = choose_device(arguments.device)
    distributed.init()
    found = list(checks(device))
    if arguments.json:
        if distributed.rank() == 0:
            Path(arguments.json).write_text(json.dumps(found))
        return 0
    notes = []
    if distributed.world_size() == 1:
        if device == "cpu" or paddle.device.cuda.device_count() > 1:
            found += spread_over_two(arguments.device)
        else:
            notes.append("Not tested: a head spread over two ranks, which needs two GPUs.")
    rows = [
        [c.name, f"{c.expected:.6g}", f"{c.found:.6g}", f"{c.tolerance:g}", "ok" if c.passes else "WRONG"]
        for c in found
    ]
    print("\n".join([machine(device), table(["check", "stored", "found", "tolerance", ""], rows), *notes]))
    return 0 if all(check.passes for check in found) else 1
