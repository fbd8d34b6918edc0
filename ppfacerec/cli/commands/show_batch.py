"""``ppfacerec show-batch``."""

import argparse

from ppfacerec.config import load_config
from ppfacerec.core.log import logger
from ppfacerec.datatools.batch_grid import write_grid


def show_batch(arguments: argparse.Namespace) -> int:
    config, _ = load_config(arguments.config, arguments.override, "train")
    write_grid(config, arguments.out, arguments.columns, arguments.rows)
    logger.info(
        "Written: %s: above, %d samples as they are stored; below, as the network gets them in %d epochs.",
        arguments.out, arguments.columns, arguments.rows,
    )  # fmt: skip
    return 0
