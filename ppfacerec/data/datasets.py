"""Where training samples come from: images with classes."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Protocol

import numpy as np

from ppfacerec.data.label_file import LabelFile


class TrainDataset(Protocol):
    """What the loader asks of a training set."""

    labels: np.ndarray
    num_classes: int

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """Encoded image of a sample."""

    def where(self, index: int) -> str:
        """How to name a sample to a person."""


class ImageNetDataset:
    """Images listed in a label file, `path<TAB>class` a line (PaddleClas's name for MS1MV3's form).

    Args:
        image_root: the folder that the paths are relative to.
        cls_label_path: the label file.
        delimiter: between path and class; None finds it out from the file.
        class_num: every label must be below it.

    Raises:
        ValueError: the label file is not as expected; with file and line.
    """

    def __init__(
        self,
        image_root: str,
        cls_label_path: str,
        delimiter: Optional[str] = None,
        class_num: Optional[int] = None,
    ) -> None:
        self._root = Path(image_root)
        self._file = LabelFile(cls_label_path, delimiter, class_num)
        self.labels = self._file.labels
        self.num_classes = self._file.num_classes
        self.num_skipped = self._file.num_skipped

    def __len__(self) -> int:
        return len(self._file)

    def read(self, index: int) -> bytes:
        """Encoded image of a sample.

        Raises:
            ValueError: the file cannot be read.
        """
        path = self._root / self._file.name(index)
        try:
            return path.read_bytes()
        except OSError as error:
            raise ValueError(
                f"{self._file.where(index)}: cannot read {path} ({error.strerror}). Is image_root '{self._root}' right?"
            ) from error

    def where(self, index: int) -> str:
        return self._file.where(index)
