"""The arguments of ``ppfacerec infer``."""

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    for name, (help_text, add_arguments) in _TASKS.items():
        task = tasks.add_parser(name, help=help_text, description=help_text)
        task.add_argument(
            "--model", required=True, metavar="MODEL",
            help="weights such as output/X/best_model, an exported folder, a name of `ppfacerec models`",
        )  # fmt: skip
        task.add_argument("--batch-size", type=int, default=32, metavar="N", help="images at once")
        add_arguments(task)
        task.set_defaults(run=f"infer:{name}", splits=name == "embed", parser=task)


def _images_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="files, folders, or .txt lists of aligned faces")
    parser.add_argument(
        "--allow-outside",
        action="store_true",
        help="lists may name paths that are absolute or lead out of their folder",
    )


def _threshold_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--far",
        type=float,
        help="false accept rate of the threshold; default: 1e-3, or the next larger one that was measured",
    )
    parser.add_argument("--threshold", type=float, metavar="COSINE", help="a threshold of your own instead")


def _embed_arguments(parser: argparse.ArgumentParser) -> None:
    _images_argument(parser)
    parser.add_argument("--out", required=True, metavar="FILE.npz", help="embeddings (N, D) and their files")


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A")
    parser.add_argument("second", metavar="B")
    _threshold_arguments(parser)


def _enroll_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="a folder of images for each person: FOLDER/anna/1.jpg")
    parser.add_argument("--index", required=True, metavar="PEOPLE.npz")


def _search_arguments(parser: argparse.ArgumentParser) -> None:
    _images_argument(parser)
    parser.add_argument("--index", required=True, metavar="PEOPLE.npz")
    parser.add_argument(
        "--ann", action="store_true",
        help="search approximately, for thousands of photos among millions; needs the extra [ann]",
    )  # fmt: skip
    parser.add_argument("--top", type=int, default=5, metavar="N", help="people shown")
    parser.add_argument(
        "--strangers", type=float, default=1e-2, metavar="RATE",
        help="share of strangers that may be taken for someone enrolled",
    )  # fmt: skip
    parser.add_argument("--threshold", type=float, metavar="COSINE", help="a threshold of your own instead")


def _cluster_arguments(parser: argparse.ArgumentParser) -> None:
    _images_argument(parser)
    parser.add_argument("--out", metavar="FILE.csv", help="write image,cluster lines")
    _threshold_arguments(parser)


_TASKS = {
    "embed": ("Embeddings of images into a file.", _embed_arguments),
    "compare": ("Are two faces of the same person?", _compare_arguments),
    "enroll": ("Make an index of people from a folder each.", _enroll_arguments),
    "search": ("Who is it, among enrolled people?", _search_arguments),
    "cluster": ("Group images by person.", _cluster_arguments),
}
