"""Commands and their arguments; the implementation (commands/) is imported when a command runs."""

from collections.abc import Sequence
from typing import NamedTuple

from ppfacerec.cli.infer import add_tasks
from ppfacerec.cli.parser import Argument, argument, config_arguments, flag, number


class Command(NamedTuple):
    """A command of ``ppfacerec``."""

    help: str
    run: str  # "module:function" in ppfacerec.cli.commands
    arguments: Sequence[Argument]
    needs_paddle: bool = True
    splits: bool = False  # whether the processes of a launcher share its work


_PROCESSES = number("--processes", "processes (default: one per core)")
# fmt: off
COMMANDS = {
    "train": Command("Train a network from a config.", "train:train", [
        *config_arguments(),
        argument("--help-keys", "print the keys of a section, such as Optimizer, and exit", metavar="SECTION"),
    ], splits=True),
    "eval": Command("Evaluate weights, or existing embeddings, on verification sets.", "train:evaluate", [
        *config_arguments(),
        flag("--report", "write output_dir/report/index.html with plots, thresholds and the hardest pairs; same as "
             "Global.report=True"),
        flag("--no-faces", "leave face images out of the report; same as Global.report_faces=False"),
        argument("--embeddings", "score existing embeddings (keys embeddings, is_same); needs no config or weights",
                 metavar="FILE.npz", nargs="+"),
    ], splits=True),
    "configs": Command("List the configs that ship, or print one.", "catalogue:configs", [
        argument("name", "print this config, to edit it: ppfacerec configs quickstart > my.yaml", nargs="?"),
    ], needs_paddle=False),
    "plan": Command("Estimate a run's memory and traffic before starting it.", "machine:plan", [
        number("--classes", "identities", required=True),
        number("--embedding-size", "length of an embedding", default=512),
        number("--gpus", "GPUs of all machines together", default=1),
        argument("--memory", "memory of one GPU; the report then says whether the run fits", type=float, metavar="GIB"),
        number("--batch", "images per GPU and step", default=128),
        argument("--backbone", "a value of Arch.Backbone.name", default="IResNet50", metavar="NAME"),
        argument("--sample-rate", "share of the class centres per step", type=float, default=1.0, metavar="R"),
        argument("--optimizer", "optimizer whose state is counted", default="Momentum",
                 choices=["SGD", "Momentum", "Adam", "AdamW"]),
        argument("--amp", "mixed precision", default="O1", choices=["O1", "O2", "off"]),
        flag("--recompute", "gradient checkpointing in the backbone"),
        flag("--data-parallel", "replicate the classes instead of sharding them"),
    ]),
    "export": Command("Write an inference model: Paddle Inference or ONNX.", "weights:export", [
        *config_arguments(),
        argument("--format", "format to write", default="paddle", choices=["paddle", "onnx", "both"]),
        flag("--onnx-for-cpu", "PReLU as convolutions: the same numbers, about twice as fast in onnxruntime on a CPU, "
             "slower on a GPU"),
        flag("--uint8-input", "the graph takes (N, 112, 112, 3) uint8 RGB and includes the preprocessing"),
    ]),
    "infer": Command("Embed, compare, search and group faces.", "", [add_tasks]),
    "convert-weights": Command("Convert weights of other projects.", "weights:convert", [
        argument("source", "a weights file, a name from `ppfacerec models`, or an https URL", metavar="SRC"),
        argument("target", "the file to write: .pdparams or .safetensors", metavar="DST"),
        argument("--from", "the source project of the weights (default: detected from tensor names)", default="auto",
                 dest="source_name", choices=["auto", "paddleclas", "insightface", "adaface", "plsc"]),
        argument("--verify --reference", "also run the source model and compare: an .onnx file, or a folder with "
                 "inference.pdmodel or inference.json", dest="reference", metavar="MODEL"),
        flag("--allow-mismatch", "write what matched, and initial values for the rest"),
    ]),
    "convert-checkpoint": Command("Convert a checkpoint of ppfacerec to one that PaddleClas resumes from.",
                                  "weights:convert_checkpoint", [
        argument("source", "a ppfacerec checkpoint saved at the end of an epoch: output/X/epoch_3", metavar="SRC"),
        argument("target", "the checkpoint to write, without suffix: output/RecModel/epoch_3", metavar="DST"),
        argument("--to", "the project that will resume from it", required=True, choices=["paddleclas"]),
        argument("--like", "a checkpoint that PaddleClas saved with the same config; Paddle's automatic names are "
                 "taken from it", required=True, metavar="PREFIX"),
    ]),
    "models": Command("List the published weights that ppfacerec reads.", "catalogue:models", [], needs_paddle=False),
    "demo-data": Command("Draw synthetic faces to try ppfacerec with.", "data:demo_data", [
        argument("--out", "folder to write", required=True, metavar="FOLDER"),
        number("--num-identities", "people in the training set", default=80),
        number("--images-per-identity", "training images per person", default=16),
        number("--num-pairs", "pairs in each evaluation set, a multiple of 20", default=200),
        number("--seed", "another seed draws different people", default=0),
    ], needs_paddle=False),
    "show-batch": Command("Draw a grid of training images as the network receives them.", "doctor:show_batch", [
        *config_arguments(required=True),
        argument("--out", "the picture to write", metavar="FILE.png", required=True),
        number("--columns", "samples, side by side", default=10),
        number("--rows", "epochs, one below the other", default=6),
    ]),
    "align": Command("Cut aligned 112 x 112 faces out of photos.", "data:align", [
        argument("root", "the folder of photos, read with its subfolders"),
        argument("out", "where to write the 112 x 112 faces, in the same subfolders"),
        argument("--landmarks", "a file of lines 'path x1 y1 ... x5 y5', used instead of a detector", metavar="FILE"),
        argument("--detector", "a YuNet model file; default: MTCNN, from the extra [align]", metavar="MODEL.onnx"),
        argument("--faces", "if a photo shows several: the largest near the middle, the largest, or all "
                 "(x.face1.jpg, ...)", choices=["centre", "largest", "all"], default="centre"),
        flag("--png", "write PNG (lossless) instead of JPEG of quality 95"),
        _PROCESSES,
    ], needs_paddle=False),
    "convert": Command("Convert data: .rec, .bin, label file, folder.", "data:convert_data", [
        argument("source", "x.rec, x.bin, a label file x.txt, or a folder with one subfolder per identity"),
        argument("target", "x.rec, x.txt, or a folder; the suffix decides"),
        argument("--image-root", "image folder, if not that of the label file", default="", metavar="FOLDER"),
    ], needs_paddle=False),
    "selftest": Command("Compare this machine's results with stored ones: a training step, a head on the ranks of a "
                        "launcher.", "machine:selftest", [
        argument("--device", "auto, cpu or gpu", default="auto"),
    ], splits=True),
    "doctor": Command("Examine data and config before training.", "doctor:doctor", [
        argument("folder", "folder with label.txt, train.rec, or one subfolder per identity", nargs="?"),
        *config_arguments(),
        argument("--test", "test sets to check for overlap", metavar="FILE.bin", nargs="+", default=[]),
        number("--max-images", "images to examine", default=20_000),
        _PROCESSES,
        number("--gpus", "number of training processes", default=1),
        flag("--json", "print JSON instead of a table"),
    ], splits=True),
    "make-bin": Command("Make a verification set (.bin) from your own pairs.", "data:make_bin", [
        argument("--root", "the images, one subfolder per identity", required=True, metavar="FOLDER"),
        argument("--out", "the verification set to write", required=True, metavar="FILE.bin"),
        argument("--pairs", "LFW's pairs.txt, or lines 'left right 0|1'; default: random pairs", metavar="FILE"),
        argument("--suffix", "suffix of the images listed in LFW's pairs.txt", default=".jpg"),
        number("--num-pairs", "pairs to draw", default=6000),
        number("--folds", "folds; no person appears in two of them", default=10),
        number("--seed", "another seed draws different pairs", default=0),
    ], needs_paddle=False),
}
# fmt: on
