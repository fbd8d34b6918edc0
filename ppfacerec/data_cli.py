"""Arguments of the commands for data; what they do is in ppfacerec/data."""

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


def _convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="x.rec, x.bin, a label file x.txt, or a folder with a folder for each identity")
    parser.add_argument("target", help="x.rec, x.txt, or a folder; what it is says the name")
    parser.add_argument("--image-root", default="", metavar="FOLDER", help="of a label file, if not its own folder")


def _convert(arguments: argparse.Namespace) -> int:
    from ppfacerec.data.convert import convert

    for path in convert(arguments.source, arguments.target, arguments.image_root):
        logger.info("Written: %s", path)
    return 0


def _make_bin_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", required=True, metavar="FOLDER", help="the images; a folder for each identity")
    parser.add_argument("--out", required=True, metavar="FILE.bin", help="the verification set to write")
    parser.add_argument(
        "--pairs", metavar="FILE", help="LFW's pairs.txt, or lines 'left right 0|1'; else pairs are drawn"
    )
    parser.add_argument("--suffix", default=".jpg", help="of the images that LFW's pairs.txt names; .jpg unless told")
    parser.add_argument("--num-pairs", type=int, default=6000, metavar="N", help="to draw; 6000 unless told")
    parser.add_argument("--folds", type=int, default=10, metavar="N", help="without a common person; 10 unless told")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed draws other pairs")


def _make_bin(arguments: argparse.Namespace) -> int:
    from ppfacerec.data.make_bin import bin_from_folder, bin_from_pairs

    if arguments.pairs:
        count = bin_from_pairs(arguments.pairs, arguments.root, arguments.out, arguments.suffix)
    else:
        count = bin_from_folder(arguments.root, arguments.out, arguments.num_pairs, arguments.folds, arguments.seed)
    logger.info("Written: %s, %d pairs.", arguments.out, count)
    return 0


Command = tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]
COMMANDS: dict[str, Command] = {
    "show-batch": ("Draw a grid of training images as the network gets them.", _show_batch_arguments, _show_batch),
    "convert": ("Convert data: .rec, .bin, label file, folder.", _convert_arguments, _convert),
    "make-bin": ("Make a verification set (.bin) of your own pairs.", _make_bin_arguments, _make_bin),
}
