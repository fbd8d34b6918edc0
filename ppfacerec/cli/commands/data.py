"""``ppfacerec align``, ``convert``, ``make-bin`` and ``demo-data``: none of them needs Paddle."""

import argparse
import os
from functools import partial
from pathlib import Path

from ppfacerec.core.io.atomic_file import atomic_write_text, check_target
from ppfacerec.core.io.user_files import printed_names, walk_images
from ppfacerec.core.log import logger, progress_bar
from ppfacerec.core.printable import printable
from ppfacerec.data.loading.parallel import usable_cores
from ppfacerec.datatools.align import align_folder, read_landmarks
from ppfacerec.datatools.convert import convert
from ppfacerec.datatools.detectors import MTCNNDetector, YuNetDetector
from ppfacerec.datatools.make_bin import bin_from_folder, bin_from_pairs
from ppfacerec.demo.demo_faces import make_demo_data


def align(arguments: argparse.Namespace) -> int:
    root, out = Path(arguments.root), Path(arguments.out)
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; expected the folder of the photos.")
    if out.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{out} lies in {root}: its faces would be read as photos. Choose a folder outside it.")
    listed = check_target(out / "not_found.txt")
    landmarks = read_landmarks(arguments.landmarks) if arguments.landmarks else None
    detector = partial(YuNetDetector, arguments.detector) if arguments.detector else MTCNNDetector
    if landmarks is None:
        detector()  # fail before the processes start
    walked = walk_images(root)
    total = len(walked.images)
    if walked.left_out():
        logger.warning("Left out in %s: %s.", root, walked.left_out())
    found = align_folder(
        root, walked.images, out, landmarks, detector, num_processes=arguments.processes or usable_cores(),
        suffix=".png" if arguments.png else ".jpg", faces=arguments.faces,
    )  # fmt: skip
    photos = list(progress_bar(found, total, "Photos", "photo"))
    without = [photo for photo in photos if photo.problem]
    doubtful = [photo for photo in photos if photo.doubt]
    with atomic_write_text(listed) as file:
        lines = [(photo.name, photo.problem or photo.doubt) for photo in [*without, *doubtful]]
        file.writelines(f"{printable(name)}\t{printable(what)}\n" for name, what in lines)
    there = sum(photo.was_there for photo in photos)
    logger.info("%d of %d photos aligned in %s%s.", total - len(without), total, out,
                f" ({there} of them already existed and were left unchanged)" if there else "")  # fmt: skip
    if without:
        logger.warning("Photos without a face: %d, listed in %s, first: %s (%s).",
                       len(without), listed, without[0].name, without[0].problem)  # fmt: skip
    lost = {os.path.dirname(p.name) for p in without} - {os.path.dirname(p.name) for p in photos if not p.problem}
    if lost:
        logger.warning("Folders without any aligned photo: %s.", printed_names(sorted(lost)))
    if doubtful:
        logger.warning("Faces that look wrong (photos sideways or upside down?): %d, also listed there: %s.",
                       len(doubtful), printed_names([photo.name for photo in doubtful]))  # fmt: skip
    if more := sum(photo.left_out for photo in photos):
        logger.warning("Faces left out of photos that show several: %d, photos: %d; --faces all includes them.",
                       more, sum(photo.left_out > 0 for photo in photos))  # fmt: skip
    return 0


def convert_data(arguments: argparse.Namespace) -> int:
    for path in convert(arguments.source, arguments.target, arguments.image_root):
        logger.info("Written: %s", path)
    return 0


def make_bin(arguments: argparse.Namespace) -> int:
    check_target(arguments.out, ".bin")
    if arguments.pairs:
        count = bin_from_pairs(arguments.pairs, arguments.root, arguments.out, arguments.suffix)
    else:
        count = bin_from_folder(arguments.root, arguments.out, arguments.num_pairs, arguments.folds, arguments.seed)
    logger.info("Written: %s, %d pairs.", arguments.out, count)
    return 0


def demo_data(arguments: argparse.Namespace) -> int:
    made = make_demo_data(
        arguments.out, arguments.num_identities, arguments.images_per_identity, arguments.num_pairs, arguments.seed
    )
    logger.info("Synthetic demo data in %s", made)
    return 0
