"""``ppfacerec infer embed | compare | enroll | search | cluster``."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppfacerec.core.log import logger, table
from ppfacerec.core.printable import printable

if TYPE_CHECKING:
    from ppfacerec.inference.approximate import ApproximatePeople
    from ppfacerec.inference.face_model import FaceModel
    from ppfacerec.inference.people_index import PeopleIndex


def arguments(parser: argparse.ArgumentParser) -> None:
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    for name, (help_text, add_arguments, run_task) in _TASKS.items():
        task = tasks.add_parser(name, help=help_text, description=help_text)
        task.add_argument(
            "--model", required=True, metavar="MODEL",
            help="weights such as output/X/best_model, an exported folder, a name of `ppfacerec models`",
        )  # fmt: skip
        task.add_argument("--batch-size", type=int, default=32, metavar="N", help="images at once")
        add_arguments(task)
        task.set_defaults(run_task=run_task, parser=task)


def run(parsed: argparse.Namespace) -> int:
    if parsed.batch_size < 1:
        raise ValueError(f"--batch-size: expected a whole number of at least 1, found {parsed.batch_size}.")
    task: Callable[[argparse.Namespace], int] = parsed.run_task
    return task(parsed)


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
        help="false accept rate of the threshold; unless told 1e-3, or the next measured one",
    )
    parser.add_argument("--threshold", type=float, metavar="COSINE", help="a threshold of your own instead")


def _embed_arguments(parser: argparse.ArgumentParser) -> None:
    _images_argument(parser)
    parser.add_argument("--out", required=True, metavar="FILE.npz", help="embeddings (N, D) and their files")


def _embed(parsed: argparse.Namespace) -> int:
    from ppfacerec.core import distributed
    from ppfacerec.core.io.whole_file import check_target, written_whole
    from ppfacerec.inference.embedding_parts import embed_in_parts, remove_parts
    from ppfacerec.inference.face_model import load
    from ppfacerec.inference.image_files import find_images

    if Path(parsed.out).suffix != ".npz":
        raise ValueError(
            f"--out {parsed.out}: embeddings are written as .npz (np.load(...)['embeddings']); name it so."
        )
    parts = Path(f"{parsed.out}.parts")
    with distributed.first_failure_first():
        with distributed.failing_together():
            check_target(parsed.out)
            model, paths = load(parsed.model), find_images(parsed.images, parsed.allow_outside)
        distributed.init()
        embedded = embed_in_parts(model, paths, parsed.batch_size, parts)
        if embedded is not None:
            _say_left_out(embedded.problems, len(embedded.files))
            with written_whole(parsed.out, private=True) as file:
                np.savez(file, embeddings=embedded.embeddings, files=np.array([str(f) for f in embedded.files]))
            logger.info("Written: %s, %d embeddings of %d numbers", parsed.out, *embedded.embeddings.shape)
        remove_parts(parts)
    return 0


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A")
    parser.add_argument("second", metavar="B")
    _threshold_arguments(parser)


def _compare(parsed: argparse.Namespace) -> int:
    from ppfacerec.inference.face_model import load

    print(printable(load(parsed.model).compare(parsed.first, parsed.second, parsed.far, parsed.threshold)))
    return 0


def _enroll_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="a folder of images for each person: FOLDER/anna/1.jpg")
    parser.add_argument("--index", required=True, metavar="PEOPLE.npz")


def _enroll(parsed: argparse.Namespace) -> int:
    from ppfacerec.core.io.user_files import printed_names
    from ppfacerec.core.io.whole_file import check_target
    from ppfacerec.inference.face_model import load
    from ppfacerec.inference.image_files import find_images, person_of
    from ppfacerec.inference.people_index import PeopleIndex, probe_of

    check_target(parsed.index)
    folder, model = Path(parsed.folder), load(parsed.model)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; expected one with a folder of images for each person.")
    given = find_images([folder])
    files, embeddings = _embed_files(model, given, parsed.batch_size)
    names = [person_of(file, folder) for file in files]
    _say_people(folder, given, names)
    index = PeopleIndex(embeddings, names, list(map(str, files)), probe_of(model), parsed.model)
    if index.same_people:
        logger.warning(
            "%d pairs of names are probably one person each (a copied folder?): %s. They do not count as strangers to "
            "each other.", len(index.same_people), printed_names([" = ".join(pair) for pair in index.same_people]),
        )  # fmt: skip
    index.save(parsed.index)
    logger.info("Written: %s, %d people, %d images", parsed.index, index.num_people, len(index))
    return 0


def _say_people(folder: Path, given: list[Path], names: list[str]) -> None:
    """Name people who lose all their images, and those whose names come from files without a folder."""
    from ppfacerec.core.io.user_files import printed_names
    from ppfacerec.inference.image_files import person_of

    lost = sorted({person_of(file, folder) for file in given} - set(names))
    if lost:
        logger.warning("%d people have no image that can be used: %s.", len(lost), printed_names(lost))
    flat = Counter(person_of(file, folder) for file in given if file.parent == folder)
    if flat:
        logger.warning(
            "%d images lie in %s itself and not in a folder for each person; their names without the number are taken "
            "for %d people (%s).", sum(flat.values()), folder, len(flat),
            printed_names([f"{name}: {count}" for name, count in flat.most_common()]),
        )  # fmt: skip


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


def _search(parsed: argparse.Namespace) -> int:
    from ppfacerec.inference.face_model import load
    from ppfacerec.inference.people_index import UNKNOWN, read_index
    from ppfacerec.inference.values import check_count

    check_count("--top", parsed.top)
    if not 0 < parsed.strangers < 1:
        raise ValueError(f"--strangers: expected a number between 0 and 1, found {parsed.strangers}.")
    model, index = load(parsed.model), read_index(parsed.index)
    index.check_model(model)
    cosine, words = _search_threshold(parsed, model, index)
    people = _approximate(index, parsed.top) if parsed.ann else index
    files, embeddings = _embed_files(model, parsed.images, parsed.batch_size, parsed.allow_outside)
    rows = []
    for file, embedding in zip(files, embeddings):
        matches = people.search(embedding, parsed.top)
        answer = matches[0].name if matches[0].cosine > cosine else UNKNOWN
        rows.append([str(file), answer, ", ".join(f"{m.name} {m.cosine:.3f}" for m in matches)])
    print(table(["image", "person", f"nearest {parsed.top}"], rows))
    print(f"\n{printable(words)}")
    return 0


def _approximate(index: PeopleIndex, top: int) -> ApproximatePeople:
    from ppfacerec.inference.approximate import ApproximatePeople

    people = ApproximatePeople(index)
    logger.info(
        "Approximate search: %.1f %% of the %d nearest people of exact search are found (measured on enrolled images).",
        100 * people.recall(top), top,
    )  # fmt: skip
    return people


def _search_threshold(parsed: argparse.Namespace, model: FaceModel, index: PeopleIndex) -> tuple[float, str]:
    """The cosine below which a face is unknown, and what it means."""
    if parsed.threshold is not None:
        chosen = model.threshold(cosine=parsed.threshold)
        return chosen.cosine, f"T{str(chosen)[1:]}."
    cosine = index.threshold(parsed.strangers)
    if cosine is not None:
        return cosine, (
            f"Threshold {cosine:.3f}: about 1 stranger in {round(1 / parsed.strangers):,} is taken for someone "
            f"enrolled (measured on {len(index.nearest_others):,} enrolled images, each against the other people)."
        )
    pairs = model.threshold()
    return pairs.cosine, (
        f"The index has too few images to tell how strangers fare ({len(index)}). T{str(pairs)[1:]}. A stranger is "
        f"compared with {len(index)} images, so about 1 in {max(round(1 / (len(index) * (pairs.far or 1))), 1):,} may "
        "be taken for someone."
    )


def _cluster_arguments(parser: argparse.ArgumentParser) -> None:
    _images_argument(parser)
    parser.add_argument("--out", metavar="FILE.csv", help="write image,cluster lines")
    _threshold_arguments(parser)


def _cluster(parsed: argparse.Namespace) -> int:
    import csv
    import io

    from ppfacerec.core.io.whole_file import check_target, written_whole
    from ppfacerec.inference.clusters import cluster
    from ppfacerec.inference.face_model import USUAL_FAR, load

    if parsed.out:
        check_target(parsed.out)
    model = load(parsed.model)
    threshold = model.threshold(parsed.far, parsed.threshold)
    if parsed.far is None and threshold.far and threshold.far > USUAL_FAR:
        logger.warning("No set that the model was evaluated on can tell a FAR of 1e-3; the next larger one is taken.")
    files, embeddings = _embed_files(model, parsed.images, parsed.batch_size, parsed.allow_outside)
    labels = cluster(embeddings, threshold.cosine)
    if parsed.out:
        text = io.StringIO()
        listed = [(_no_formula(str(name)), label) for name, label in zip(files, labels.tolist())]
        csv.writer(text, lineterminator="\n").writerows([("image", "cluster"), *listed])
        with written_whole(parsed.out) as file:
            file.write(text.getvalue().encode(errors="surrogateescape"))  # names as the file system has them
        logger.info("Written: %s", parsed.out)
    sizes = np.bincount(labels)
    rows = [[str(k), str(size), str(files[int(np.argmax(labels == k))])] for k, size in enumerate(sizes)]
    print(table(["cluster", "images", "first"], rows))
    print(f"\nGroups are joined while their mean cosine is above it: {printable(threshold)}.")
    return 0


def _no_formula(name: str) -> str:
    """A path that spreadsheets do not run: ``./=1+1.jpg`` is the same file as ``=1+1.jpg``."""
    return f"./{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def _embed_files(
    model: FaceModel, images: Sequence[str | Path], batch_size: int, allow_outside: bool = False
) -> tuple[list[Path], np.ndarray]:
    from ppfacerec.inference.image_files import find_images

    files, embeddings, bad = model.embed_files(find_images(images, allow_outside), batch_size)
    _say_left_out(bad, len(files))
    return files, embeddings


def _say_left_out(bad: Sequence[str], num_used: int) -> None:
    for line in bad:
        logger.warning("Left out: %s", line)
    if bad:
        logger.warning("%d of %d images are used, %d left out.", num_used, num_used + len(bad), len(bad))
    if not num_used:
        raise ValueError(f"None of the {len(bad)} images can be embedded; the log says why.")


_TASKS = {
    "embed": ("Embeddings of images into a file.", _embed_arguments, _embed),
    "compare": ("Are two faces of the same person?", _compare_arguments, _compare),
    "enroll": ("Make an index of people from a folder each.", _enroll_arguments, _enroll),
    "search": ("Who is it, among enrolled people?", _search_arguments, _search),
    "cluster": ("Group images by person.", _cluster_arguments, _cluster),
}
