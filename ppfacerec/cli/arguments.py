"""The commands and their arguments; what a command does is imported when it runs (commands/)."""

import argparse
from collections.abc import Callable
from typing import NamedTuple

from ppfacerec.cli import infer
from ppfacerec.cli.parser import config_arguments


class Command(NamedTuple):
    """A command of ``ppfacerec``.

    Args:
        help: one line.
        run: ``module:function`` in ``ppfacerec.cli.commands``.
        add_arguments: adds its arguments to a parser.
        needs_paddle: whether it runs Paddle.
        splits: whether the processes of a launcher share its work.
    """

    help: str
    run: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    needs_paddle: bool = True
    splits: bool = False


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument(
        "--help-keys", metavar="SECTION", help="print the keys of a section, such as Optimizer, and exit"
    )


def _eval_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument(
        "--report", action="store_true",
        help="write output_dir/report/index.html with plots, thresholds and the hardest pairs; as Global.report=True",
    )  # fmt: skip
    parser.add_argument(
        "--no-faces", action="store_true",
        help="leave the pictures of faces out of the report; as Global.report_faces=False",
    )  # fmt: skip
    parser.add_argument(
        "--embeddings", metavar="FILE.npz", nargs="+",
        help="score embeddings made elsewhere (keys embeddings, is_same); no config and no weights are needed",
    )  # fmt: skip


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--format", default="paddle", choices=["paddle", "onnx", "both"], help="what to write")
    parser.add_argument(
        "--onnx-for-cpu", action="store_true",
        help="PReLU as convolutions: the same numbers, about twice as fast in onnxruntime on a CPU, slower on a GPU",
    )  # fmt: skip
    parser.add_argument(
        "--uint8-input", action="store_true", help="the graph takes (N, 112, 112, 3) uint8 RGB and prepares it itself"
    )


def _configs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="print this one, to be changed: ppfacerec configs quickstart > my.yaml")


def _demo_data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where to write it")
    parser.add_argument("--num-identities", type=int, default=80, metavar="N", help="people in the training set")
    parser.add_argument("--images-per-identity", type=int, default=16, metavar="N", help="training images of each")
    parser.add_argument(
        "--num-pairs", type=int, default=200, metavar="N", help="pairs in each evaluation set, a multiple of 20"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed draws other people")


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--classes", type=int, required=True, metavar="N", help="identities")
    parser.add_argument("--embedding-size", type=int, default=512, metavar="N", help="length of an embedding")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="GPUs of all machines together")
    parser.add_argument(
        "--memory", type=float, metavar="GIB", help="memory of one GPU; the report then says whether the run fits"
    )
    parser.add_argument("--batch", type=int, default=128, metavar="N", help="images a GPU and step")
    parser.add_argument("--backbone", default="IResNet50", metavar="NAME", help="as in Arch.Backbone.name")
    parser.add_argument("--sample-rate", type=float, default=1.0, metavar="R", help="share of the class centres a step")
    parser.add_argument(
        "--optimizer", default="Momentum", choices=["SGD", "Momentum", "Adam", "AdamW"], help="whose state is counted"
    )
    parser.add_argument("--amp", default="O1", choices=["O1", "O2", "off"], help="mixed precision")
    parser.add_argument("--recompute", action="store_true", help="gradient checkpointing in the backbone")
    parser.add_argument("--data-parallel", action="store_true", help="replicate the classes instead of sharding them")


def _convert_weights_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SRC", help="a file of weights, a name of `ppfacerec models`, or an https URL"
    )
    parser.add_argument("target", metavar="DST", help="the file to write: .pdparams or .safetensors")
    parser.add_argument(
        "--from", dest="source_name", default="auto", choices=["auto", "paddleclas", "insightface", "adaface", "plsc"],
        help="the project that the weights are from (default: detected from their names)",
    )  # fmt: skip
    parser.add_argument(
        "--verify", "--reference", dest="reference", metavar="MODEL",
        help="run the source too and compare: an .onnx file, or a folder with inference.pdmodel or inference.json",
    )  # fmt: skip
    parser.add_argument(
        "--allow-mismatch", action="store_true", help="write what matched, and initial values for the rest"
    )


def _checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SRC", help="a checkpoint of ppfacerec at the end of an epoch: output/X/epoch_3"
    )
    parser.add_argument("target", metavar="DST", help="what to write, without suffix: output/RecModel/epoch_3")
    parser.add_argument(
        "--to", required=True, choices=["paddleclas"], help="the project whose training resumes from it"
    )
    parser.add_argument(
        "--like", required=True, metavar="PREFIX",
        help="a checkpoint that PaddleClas saved with the same config; Paddle's automatic names are taken from it",
    )  # fmt: skip


def _show_batch_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser, required=True)
    parser.add_argument("--out", metavar="FILE.png", required=True, help="the picture to write")
    parser.add_argument("--columns", type=int, default=10, metavar="N", help="samples, side by side")
    parser.add_argument("--rows", type=int, default=6, metavar="N", help="epochs, one below the other")


def _convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="x.rec, x.bin, a label file x.txt, or a folder with a folder for each identity")
    parser.add_argument("target", help="x.rec, x.txt, or a folder, chosen by the name")
    parser.add_argument("--image-root", default="", metavar="FOLDER", help="of a label file, if not its own folder")


def _make_bin_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", required=True, metavar="FOLDER", help="the images; a folder for each identity")
    parser.add_argument("--out", required=True, metavar="FILE.bin", help="the verification set to write")
    parser.add_argument(
        "--pairs", metavar="FILE", help="LFW's pairs.txt, or lines 'left right 0|1'; else pairs are drawn"
    )
    parser.add_argument("--suffix", default=".jpg", help="of the images that LFW's pairs.txt names")
    parser.add_argument("--num-pairs", type=int, default=6000, metavar="N", help="pairs to draw")
    parser.add_argument("--folds", type=int, default=10, metavar="N", help="folds, with no person in two of them")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed draws other pairs")


def _align_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", help="the folder of the photos, with folders in it")
    parser.add_argument("out", help="where the 112 x 112 faces go, in the same folders")
    parser.add_argument("--landmarks", metavar="FILE", help="lines 'path x1 y1 ... x5 y5'; no detector is needed then")
    parser.add_argument(
        "--detector",
        metavar="MODEL.onnx",
        help="a YuNet model file; without it MTCNN, which the extra [align] brings",
    )
    parser.add_argument(
        "--faces", choices=["centre", "largest", "all"], default="centre",
        help="of several in a photo: the largest near the middle, the largest, or all (x.face1.jpg, ...)",
    )  # fmt: skip
    parser.add_argument("--png", action="store_true", help="write PNG (lossless) instead of JPEG of quality 95")
    parser.add_argument("--processes", type=int, metavar="N", help="processes (default: one for each core)")


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", help="with label.txt, with train.rec, or with a folder for each identity")
    config_arguments(parser)
    parser.add_argument("--test", metavar="FILE.bin", nargs="+", default=[], help="further test sets to compare with")
    parser.add_argument("--max-images", type=int, default=20_000, metavar="N", help="images to examine")
    parser.add_argument("--processes", type=int, metavar="N", help="processes (default: one for each core)")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="processes that the training will have")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _selftest_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu")


COMMANDS = {
    "train": Command("Train a network as a config says.", "train:train", _train_arguments, splits=True),
    "eval": Command(
        "Evaluate weights, or embeddings made elsewhere, on verification sets.",
        "train:evaluate",
        _eval_arguments,
        splits=True,
    ),
    "configs": Command(
        "List the configs that ship, or print one.", "catalogue:configs", _configs_arguments, needs_paddle=False
    ),
    "plan": Command("Estimate a run's memory and traffic before starting it.", "plan:plan", _plan_arguments),
    "export": Command("Write an inference model: Paddle Inference or ONNX.", "weights:export", _export_arguments),
    "infer": Command("Embed, compare, search and group faces.", "", infer.arguments),
    "convert-weights": Command("Convert weights of other projects.", "weights:convert", _convert_weights_arguments),
    "convert-checkpoint": Command(
        "Convert a checkpoint of ppfacerec to one that PaddleClas resumes from.",
        "weights:convert_checkpoint",
        _checkpoint_arguments,
    ),
    "models": Command(
        "List the published weights that are read here.", "catalogue:models", lambda parser: None, needs_paddle=False
    ),
    "demo-data": Command(
        "Draw synthetic faces to try it with.", "data:demo_data", _demo_data_arguments, needs_paddle=False
    ),
    "show-batch": Command(
        "Draw a grid of training images as the network gets them.", "show_batch:show_batch", _show_batch_arguments
    ),
    "align": Command("Cut aligned 112 x 112 faces out of photos.", "data:align", _align_arguments, needs_paddle=False),
    "convert": Command(
        "Convert data: .rec, .bin, label file, folder.", "data:convert_data", _convert_arguments, needs_paddle=False
    ),
    "selftest": Command(
        "Compare this machine's numbers with stored ones: a training step, a head on the ranks of a launcher.",
        "selftest:selftest",
        _selftest_arguments,
        splits=True,
    ),
    "doctor": Command("Examine data and config before training.", "doctor:doctor", _doctor_arguments, splits=True),
    "make-bin": Command(
        "Make a verification set (.bin) of your own pairs.", "data:make_bin", _make_bin_arguments, needs_paddle=False
    ),
}
