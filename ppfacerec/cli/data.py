"""Arguments of the commands for data; what they do is in ppfacerec/data."""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ppfacerec.cli.parser import config_arguments
from ppfacerec.core.log import logger, progress_bar
from ppfacerec.core.printable import printable


def _show_batch_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser, required=True)
    parser.add_argument("--out", metavar="FILE.png", required=True, help="the picture to write")
    parser.add_argument("--columns", type=int, default=10, metavar="N", help="samples, side by side")
    parser.add_argument("--rows", type=int, default=6, metavar="N", help="epochs, one below the other")


def _show_batch(arguments: argparse.Namespace) -> int:
    from ppfacerec.config import load_config
    from ppfacerec.datatools.batch_grid import write_grid

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
    from ppfacerec.datatools.convert import convert

    for path in convert(arguments.source, arguments.target, arguments.image_root):
        logger.info("Written: %s", path)
    return 0


def _make_bin_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", required=True, metavar="FOLDER", help="the images; a folder for each identity")
    parser.add_argument("--out", required=True, metavar="FILE.bin", help="the verification set to write")
    parser.add_argument(
        "--pairs", metavar="FILE", help="LFW's pairs.txt, or lines 'left right 0|1'; else pairs are drawn"
    )
    parser.add_argument("--suffix", default=".jpg", help="of the images that LFW's pairs.txt names")
    parser.add_argument("--num-pairs", type=int, default=6000, metavar="N", help="to draw")
    parser.add_argument("--folds", type=int, default=10, metavar="N", help="without a common person")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed draws other pairs")


def _make_bin(arguments: argparse.Namespace) -> int:
    from ppfacerec.datatools.make_bin import bin_from_folder, bin_from_pairs

    if arguments.pairs:
        count = bin_from_pairs(arguments.pairs, arguments.root, arguments.out, arguments.suffix)
    else:
        count = bin_from_folder(arguments.root, arguments.out, arguments.num_pairs, arguments.folds, arguments.seed)
    logger.info("Written: %s, %d pairs.", arguments.out, count)
    return 0


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
        help="of several in a photo: the largest near the middle (unless told), the largest, or all, x.face1.jpg, ...",
    )  # fmt: skip
    parser.add_argument("--png", action="store_true", help="write PNG (lossless) instead of JPEG of quality 95")
    parser.add_argument("--processes", type=int, metavar="N", help="as many as cores unless told")


def _align(arguments: argparse.Namespace) -> int:
    from ppfacerec.core.io.user_files import printed_names, walk_images
    from ppfacerec.core.io.whole_file import check_target, text_written_whole
    from ppfacerec.data.loading.parallel import usable_cores
    from ppfacerec.datatools.align import align_folder, read_landmarks
    from ppfacerec.datatools.detectors import MTCNNDetector, YuNetDetector

    root, out = Path(arguments.root), Path(arguments.out)
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; expected the folder of the photos.")
    if out.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{out} lies in {root}: its faces would be taken for photos. Name a folder outside of it.")
    listed = check_target(out / "not_found.txt")
    landmarks = read_landmarks(arguments.landmarks) if arguments.landmarks else None
    detector = None
    if landmarks is None:
        detector = partial(YuNetDetector, arguments.detector) if arguments.detector else MTCNNDetector
        detector()  # what is missing is told before the processes start
    walked = walk_images(arguments.root)
    total = len(walked.images)
    if walked.left_out():
        logger.warning("Left out in %s: %s.", arguments.root, walked.left_out())
    found = align_folder(
        arguments.root, arguments.out, landmarks, detector, arguments.processes or usable_cores(),
        ".png" if arguments.png else ".jpg", arguments.faces,
    )  # fmt: skip
    photos = list(progress_bar(found, total, "Photos", "photo"))
    without = [photo for photo in photos if photo.problem]
    doubtful = [photo for photo in photos if photo.doubt]
    with text_written_whole(listed) as file:
        lines = [(photo.name, photo.problem or photo.doubt) for photo in [*without, *doubtful]]
        file.writelines(f"{printable(name)}\t{printable(what)}\n" for name, what in lines)
    there = sum(photo.was_there for photo in photos)
    logger.info("%d of %d photos aligned in %s%s.", total - len(without), total, out,
                f" ({there} of them were there already and are left as they are)" if there else "")  # fmt: skip
    if without:
        logger.warning("%d photos without a face are listed in %s, first: %s (%s).",
                       len(without), listed, without[0].name, without[0].problem)  # fmt: skip
    people, kept = (
        {os.path.dirname(photo.name) for photo in some}
        for some in (photos, [photo for photo in photos if not photo.problem])
    )
    if people - kept:
        logger.warning("Folders that lose all their photos: %s.", printed_names(sorted(people - kept)))
    if doubtful:
        logger.warning("%d of the faces do not look like one (photos sideways or upside down?), listed there too: %s.",
                       len(doubtful), printed_names([photo.name for photo in doubtful]))  # fmt: skip
    if more := sum(photo.left_out for photo in photos):
        logger.warning("%d more faces in %d photos were left out; --faces all takes them.",
                       more, sum(photo.left_out > 0 for photo in photos))  # fmt: skip
    return 0


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", help="with label.txt, with train.rec, or with a folder for each identity")
    config_arguments(parser)
    parser.add_argument("--test", metavar="FILE.bin", nargs="+", default=[], help="further test sets to compare with")
    parser.add_argument("--max-images", type=int, default=20_000, metavar="N", help="to look at")
    parser.add_argument("--processes", type=int, metavar="N", help="as many as cores unless told")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="processes that the training will have")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _doctor(arguments: argparse.Namespace) -> int:
    from ppfacerec.config import load_config
    from ppfacerec.core import distributed
    from ppfacerec.data.loading.parallel import usable_cores
    from ppfacerec.datatools.doctor import as_json, as_table, examine_config, examine_folder, read_tests

    if bool(arguments.folder) == bool(arguments.config):
        raise ValueError("Give a folder, or a config with -c: ppfacerec doctor -c configs/quickstart.yaml")
    for name in ("max_images", "gpus"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')}: expected at least 1, found {getattr(arguments, name)}.")
    if arguments.json:
        logger.setLevel("ERROR")  # nothing but JSON on the terminal
    processes, tests = arguments.processes or usable_cores(), read_tests(arguments.test)
    with distributed.first_failure_first():
        distributed.init()  # the ranks of a launcher share the images to embed
        if arguments.config:
            config, _ = load_config(arguments.config, arguments.override, "train")
            found = list(examine_config(config, arguments.max_images, processes, tests, arguments.gpus))
        else:
            found = list(examine_folder(arguments.folder, arguments.max_images, processes, tests))
    if distributed.rank() == 0:
        print(as_json(found) if arguments.json else as_table(found))
    return int(any(one.level == "error" for one in found))


Command = tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]
COMMANDS: dict[str, Command] = {
    "show-batch": ("Draw a grid of training images as the network gets them.", _show_batch_arguments, _show_batch),
    "align": ("Cut aligned 112 x 112 faces out of photos.", _align_arguments, _align),
    "convert": ("Convert data: .rec, .bin, label file, folder.", _convert_arguments, _convert),
    "doctor": ("Examine data and config before training.", _doctor_arguments, _doctor),
    "make-bin": ("Make a verification set (.bin) of your own pairs.", _make_bin_arguments, _make_bin),
}
