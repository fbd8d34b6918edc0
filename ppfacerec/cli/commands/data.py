"""``ppfacerec show-batch``, ``convert`` and ``make-bin``."""

import argparse

from ppfacerec.core.log import logger
from ppfacerec.datatools.convert import convert
from ppfacerec.datatools.make_bin import bin_from_folder, bin_from_pairs


def convert_data(arguments: argparse.Namespace) -> int:
    for path in convert(arguments.source, arguments.target, arguments.image_root):
        logger.info("Written: %s", path)
    return 0


def make_bin(arguments: argparse.Namespace) -> int:
    if arguments.pairs:
        count = bin_from_pairs(arguments.pairs, arguments.root, arguments.out, arguments.suffix)
    else:
        count = bin_from_folder(arguments.root, arguments.out, arguments.num_pairs, arguments.folds, arguments.seed)
    logger.info("Written: %s, %d pairs.", arguments.out, count)
    return 0
