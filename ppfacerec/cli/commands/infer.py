"""``ppfacerec infer embed | compare | enroll | search | cluster``."""

import argparse
import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppfacerec.core import distributed
from ppfacerec.core.io.atomic_file import atomic_write, check_target
from ppfacerec.core.io.user_files import printed_names
from ppfacerec.core.log import logger, table
from ppfacerec.core.printable import printable
from ppfacerec.core.ranges import require_count
from ppfacerec.inference import clusters
from ppfacerec.inference.approximate import ApproximatePeople
from ppfacerec.inference.embedding_parts import embed_in_parts, remove_parts
from ppfacerec.inference.face_model import USUAL_FAR, FaceModel, load
from ppfacerec.inference.image_files import find_images, person_of
from ppfacerec.inference.people_index import UNKNOWN, PeopleIndex, probe_of, read_index
from ppfacerec.metrics.roc import one_in


def embed(arguments: argparse.Namespace) -> int:
    require_count("--batch-size", arguments.batch_size)
    parts = Path(f"{arguments.out}.parts")
    with distributed.exchange_failures():
        with distributed.failing_together():
            check_target(arguments.out, ".npz")
            model, paths = load(arguments.model), find_images(arguments.images, arguments.allow_outside)
        distributed.init()
        embedded = embed_in_parts(model, paths, arguments.batch_size, parts)
        if embedded is not None:
            _warn_of_left_out(embedded.problems, len(embedded.files))
            with atomic_write(arguments.out, private=True) as file:
                np.savez(file, embeddings=embedded.embeddings, files=np.array([str(f) for f in embedded.files]))
            logger.info("Written: %s, %d embeddings of %d numbers", arguments.out, *embedded.embeddings.shape)
        remove_parts(parts)
    return 0


def compare(arguments: argparse.Namespace) -> int:
    model = load(arguments.model)
    print(printable(model.compare(arguments.first, arguments.second, arguments.far, arguments.threshold)))
    return 0


def enroll(arguments: argparse.Namespace) -> int:
    require_count("--batch-size", arguments.batch_size)
    check_target(arguments.index, ".npz")
    folder, model = Path(arguments.folder), load(arguments.model)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; expected one with a subfolder of images per person.")
    given = find_images([folder])
    files, embeddings = _embed_files(model, given, arguments.batch_size)
    names = [person_of(file, folder) for file in files]
    _warn_of_people(folder, given, names)
    index = PeopleIndex(embeddings, names, list(map(str, files)), probe_of(model), arguments.model)
    if index.same_people:
        logger.warning(
            "Names that probably belong to one person (a copied folder?): %s. They are not counted as strangers to "
            "each other.", printed_names([" = ".join(pair) for pair in index.same_people]),
        )  # fmt: skip
    index.save(arguments.index)
    logger.info("Written: %s, %d people, %d images", arguments.index, index.num_people, len(index))
    return 0


def _warn_of_people(folder: Path, given: list[Path], names: list[str]) -> None:
    """Warn about people without a usable image, and about names taken from files outside of a person's folder."""
    lost = sorted({person_of(file, folder) for file in given} - set(names))
    if lost:
        logger.warning("People without a usable image: %s.", printed_names(lost))
    flat = Counter(person_of(file, folder) for file in given if file.parent == folder)
    if flat:
        logger.warning(
            "Images in %s itself, not in a person's folder: %d. The person is the file name without its "
            "number (%s).", folder, sum(flat.values()),
            printed_names([f"{name}: {count}" for name, count in flat.most_common()]),
        )  # fmt: skip


def search(arguments: argparse.Namespace) -> int:
    require_count("--batch-size", arguments.batch_size)
    require_count("--top", arguments.top)
    if not 0 < arguments.strangers < 1:
        raise ValueError(f"--strangers: expected a number between 0 and 1, found {arguments.strangers}.")
    model, index = load(arguments.model), read_index(arguments.index)
    index.check_model(model)
    cosine, words = _search_threshold(arguments, model, index)
    people = ApproximatePeople(index) if arguments.ann else index
    if isinstance(people, ApproximatePeople):
        logger.info(
            "Approximate search finds %.1f %% of the %d nearest people of exact search (measured on enrolled "
            "images).", 100 * people.recall(arguments.top), arguments.top,
        )  # fmt: skip
    files, embeddings = _embed_files(model, arguments.images, arguments.batch_size, arguments.allow_outside)
    rows = []
    for file, embedding in zip(files, embeddings):
        matches = people.search(embedding, arguments.top)
        answer = matches[0].name if matches[0].cosine > cosine else UNKNOWN
        rows.append([str(file), answer, ", ".join(f"{m.name} {m.cosine:.3f}" for m in matches)])
    print(table(["image", "person", f"nearest {arguments.top}"], rows))
    print(f"\n{printable(words)}")
    return 0


def _search_threshold(arguments: argparse.Namespace, model: FaceModel, index: PeopleIndex) -> tuple[float, str]:
    """Return the cosine below which a face is unknown, and its explanation."""
    if arguments.threshold is not None:
        chosen = model.threshold(cosine=arguments.threshold)
        return chosen.cosine, f"T{str(chosen)[1:]}."
    cosine = index.threshold(arguments.strangers)
    if cosine is not None:
        return cosine, (
            f"Threshold {cosine:.3f}: about {one_in(arguments.strangers)} strangers is mistaken for an enrolled person "
            f"(measured on {len(index.nearest_others):,} enrolled images, each against the other people)."
        )
    pairs = model.threshold()
    return pairs.cosine, (
        f"The index has too few images ({len(index)}) to measure how many strangers are accepted. T{str(pairs)[1:]}. A "
        f"stranger is compared with {len(index)} images, so about {one_in(len(index) * (pairs.far or 1))} may be "
        "mistaken for an enrolled person."
    )


def cluster(arguments: argparse.Namespace) -> int:
    require_count("--batch-size", arguments.batch_size)
    if arguments.out:
        check_target(arguments.out, ".csv")
    model = load(arguments.model)
    threshold = model.threshold(arguments.far, arguments.threshold)
    if arguments.far is None and threshold.far and threshold.far > USUAL_FAR:
        logger.warning(
            "No set the model was evaluated on has enough pairs for a FAR of 1e-3; using the next larger FAR."
        )
    files, embeddings = _embed_files(model, arguments.images, arguments.batch_size, arguments.allow_outside)
    labels = clusters.cluster(embeddings, threshold.cosine)
    if arguments.out:
        text = io.StringIO()
        listed = [(_no_formula(str(name)), label) for name, label in zip(files, labels.tolist())]
        csv.writer(text, lineterminator="\n").writerows([("image", "cluster"), *listed])
        with atomic_write(arguments.out) as file:
            file.write(text.getvalue().encode(errors="surrogateescape"))  # file names may not be valid UTF-8
        logger.info("Written: %s", arguments.out)
    sizes = np.bincount(labels)
    rows = [[str(k), str(size), str(files[int(np.argmax(labels == k))])] for k, size in enumerate(sizes)]
    print(table(["cluster", "images", "first"], rows))
    print(f"\nGroups are merged while their mean cosine is above this: {printable(threshold)}.")
    return 0


def _no_formula(name: str) -> str:
    """Keep spreadsheets from evaluating a path as a formula: ``./=1+1.jpg`` is the file ``=1+1.jpg``."""
    return f"./{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def _embed_files(
    model: FaceModel, images: Sequence[str | Path], batch_size: int, allow_outside: bool = False
) -> tuple[list[Path], np.ndarray]:
    files, embeddings, bad = model.embed_files(find_images(images, allow_outside), batch_size)
    _warn_of_left_out(bad, len(files))
    return files, embeddings


def _warn_of_left_out(bad: Sequence[str], num_used: int) -> None:
    for line in bad:
        logger.warning("Left out: %s", line)
    if bad:
        logger.warning("%d of %d images are used, %d left out.", num_used, num_used + len(bad), len(bad))
    if not num_used:
        raise ValueError(f"None of the {len(bad)} images can be embedded; see the log for the reasons.")
