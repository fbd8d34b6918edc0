"""``ppfacerec plan`` and ``selftest``: memory estimate of a run, numerical check of a machine."""

import argparse

from ppfacerec.backbones import BACKBONES
from ppfacerec.core import distributed
from ppfacerec.core.device.runtime import choose_device
from ppfacerec.core.log import table
from ppfacerec.core.ranges import require_count
from ppfacerec.core.registry import Spec
from ppfacerec.engine.memory_plan import GIB, TrainingSize, measure_backbone, report
from ppfacerec.engine.selftest import checks, machine


def plan(arguments: argparse.Namespace) -> int:
    for name in ("classes", "embedding_size", "gpus", "batch"):
        require_count(f"--{name.replace('_', '-')}", getattr(arguments, name))
    if not 0 < arguments.sample_rate <= 1:
        raise ValueError(f"--sample-rate: expected a number above 0 and up to 1, found {arguments.sample_rate}.")
    width = arguments.embedding_size
    backbone = BACKBONES.build(Spec(arguments.backbone), embedding_size=width)
    size = TrainingSize(
        measure_backbone(backbone, arguments.backbone),
        class_num=arguments.classes,
        embedding_size=arguments.embedding_size,
        batch_size=arguments.batch,
        num_gpus=arguments.gpus,
        class_parallel=not arguments.data_parallel,
        sample_rate=arguments.sample_rate,
        optimizer=arguments.optimizer,
        amp=None if arguments.amp == "off" else arguments.amp,
        recompute=arguments.recompute,
    )
    print(report(size, round(arguments.memory * GIB) if arguments.memory else None))
    return 0


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
        print(f"Next, on two processes: python -m paddle.distributed.launch {ranks} $(which ppfacerec) selftest")
    return 0 if all(check.passes for check in found) else 1
