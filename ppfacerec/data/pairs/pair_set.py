"""Interface of verification sets, and pairs of image files in a folder."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ppfacerec.core.io.text_file import backslash_hint
from ppfacerec.data.datasets.base import Images, read_listed


class PairSet(Images, Protocol):
    """Pairs of distinct encoded face images; entries 2i and 2i + 1 of `index` are pair i."""

    index: np.ndarray  # (2N,) int64: distinct image of entry k
    is_same: np.ndarray  # (N,) bool
    num_folds: int | None  # contiguous folds that the set prescribes; None: those of the metric
    identities: Sequence[str] | None  # (M,) identity of each distinct image; None if unknown

    @property
    def num_images(self) -> int:
        """Number M of distinct images."""


class EvalDataset(Protocol):
    """Named verification sets, opened one at a time so that only one is in memory."""

    names: Sequence[str]

    def open(self, name: str) -> PairSet:
        """Return the set called `name`; raises a ValueError if its file is malformed."""

    def describe(self) -> str:
        """Return a line for the log: the names of the sets, and those left out."""


class ListedPair(NamedTuple):
    """One line of a pair list."""

    line: int  # from 1
    left: str  # image path relative to the folder
    right: str
    is_same: bool


@dataclass(frozen=True, eq=False)
class FolderPairs:
    """Pairs of image files in a folder, listed in a text file; images are read on demand."""

    list_path: str
    root: Path
    names: tuple[str, ...]  # (M,) distinct images, relative to `root`
    lines: tuple[int, ...]  # (M,) the first line that names each
    index: np.ndarray
    is_same: np.ndarray
    identities: Sequence[str] | None
    num_folds: int | None

    def __len__(self) -> int:
        return len(self.is_same)

    @property
    def num_images(self) -> int:
        return len(self.names)

    def where(self, image: int) -> str:
        """``"pairs.txt, line 7 (anna/1.jpg)"``."""
        return f"{self.list_path}, line {self.lines[image]} ({self.names[image]})"

    def read(self, image: int) -> bytes:
        return read_listed(self.root, self.names[image], self.where, image)


def folder_pairs(list_path: str, root: str, pairs: Sequence[ListedPair], num_folds: int | None = None) -> FolderPairs:
    """Build a set from the lines of a pair list, each distinct image once.

    Identities are the images' folders if these agree with all labels: the same folder exactly for pairs of one person.

    Raises:
        ValueError: no pair, or an image that is missing or outside of the folder; with file and line.
    """
    if not pairs:
        raise ValueError(f"{list_path}: no pairs found.")
    numbers: dict[str, int] = {}
    lines: list[int] = []
    index = np.empty(2 * len(pairs), np.int64)
    for i, pair in enumerate(pairs):
        for side, name in enumerate((pair.left, pair.right)):
            name = os.path.normpath(name)
            if name not in numbers:
                _check_image(list_path, pair.line, Path(root), name)
                lines.append(pair.line)
            index[2 * i + side] = numbers.setdefault(name, len(numbers))
    is_same = np.array([pair.is_same for pair in pairs], dtype=bool)
    folders = [os.path.dirname(name) for name in numbers]
    agree = all((folders[left] == folders[right]) == same for (left, right), same in zip(index.reshape(-1, 2), is_same))
    who = folders if agree and len(set(folders)) > 1 else None
    return FolderPairs(list_path, Path(root), tuple(numbers), tuple(lines), index, is_same, who, num_folds)


def _check_image(list_path: str, line: int, root: Path, name: str) -> None:
    if os.path.isabs(name) or name.split(os.sep)[0] == os.pardir:
        raise ValueError(
            f"{list_path}, line {line}: '{name}' leaves the image folder {root}. Write paths relative to it."
        )
    try:
        is_there = (root / name).is_file()
    except (OSError, ValueError):  # a name that is too long, or has a NUL in it
        is_there = False
    if not is_there:
        raise ValueError(
            f"{list_path}, line {line}: the image {root / name} does not exist. Is the image folder '{root}' "
            f"right?{backslash_hint(name)}"
        )
