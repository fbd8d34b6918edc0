"""The arguments of ``ppfacerec infer``."""

import argparse

from ppfacerec.cli.parser import argument, flag, number

_THRESHOLD = argument("--threshold", "a threshold of your own instead", type=float, metavar="COSINE")
_INDEX = argument("--index", "the people", required=True, metavar="PEOPLE.npz")
# fmt: off
_COMMON = [
    argument("--model", "weights such as output/X/best_model, an exported folder, a name of `ppfacerec models`",
             required=True, metavar="MODEL"),
    number("--batch-size", "images at once", default=32),
]
_IMAGES = [
    argument("images", "files, folders, or .txt lists of aligned faces", nargs="+", metavar="IMAGES"),
    flag("--allow-outside", "lists may name paths that are absolute or lead out of their folder"),
]
_FAR = [
    argument("--far", "false accept rate of the threshold; default: 1e-3, or the next larger one that was measured",
             type=float),
    _THRESHOLD,
]
_TASKS = {
    "embed": ("Embeddings of images into a file.", [
        *_IMAGES,
        argument("--out", "embeddings (N, D) and their files", required=True, metavar="FILE.npz"),
    ]),
    "compare": ("Are two faces of the same person?", [
        argument("first", "a face", metavar="A"),
        argument("second", "another", metavar="B"),
        *_FAR,
    ]),
    "enroll": ("Make an index of people from a folder each.", [
        argument("folder", "a folder of images for each person: FOLDER/anna/1.jpg", metavar="FOLDER"),
        _INDEX,
    ]),
    "search": ("Who is it, among enrolled people?", [
        *_IMAGES,
        _INDEX,
        flag("--ann", "search approximately, for thousands of photos among millions; needs the extra [ann]"),
        number("--top", "people shown", default=5),
        argument("--strangers", "share of strangers that may be taken for someone enrolled", type=float, default=1e-2,
                 metavar="RATE"),
        _THRESHOLD,
    ]),
    "cluster": ("Group images by person.", [
        *_IMAGES,
        argument("--out", "write image,cluster lines", metavar="FILE.csv"),
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
