"""Arguments of the commands for data: ``ppfacerec show-batch``; what they do is in ppfacerec/data."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ppfacerec.log import logger


def _show_batch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", required=True, help="the YAML config")
    parser.add_argument("-o", "--override", metavar="KEY=VALUE", action="extend", nargs="+", default=[])
    parser.add_argument("--out", metavar="FILE.png", required=True, help="the picture to write")
    parser.add_argument("--columns", type=int, default=10, metavar="N", help="samples, side by side")
    parser.add_argument("--rows", type=int, default=6, metavar="N", help="epochs, one below the other")


def _show_batch(arguments: argparse.Namespace) -> int:
    from ppfacerec.batch_grid import write_grid
    from ppfacerec.config import load_config

    config, _ = load_config(arguments.config, arguments.override, "train")
    write_grid(config, arguments.out, arguments.columns, arguments.rows)
    logger.info(
        "Written: %s: above, %d samples as they are stored; below, as the network gets them in %d epochs.",
        arguments.out, arguments.columns, arguments.rows,
    )  # fmt: skip
    return 0


Command = tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]
COMMANDS: dict[str, Command] = {
    "show-batch": ("Draw a grid of training images as the network gets them.", _show_batch_arguments, _show_batch),
}
