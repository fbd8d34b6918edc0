"""Verification sets of one's own: a .bin from a list of pairs, or from balanced pairs drawn from a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from ppfacerec.data.datasets import FolderDataset
from ppfacerec.data.images import decode_rgb
from ppfacerec.data.pair_bin import write_bin
from ppfacerec.data.pair_list import read_lfw_pairs, read_pair_list
from ppfacerec.log import logger, progress_bar

_MOST_PAIRS = 1000  # of one person, drawn from in a fold


def bin_from_pairs(pairs_path: str, root: str, out: str, suffix: str = ".jpg") -> int:
    """Write the pairs of LFW's pairs.txt, or of lines ``left right 0|1``, to a .bin; return how many.

    Args:
        pairs_path: the list; a first line of one or two numbers is LFW's.
        root: the folder that the names are relative to.
        out: the .bin.
        suffix: of LFW's image files.

    Raises:
        ValueError: a line of another form, an image that is not there or does not decode; with file and line.
    """
    try:
        with open(pairs_path, encoding="utf-8-sig") as file:
            is_lfw = re.fullmatch(r"\s*\d+(\s+\d+)?\s*", file.readline()) is not None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{pairs_path}: cannot read the pair list ({error}).") from error
    pairs = read_lfw_pairs(pairs_path, root, suffix) if is_lfw else read_pair_list(pairs_path, root)
    images = []
    for number in progress_bar(range(pairs.num_images), pairs.num_images, "Images", "image"):
        images.append(pairs.read(number))
        _check_image(images[-1], pairs.where(number))
    write_bin(out, [images[i] for i in pairs.index], pairs.is_same)
    return len(pairs)


def bin_from_folder(root: str, out: str, num_pairs: int = 6000, num_folds: int = 10, seed: int = 0) -> int:
    """Draw as many pairs of one person as of two, from a folder for each identity, and write a .bin.

    No person is in two folds, so that a fold's threshold never comes from people it is tested on; folds are contiguous,
    first the pairs of one person, as in LFW. Every person with two images has about as many pairs as the next.

    Raises:
        ValueError: numbers that do not divide, or too few people or images for them.
    """
    if num_folds < 1 or num_pairs < 2 * num_folds or num_pairs % (2 * num_folds):
        raise ValueError(f"--num-pairs: expected a multiple of 2 x {num_folds} folds, found {num_pairs}.")
    dataset, rng = FolderDataset(root), np.random.default_rng(seed)
    people = np.split(np.arange(len(dataset)), np.flatnonzero(np.diff(dataset.labels)) + 1)
    several = rng.permutation([k for k, images in enumerate(people) if len(images) > 1])
    single = rng.permutation([k for k, images in enumerate(people) if len(images) == 1])
    order = np.concatenate([several, single]).astype(int)
    each = num_pairs // (2 * num_folds)
    index: list[int] = []
    is_same: list[bool] = []
    for fold in range(num_folds):
        members = [people[k] for k in order[fold::num_folds]]
        where = f"{root}, fold {fold + 1} of {num_folds} ({len(members)} people)"
        index += [i for pair in _same_pairs(members, each, rng, where) for i in pair]
        index += [i for pair in _different_pairs(members, each, rng, where) for i in pair]
        is_same += [True] * each + [False] * each
    images = {}
    for i in progress_bar(sorted(set(index)), len(set(index)), "Images", "image"):
        images[i] = dataset.read(i)
        _check_image(images[i], dataset.where(i))
    write_bin(out, [images[i] for i in index], is_same)
    return num_pairs


def _same_pairs(
    people: Sequence[np.ndarray], count: int, rng: np.random.Generator, where: str
) -> list[tuple[int, int]]:
    """Distinct pairs of one person, a pair of each person in turn."""
    draws = [_pairs_of(images, rng) for images in people if len(images) > 1]
    pairs: list[tuple[int, int]] = []
    while draws and len(pairs) < count:
        remaining = []
        for draw in draws:
            pair = next(draw, None)
            if pair is not None:
                pairs.append(pair)
                remaining.append(draw)
        draws = remaining
    if len(pairs) < count:
        raise ValueError(f"{where}: {count} pairs of one person are asked for, its images make {len(pairs)}. "
                         "Ask for fewer --num-pairs or --folds.")  # fmt: skip
    return pairs[:count]


def _pairs_of(images: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """The pairs of some images in random order, at most _MOST_PAIRS."""
    first, second = np.triu_indices(min(len(images), 200), 1)
    chosen = rng.permutation(images)
    for k in rng.permutation(len(first))[:_MOST_PAIRS]:
        yield int(chosen[first[k]]), int(chosen[second[k]])


def _different_pairs(
    people: Sequence[np.ndarray], count: int, rng: np.random.Generator, where: str
) -> list[tuple[int, int]]:
    """Distinct pairs of two persons, each person as likely as another."""
    pairs: dict[tuple[int, int], None] = {}
    for _ in range(100 * count if len(people) > 1 else 0):
        left, right = rng.choice(len(people), 2, replace=False)
        pair = int(rng.choice(people[left])), int(rng.choice(people[right]))
        if pair[::-1] not in pairs:
            pairs[pair] = None
        if len(pairs) == count:
            return list(pairs)
    raise ValueError(f"{where}: {count} pairs of two persons are asked for, {len(pairs)} were found. "
                     "Ask for fewer --num-pairs or --folds.")  # fmt: skip


def _check_image(image: bytes, where: str) -> None:
    height, width = decode_rgb(image, where).shape[:2]
    if (height, width) != (112, 112):
        logger.warning(
            "%s: %d x %d; evaluation resizes what is not 112 x 112. Align first (`ppfacerec align`)?",
            where,
            width,
            height,
        )
