"""Custom verification sets: a .bin from a pair list, or from balanced pairs drawn from a folder."""

from collections.abc import Iterator, Sequence
from itertools import islice, zip_longest

import numpy as np

from ppfacerec.core.image_size import IMAGE_SHAPE
from ppfacerec.core.log import logger, progress_bar
from ppfacerec.data.datasets.base import Images, open_folder
from ppfacerec.data.pairs.pair_bin import write_bin
from ppfacerec.data.pairs.pair_list import is_lfw_list, read_lfw_pairs, read_pair_list
from ppfacerec.data.transforms.images import decode_rgb, portable, resize_short_side

_MOST_IMAGES, _MOST_PAIRS = 200, 1000  # of one person in a fold


def bin_from_pairs(pairs_path: str, root: str, out: str, suffix: str = ".jpg") -> int:
    """Write the pairs of LFW's pairs.txt, or of lines ``left right 0|1``, to a .bin; return their number.

    Raises:
        ValueError: a malformed line, an image that is missing or does not decode; with file and line.
    """
    is_lfw = is_lfw_list(pairs_path)
    pairs = read_lfw_pairs(pairs_path, root, suffix) if is_lfw else read_pair_list(pairs_path, root)
    images = [_checked(pairs, k) for k in progress_bar(range(pairs.num_images), pairs.num_images, "Images", "image")]
    write_bin(out, [images[i] for i in pairs.index], pairs.is_same)
    return len(pairs)


def bin_from_folder(root: str, out: str, num_pairs: int = 6000, num_folds: int = 10, seed: int = 0) -> int:
    """Draw as many same pairs as different pairs from a folder for each identity, and write a .bin.

    No person is in two folds, so that a fold's threshold never depends on people it is tested on. Folds are contiguous
    and the two kinds of pairs alternate, so that any other split into contiguous folds is balanced too. People with two
    or more images have about equally many same pairs.

    Raises:
        ValueError: numbers that do not divide, or too few people or images for them, with numbers that work.
    """
    if num_folds < 1 or num_pairs < 2 * num_folds or num_pairs % (2 * num_folds):
        raise ValueError(f"--num-pairs: expected a multiple of 2 x {num_folds} folds, found {num_pairs}.")
    dataset, rng = open_folder(root), np.random.default_rng(seed)
    people = np.split(np.arange(len(dataset)), np.flatnonzero(np.diff(dataset.labels)) + 1)
    several = rng.permutation([k for k, images in enumerate(people) if len(images) > 1])
    single = rng.permutation([k for k, images in enumerate(people) if len(images) == 1])
    order = np.concatenate([several, single]).astype(int)
    each, sizes = num_pairs // (2 * num_folds), np.array([len(people[k]) for k in order])
    if _most_each(sizes, num_folds) < each:
        raise ValueError(f"{root}: {_too_few(sizes, num_pairs, num_folds)}")
    index: list[int] = []
    for fold in range(num_folds):
        members = [people[k] for k in order[fold::num_folds]]
        for same, different in zip(_same_pairs(members, each, rng), _different_pairs(members, each, rng)):
            index += [*same, *different]
    is_same = [True, False] * (num_pairs // 2)
    images = {i: _checked(dataset, i) for i in progress_bar(sorted(set(index)), len(set(index)), "Images", "image")}
    write_bin(out, [images[i] for i in index], is_same)
    return num_pairs


def _most_each(sizes: np.ndarray, num_folds: int) -> int:
    """Return the number of distinct pairs of each kind that every fold can have; `sizes`: images of each person, in the
    order in which the folds take them."""
    few = np.minimum(sizes, _MOST_IMAGES)
    same = np.minimum(few * (few - 1) // 2, _MOST_PAIRS)
    folds = [slice(fold, None, num_folds) for fold in range(num_folds)]
    return min(min(int(same[k].sum()), int(sizes[k].sum() ** 2 - (sizes[k] ** 2).sum()) // 2) for k in folds)


def _too_few(sizes: np.ndarray, num_pairs: int, num_folds: int) -> str:
    """Return a message with the numbers that work: the most folds, and the most folds with `num_pairs`."""
    most = {folds: 2 * folds * _most_each(sizes, folds) for folds in range(num_folds, 0, -1)}
    text = f"its {len(sizes)} people ({(sizes > 1).sum()} with two images) do not make {num_pairs} pairs in {num_folds}"
    most_folds = next((folds for folds, pairs in most.items() if pairs), None)
    if most_folds is None:
        return f"{text} folds, or any other number: two people are needed, one with two images."
    enough = next((folds for folds, pairs in most.items() if pairs >= num_pairs), most_folds)
    works = [f"--folds {folds} with --num-pairs up to {most[folds]}" for folds in dict.fromkeys((most_folds, enough))]
    return f"{text} folds without a common person. The largest that work: {', or '.join(works)}."


def _same_pairs(people: Sequence[np.ndarray], count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Draw distinct pairs of one person, one pair of each person in turn."""
    rounds = zip_longest(*(_pairs_of(images, rng) for images in people if len(images) > 1))
    return list(islice((pair for each in rounds for pair in each if pair), count))


def _pairs_of(images: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Yield the pairs of some images in random order, at most _MOST_PAIRS."""
    first, second = np.triu_indices(min(len(images), _MOST_IMAGES), 1)
    chosen = rng.permutation(images)
    for k in rng.permutation(len(first))[:_MOST_PAIRS]:
        yield int(chosen[first[k]]), int(chosen[second[k]])


def _different_pairs(people: Sequence[np.ndarray], count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Draw distinct pairs of two persons, all equally likely while there are enough."""
    pairs: dict[tuple[int, int], None] = {}
    for _ in range(20 * count):
        left, right = rng.choice(len(people), 2, replace=False)
        pair = int(rng.choice(people[left])), int(rng.choice(people[right]))
        if pair[::-1] not in pairs:
            pairs[pair] = None
        if len(pairs) == count:
            return list(pairs)
    every = [(int(a), int(b)) for i, left in enumerate(people) for right in people[:i] for a in left for b in right]
    rest = [pair for pair in every if pair not in pairs and pair[::-1] not in pairs]
    return [*pairs, *(rest[k] for k in rng.permutation(len(rest))[: count - len(pairs)])]


def _checked(images: Images, number: int) -> bytes:
    image, where = portable(images.read(number), images.where(number)), images.where(number)
    pixels = decode_rgb(image, where)
    height, width = pixels.shape[:2]
    if pixels.shape != IMAGE_SHAPE:
        resize_short_side(pixels, where)  # raises for an image that evaluation would reject
        logger.warning("%s: %d x %d; evaluation resizes what is not 112 x 112. Align first (`ppfacerec align`)?",
                       where, width, height)  # fmt: skip
    return image
