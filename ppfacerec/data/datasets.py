"""Where training samples come from: images with classes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional, Protocol, Union

import numpy as np

from ppfacerec.data.label_file import LabelFile
from ppfacerec.printable import printable
from ppfacerec.user_files import one_spelling, read_regular, walk_images


class TrainDataset(Protocol):
    """What the loader asks of a training set."""

    labels: np.ndarray
    num_classes: int

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """Encoded image of a sample; a ValueError or OSError says that it cannot be had."""

    def where(self, index: int) -> str:
        """How to name a sample to a person."""


class ImageNetDataset:
    """Images listed in a label file, `path<TAB>class` a line (PaddleClas's name for MS1MV3's form).

    Args:
        image_root: the folder that the paths are relative to.
        cls_label_path: the label file.
        delimiter: between path and class; None finds it out from the file.
        relabel: number the classes of the file 0, 1, 2, ... by their order, for files whose labels have gaps.
        allow_outside: take paths that lead out of `image_root` (absolute, or with ``..``).
        class_num: every label must be below it; None takes the file's.

    Attributes:
        original_labels: (num_classes,) the file's label of each class where `relabel` numbered them, else None.

    Raises:
        ValueError: the label file is not as expected; with file and line.
    """

    def __init__(
        self,
        image_root: str,
        cls_label_path: str,
        delimiter: Optional[str] = None,
        relabel: bool = False,
        allow_outside: bool = False,
        class_num: Optional[int] = None,
    ) -> None:
        self._root = Path(image_root)
        self._file = LabelFile(cls_label_path, delimiter, None if relabel else class_num, allow_outside)
        self.labels = self._file.labels
        self.original_labels: Optional[np.ndarray] = None
        if relabel:
            self.original_labels, self.labels = numbered(self.labels)
        self.num_classes = int(self.labels.max()) + 1
        check_class_num(self.num_classes, class_num, str(cls_label_path))
        self.num_skipped = self._file.num_skipped

    def __len__(self) -> int:
        return len(self._file)

    def read(self, index: int) -> bytes:
        """Encoded image of a sample.

        Raises:
            ValueError: the file cannot be read.
        """
        try:
            return read_regular(f"{self._root}/{self._file.name(index)}")
        except OSError as error:
            raise cannot_read(error, self.where(index), self._root) from error

    def where(self, index: int) -> str:
        return self._file.where(index)


class FolderDataset:
    """A folder for each identity with its images in it; identities and images in the order of their names.

    Args:
        root: the folder of the folders.
        class_num: there may be no more identities; None takes as many as there are.

    Attributes:
        identities: name of each class's folder.
        num_skipped: files that are no images, and folders without one; left_out: which, in words.

    Raises:
        ValueError: no identity with an image, more of them than `class_num`.
    """

    def __init__(self, root: str, class_num: Optional[int] = None) -> None:
        self._root = Path(root)
        found = walk_images(root, levels=1)
        of_person: dict[str, list[bytes]] = {}  # a name that is there in both of Unicode's spellings is one person
        for name in found.images:
            if folder := os.path.dirname(name):  # images beside the folders are nobody's
                of_person.setdefault(one_spelling(folder), []).append(os.fsencode(name))
        names = [name for images in of_person.values() for name in images]
        self.identities, counts = list(of_person), [len(images) for images in of_person.values()]
        self.num_skipped = len(found.images) - len(names) + len(found.others) + len(found.empty)
        self.left_out = found.left_out()
        if not names:
            raise ValueError(f"{root}: no image in it. Expected a folder for each identity with its images in it.")
        # One buffer instead of an object a name, so that forked workers share it and do not copy it.
        self._text, self._ends = b"".join(names), np.cumsum([len(name) for name in names])
        self.labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        self.num_classes = len(counts)
        check_class_num(self.num_classes, class_num, root)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Path of sample `index` below the root."""
        begin = self._ends[index - 1] if index else 0
        return os.fsdecode(self._text[begin : self._ends[index]])

    def read(self, index: int) -> bytes:
        try:
            return read_regular(f"{self._root}/{self.name(index)}")
        except OSError as error:
            raise cannot_read(error, self.where(index), self._root) from error

    def where(self, index: int) -> str:
        return printable(f"{self._root}/{self.name(index)}")


def numbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct labels in ascending order, and the number of each sample's among them."""
    original, numbers = np.unique(labels, return_inverse=True)
    return original, numbers.astype(np.int32)


def check_class_num(num_classes: int, class_num: Optional[int], what: str) -> None:
    """Raise a ValueError where the data has more classes than the head."""
    if class_num is not None and num_classes > class_num:
        raise ValueError(
            f"{what} has {num_classes} classes, but Arch.Head.class_num is {class_num}; set it to {num_classes}, "
            "or leave it out to take it from the data."
        )


def check_readable(dataset: TrainDataset, allow_some: bool) -> None:
    """Raise the ValueError of the first sample if it cannot be read; with `allow_some`, only if no one of ten can."""
    tried = np.linspace(0, len(dataset) - 1, 10 if allow_some else 1).astype(int).tolist()
    for index in reversed(tried):
        try:
            dataset.read(index)
            return
        except ValueError:
            if index == tried[0]:
                raise


def cannot_read(error: OSError, where: str, root: Union[str, Path]) -> ValueError:
    """The error for a user about an image that is not there or not readable."""
    return ValueError(
        f"{where}: cannot read {error.filename or 'it'} ({error.strerror}). Is image_root '{root}' right?"
    )
