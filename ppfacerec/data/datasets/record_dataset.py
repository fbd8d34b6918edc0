"""Training sets in insightface's RecordIO format."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Optional

import numpy as np

from ppfacerec.core.log import logger, progress_bar
from ppfacerec.data.datasets.base import check_class_num
from ppfacerec.data.datasets.class_identity import ClassIdentity, hash_numbers, identity_by_samples
from ppfacerec.data.datasets.record_io import EXACT_NUMBERS, Record, RecordFile

_MOST_RECORDS = 1 << 40  # sanity limit: a damaged header may contain infinity


class RecordIODataset:
    """Images of insightface's ``train.rec`` (MS1M, Glint360K, CASIA), read without MXNet.

    Record 0 contains the number of images, and each record after the images the range of an identity's images, so that
    the labels are known without reading the images; an image's own label is compared when it is read. A file without
    this header record is read once completely for its labels.

    Args:
        root: the folder with the .rec and .idx files.
        prefix: base name of the files: "train" for train.rec.
        class_num: every label must be below it; None: no limit.

    Raises:
        ValueError: the files are damaged or do not belong together, with the byte; a label is not a class number.
    """

    paths: ClassVar = {"root": "folder"}

    @staticmethod
    def check(arguments: Mapping[str, Any]) -> Iterator[str]:
        """Yield problems of the arguments for the config check, without reading the records."""
        record = Path(arguments["root"]) / f"{arguments['prefix']}.rec"
        if record.parent.is_dir() and not record.is_file():
            yield f"root: the file {record} does not exist (relative paths start at {Path.cwd()})."

    def __init__(self, root: str, prefix: str = "train", class_num: Optional[int] = None) -> None:
        self._file = RecordFile(Path(root) / f"{prefix}.rec")
        announced = self._announced()
        if announced is None:
            self._positions = np.arange(len(self._file))
            self.labels = self._labels_of_records()
        else:
            self._positions = self._keys_between(1, announced[0])
            self.labels = self._labels_by_identity(*announced)
        self.num_classes = int(self.labels.max()) + 1
        check_class_num(self.num_classes, class_num, str(self._file.path))

    def __len__(self) -> int:
        return len(self._positions)

    def read(self, index: int) -> bytes:
        """Return the encoded image of a sample.

        Raises:
            ValueError: the record is damaged, or its label differs from that of its identity record.
        """
        position = int(self._positions[index])
        record = self._file.read(position)
        if record.labels[0] != self.labels[index]:
            raise ValueError(
                f"{self._file.where(position)}: its own label is {record.labels[0]:g}, but the file's identity records "
                f"assign it to class {self.labels[index]}."
            )
        return record.image

    def where(self, index: int) -> str:
        return self._file.where(int(self._positions[index]))

    def class_identity(self) -> ClassIdentity:
        """Return the identity of the classes, by the sizes of their records, as there are no names."""
        hashes = hash_numbers(self._file.sizes[self._positions])
        return identity_by_samples(hashes, self.labels, self.num_classes)

    def _announced(self) -> tuple[int, int] | None:
        """Return the end keys of images and of identities from the header record, None without one."""
        if self._file.keys[0] != 0:
            return None
        first = self._file.read(0)
        if len(first.labels) < 2 or first.image:
            return None
        ends = [label for label in first.labels[:2] if 0 <= label < _MOST_RECORDS]
        if len(ends) != 2:
            raise ValueError(
                f"{self._file.where(0)}: expected the numbers of images and identities, found "
                f"{first.labels[0]:g} and {first.labels[1]:g}. The file is damaged; get it again."
            )
        return int(ends[0]), int(ends[1])

    def _keys_between(self, begin: int, end: int) -> np.ndarray:
        """Return the positions of the keys from `begin` to below `end`; some may be missing."""
        positions = np.arange(*np.searchsorted(self._file.keys, [begin, end]))
        if not len(positions):
            raise ValueError(
                f"{self._file.idx_path} lists no record from {begin} to {end - 1}, which {self._file.path} refers to."
            )
        return positions

    def _labels_by_identity(self, images_end: int, identities_end: int) -> np.ndarray:
        """Return each image's label from the identity records; an identity's number is its label."""
        labels = np.full(len(self._positions), -1, np.int32)
        keys = self._file.keys[self._positions]
        for position in self._keys_between(images_end, identities_end):
            record = self._file.read(position)
            if len(record.labels) < 2:
                raise ValueError(
                    f"{self._file.where(position)}: expected an identity's first and last image, found none."
                )
            ends = np.asarray(record.labels[:2]).astype(np.int64)  # floats would make searchsorted copy all keys
            begin, end = np.searchsorted(keys, ends)
            labels[begin:end] = self._file.keys[position] - images_end
        if (labels < 0).any():
            orphan = self._positions[int(np.argmax(labels < 0))]
            raise ValueError(f"{self._file.where(orphan)} belongs to no identity in the file's identity records.")
        self._correct_rounded(labels, keys)
        first = self._file.read(int(self._positions[0]))
        return labels if first.labels[0] == labels[0] else self._labels_of_records()

    def _correct_rounded(self, labels: np.ndarray, keys: np.ndarray) -> None:
        """Read both labels at borders that float32 cannot represent exactly: they may be off by one (Glint360K)."""
        borders = np.flatnonzero(np.diff(labels)) + 1
        for border in borders[keys[borders] >= EXACT_NUMBERS]:
            for k in (border - 1, border):
                position = int(self._positions[k])
                labels[k] = self._class(self._file.read(position), position)

    def _labels_of_records(self) -> np.ndarray:
        """Return each image's label from its own record, reading the whole file."""
        logger.info("%s: reading all %d records for their labels.", self._file.path, len(self._positions))
        labels = np.empty(len(self._positions), np.int32)
        for i, position in enumerate(progress_bar(self._positions, len(labels), "Labels", "record")):
            labels[i] = self._class(self._file.read(int(position)), int(position))
        return labels

    def _class(self, record: Record, position: int) -> int:
        label = record.labels[0]
        if not 0 <= label < 1 << 31 or label != int(label):
            raise ValueError(f"{self._file.where(position)}: expected a class number 0, 1, 2, ..., found {label:g}.")
        return int(label)
