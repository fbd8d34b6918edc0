"""Training sets of labelled images: interface, label files, folders."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Optional, Protocol

import numpy as np

from ppfacerec.core.io.text_file import backslash_hint
from ppfacerec.core.io.user_files import normalized_name, read_regular, walk_images
from ppfacerec.core.log import logger
from ppfacerec.core.printable import printable
from ppfacerec.data.datasets.class_identity import (
    ClassIdentity,
    hash_strings,
    hash_texts,
    identity_by_samples,
    samples_digest,
)
from ppfacerec.data.datasets.label_file import LabelFile


class Images(Protocol):
    """Interface of a collection of encoded images."""

    def read(self, index: int, /) -> bytes:
        """Return an encoded image; raises ValueError or OSError if it cannot be read."""

    def where(self, index: int, /) -> str:
        """Return the name of an image for messages."""


class TrainDataset(Images, Protocol):
    """Interface of a training set."""

    labels: np.ndarray
    num_classes: int

    def __len__(self) -> int: ...


class ImageNetDataset:
    """Images listed in a label file with lines `path<TAB>class` (PaddleClas's name for MS1MV3's format).

    Args:
        image_root: the folder that the paths are relative to.
        cls_label_path: the label file.
        delimiter: between path and class; None detects it.
        relabel: renumber the labels of the file to 0, 1, 2, ... in ascending order, for labels with gaps.
        allow_outside: accept paths outside of `image_root` (absolute, or with ``..``).
        class_num: every label must be below it; None: no limit.

    Attributes:
        original_labels: (num_classes,) label in the file of each class if `relabel`, else None.

    Raises:
        ValueError: the label file is malformed; with file and line.
    """

    paths: ClassVar = {"image_root": "folder", "cls_label_path": "file"}

    def __init__(
        self,
        image_root: str,
        cls_label_path: str,
        delimiter: str | None = None,
        *,
        relabel: bool = False,
        allow_outside: bool = False,
        class_num: int | None = None,
    ) -> None:
        self._root = Path(image_root)
        self._file = LabelFile(cls_label_path, delimiter, None if relabel else class_num, allow_outside)
        self.labels = self._file.labels
        self.original_labels: np.ndarray | None = None
        if relabel:
            self.original_labels, numbers = np.unique(self.labels, return_inverse=True)
            self.labels = numbers.astype(np.int32)
        self.num_classes = int(self.labels.max()) + 1
        check_class_num(self.num_classes, class_num, str(cls_label_path))
        skipped = self._file.num_skipped
        self.left_out = f"{skipped} lines that do not name an image" if skipped else ""

    def __len__(self) -> int:
        return len(self._file)

    def read(self, index: int) -> bytes:
        return read_listed(self._root, self._file.name(index), self.where, index)

    def where(self, index: int) -> str:
        return self._file.where(index)

    def class_identity(self) -> ClassIdentity:
        """Return the identity of the classes, by the paths of their images."""
        return identity_by_samples(self._file.name_hashes(), self.labels, self.num_classes)


class FolderDataset:
    """One folder of images per identity; identities and images are sorted by name.

    Args:
        root: the folder that contains the identities' folders.
        class_num: upper limit of the number of identities; None: no limit.

    Attributes:
        identities: folder name of each class.
        left_out: description of skipped files and of folders without an image.

    Raises:
        ValueError: no identity has an image, or there are more than `class_num`.
    """

    paths: ClassVar = {"root": "folder"}

    def __init__(self, root: str, class_num: Optional[int] = None) -> None:
        self._root = Path(root)
        found = walk_images(root)
        of_person: dict[str, list[bytes]] = {}  # names that differ only in Unicode normalisation are one person
        elsewhere = []  # images that are not directly in an identity's folder
        for name in found.images:
            if len(parts := name.split(os.sep)) == 2:
                of_person.setdefault(normalized_name(parts[0]), []).append(os.fsencode(name))
            else:
                elsewhere.append(name)
        names = [name for images in of_person.values() for name in images]
        self.identities, counts = list(of_person), [len(images) for images in of_person.values()]
        self.left_out = found.left_out()
        if elsewhere:
            text = f"{len(elsewhere)} images that are not directly in a person's folder (first: {elsewhere[0]})"
            self.left_out = " and ".join(filter(None, (text, self.left_out)))
        if not names:
            raise ValueError(f"{root}: no image in it. Expected one subfolder of images per identity.")
        # One buffer instead of an object per name, which forked workers share without copying it.
        self._text, self._ends = b"".join(names), np.cumsum([len(name) for name in names])
        self.labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        self.num_classes = len(counts)
        check_class_num(self.num_classes, class_num, root)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Return the path of sample `index` relative to the root."""
        begin = self._ends[index - 1] if index else 0
        return os.fsdecode(self._text[begin : self._ends[index]])

    def read(self, index: int) -> bytes:
        return read_listed(self._root, self.name(index), self.where, index)

    def where(self, index: int) -> str:
        return printable(f"{self._root}/{self.name(index)}")

    def class_identity(self) -> ClassIdentity:
        """Return the identity of the classes, by the names of their folders."""
        text, starts = np.frombuffer(self._text, np.uint8), np.r_[0, self._ends[:-1]]
        samples = samples_digest(hash_texts(text, starts, self._ends - starts), self.labels)
        return ClassIdentity(hash_strings(self.identities), samples)


def read_listed(root: Path, name: str, where: Callable[[int], str], index: int) -> bytes:
    """Read an image of a folder, or raise a ValueError that begins with ``where(index)`` and gives the reason."""
    try:
        return read_regular(f"{root}/{name}")
    except OSError as error:
        raise ValueError(
            f"{where(index)}: cannot read {error.filename or 'it'} ({error.strerror}). Is the image folder '{root}' "
            f"right?{backslash_hint(name)}"
        ) from error


def open_folder(root: str) -> FolderDataset:
    """Open a folder of identities and log which files are left out."""
    dataset = FolderDataset(root)
    if dataset.left_out:
        logger.warning("Left out in %s: %s.", root, dataset.left_out)
    return dataset


def check_class_num(num_classes: int, class_num: int | None, what: str) -> None:
    """Raise a ValueError if the data has more classes than the head."""
    if class_num is not None and num_classes > class_num:
        raise ValueError(
            f"{what} has {num_classes} classes, but Arch.Head.class_num is {class_num}; set it to {num_classes}, "
            "or leave it out to take it from the data."
        )


def class_identity_of(dataset: TrainDataset) -> ClassIdentity:
    """Return the identity of a training set's classes; without a `class_identity` method, from its `where`."""
    own: Callable[[], ClassIdentity] | None = getattr(dataset, "class_identity", None)
    if own is not None:
        return own()
    hashes = hash_strings([dataset.where(index) for index in range(len(dataset))])
    return identity_by_samples(hashes, dataset.labels, dataset.num_classes)


def class_name(dataset: TrainDataset, label: int) -> str:
    """Return the name of a class for messages, with its folder or its first image."""
    names = getattr(dataset, "identities", None)
    if names is not None and names[label]:
        return f"class {label} ({printable(names[label])})"
    samples = np.flatnonzero(dataset.labels == label)
    return f"class {label} ({dataset.where(int(samples[0]))})" if len(samples) else f"class {label}"


def check_readable(dataset: TrainDataset, allow_some: bool) -> None:
    """Raise the ValueError of the first sample if it cannot be read; with `allow_some`, only if none of ten can."""
    tried = np.linspace(0, len(dataset) - 1, 10 if allow_some else 1).astype(int).tolist()
    for index in reversed(tried):
        try:
            dataset.read(index)
            return
        except ValueError:
            if index == tried[0]:
                raise


def gap_hint(labels: np.ndarray, num_classes: int) -> str:
    """Return a sentence about classes without an image (labels that begin at 1 or have gaps), or ""."""
    used = np.unique(labels)
    if len(used) == num_classes:
        return ""
    what = f"they start at {used[0]}" if num_classes - len(used) == used[0] else "there are gaps between them"
    return (
        f"{num_classes - len(used):,} of the classes 0 to {num_classes - 1:,} have no image ({what}), but each has a "
        f"class centre. relabel: True of ImageNetDataset numbers the {len(used):,} used classes without gaps."
    )
