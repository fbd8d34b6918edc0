"""The arguments of ``ppfacerec infer``."""

import argparse

from ppfacerec.cli.parser import argument, flag, number

_THRESHOLD = argument("--threshold", "use this threshold instead", type=float, metavar="COSINE")
_INDEX = argument("--index", "the index of people", required=True, metavar="PEOPLE.npz")
# fmt: off
_COMMON = [
    argument("--model", "weights such as output/X/best_model, an exported folder, or a name from `ppfacerec models`",
             required=True, metavar="MODEL"),
    number("--batch-size", "images per batch", default=32),
]
_IMAGES = [
    argument("images", "files, folders, or .txt lists of aligned faces", nargs="+", metavar="IMAGES"),
    flag("--allow-outside", "allow absolute paths, and paths outside a list's folder, in lists"),
]
_FAR = [
    argument("--far", "false accept rate of the threshold; default: 1e-3, or the next larger one that was measured",
             type=float),
    _THRESHOLD,
]
_TASKS = {
    "embed": ("Write the embeddings of images to a file.", [
        *_IMAGES,
        argument("--out", "file for the embeddings (N, D) and image paths", required=True, metavar="FILE.npz"),
    ]),
    "compare": ("Decide whether two faces show the same person.", [
        argument("first", "a face", metavar="A"),
        argument("second", "another", metavar="B"),
        *_FAR,
    ]),
    "enroll": ("Make an index of people from one folder per person.", [
        argument("folder", "a folder with one subfolder of images per person: FOLDER/anna/1.jpg", metavar="FOLDER"),
        _INDEX,
    ]),
    "search": ("Identify faces among enrolled people.", [
        *_IMAGES,
        _INDEX,
        flag("--ann", "search approximately, for thousands of photos among millions; needs the extra [ann]"),
        number("--top", "people to show per image", default=5),
        argument("--strangers", "share of strangers that may be mistaken for an enrolled person", type=float,
                 default=1e-2, metavar="RATE"),
        _THRESHOLD,
    ]),
    "cluster": ("Group images by person.", [
        *_IMAGES,
        argument("--out", "write a CSV with the columns image,cluster", metavar="FILE.csv"),
        *_FAR,
    ]),
}
# fmt: on


def add_tasks(parser: argparse.ArgumentParser) -> None:
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    for name, (help_text, arguments) in _TASKS.items():
        task = tasks.add_parser(name, help=help_text, description=help_text)
        for add in [*_COMMON, *arguments]:
            add(task)
        task.set_defaults(run=f"infer:{name}", splits=name == "embed", parser=task)
