"""``ppfacerec convert-weights``, ``convert-checkpoint`` and ``models``."""

import argparse
from pathlib import Path


def convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SRC", help="a file of weights, a name of `ppfacerec models`, or an https URL"
    )
    parser.add_argument("target", metavar="DST", help="the file to write: .pdparams or .safetensors")
    parser.add_argument(
        "--from", dest="source_name", default="auto", choices=["auto", "paddleclas", "insightface", "adaface", "plsc"],
        help="whose weights they are; found out unless told",
    )  # fmt: skip
    parser.add_argument(
        "--verify", "--reference", dest="reference", metavar="MODEL",
        help="run the source too and compare: an .onnx file, or a folder with inference.pdmodel or inference.json",
    )  # fmt: skip
    parser.add_argument(
        "--allow-mismatch", action="store_true", help="write what matched, and initial values for the rest"
    )


def convert(arguments: argparse.Namespace) -> int:
    from ppfacerec.export.convert_weights import convert_weights

    convert_weights(
        arguments.source, arguments.target, arguments.source_name, arguments.reference, arguments.allow_mismatch,
    )  # fmt: skip
    return 0


def checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="a checkpoint of ours at the end of an epoch: output/X/epoch_3")
    parser.add_argument("target", metavar="DST", help="what to write, without suffix: output/RecModel/epoch_3")
    parser.add_argument("--to", required=True, choices=["paddleclas"], help="whose training goes on from it")
    parser.add_argument(
        "--like", required=True, metavar="PREFIX",
        help="a checkpoint that PaddleClas saved with the same config; it tells Paddle's automatic names",
    )  # fmt: skip


def convert_checkpoint(arguments: argparse.Namespace) -> int:
    from ppfacerec.core.log import logger
    from ppfacerec.training.checkpoints.paddleclas_writer import write_paddleclas

    names = (name.removesuffix(".pdparams") for name in (arguments.source, arguments.target, arguments.like))
    for path in write_paddleclas(*map(Path, names)):
        logger.info("Written: %s", path)
    return 0


def no_arguments(parser: argparse.ArgumentParser) -> None:
    """`models` takes none."""


def models(arguments: argparse.Namespace) -> int:
    from ppfacerec.weights.zoo import zoo_table

    print(zoo_table())
    return 0
