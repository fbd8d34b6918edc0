"""``ppfacerec convert-weights`` and ``convert-checkpoint``."""

import argparse
from pathlib import Path

from ppfacerec.core.log import logger
from ppfacerec.export.convert_weights import convert_weights
from ppfacerec.training.checkpoints.paddleclas_writer import write_paddleclas


def convert(arguments: argparse.Namespace) -> int:
    convert_weights(
        arguments.source, arguments.target, arguments.source_name, arguments.reference, arguments.allow_mismatch,
    )  # fmt: skip
    return 0


def convert_checkpoint(arguments: argparse.Namespace) -> int:
    names = (name.removesuffix(".pdparams") for name in (arguments.source, arguments.target, arguments.like))
    for path in write_paddleclas(*map(Path, names)):
        logger.info("Written: %s", path)
    return 0
