"""``ppfacerec plan``."""

import argparse

from ppfacerec.backbones import BACKBONES
from ppfacerec.core.ranges import require_count
from ppfacerec.core.registry import Spec
from ppfacerec.engine.memory_plan import GIB, TrainingSize, measure_backbone, report


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
