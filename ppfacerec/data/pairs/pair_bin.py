"""`.bin` verification sets: a pickle of (encoded images, is_same); images 2i and 2i + 1 are pair i.

An image is a Python 2 string (`lfw.bin` of insightface), bytes, or a NumPy uint8 array.
"""

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from ppfacerec.core.io import safe_pickle
from ppfacerec.core.io.atomic_file import atomic_write

PathLike = Union[str, "os.PathLike[str]"]
EXPECTED = "Expected a pickle of (list of 2N encoded images, list of N booleans). Get or make the file again."


@dataclass(frozen=True, eq=False)
class PairBin:
    """Pairs of face images, each distinct image kept once; ``len()`` is the number of pairs."""

    path: str
    images: tuple[bytes, ...]  # distinct encoded images, in order of first appearance
    index: np.ndarray  # (2N,) int64: position of entry k in `images`; entries 2i and 2i + 1 are pair i
    is_same: np.ndarray  # (N,) bool
    num_folds: int | None = None  # not in a .bin
    identities: Sequence[str] | None = None  # not in a .bin

    @property
    def num_images(self) -> int:
        return len(self.images)

    def read(self, image: int) -> bytes:
        return self.images[image]

    def __len__(self) -> int:
        return len(self.is_same)

    def where(self, image: int) -> str:
        """Return the location of a distinct image for messages: "lfw.bin, entry 17 (pair 8)"."""
        entry = int(np.argmax(self.index == image))
        return f"{self.path}, entry {entry} (pair {entry // 2})"


def read_bin(path: PathLike) -> PairBin:
    """Read an untrusted `.bin` file; images are decoded later (`images.decode_rgb`).

    Raises:
        ValueError: empty, truncated, not a pickle, a pickle with imports, or not pairs of images with their labels.
    """
    entries, labels = _two_lists(safe_pickle.load(path), str(path))
    is_same = _checked_labels(labels, str(path))
    if len(entries) != 2 * len(is_same):
        raise ValueError(
            f"{path} has {len(entries)} images and {len(is_same)} labels, expected two images per label. {EXPECTED}"
        )
    numbers: dict[bytes, int] = {}
    index = [numbers.setdefault(_entry_bytes(e, k, str(path)), len(numbers)) for k, e in enumerate(entries)]
    return PairBin(str(path), tuple(numbers), np.array(index, dtype=np.int64), is_same)


def write_bin(path: PathLike, images: Sequence[bytes], is_same: Sequence[bool] | np.ndarray) -> None:
    """Write pairs of encoded images (2i and 2i + 1 are pair i) for insightface, PaddleClas and this package.

    Protocol 4 can be read by any Python 3 and stores bytes unchanged. The file is written completely or not at all.

    Raises:
        ValueError: images are not bytes, labels are not booleans, not two images per label, or no pair.
    """
    labels = _checked_labels(is_same, str(path))
    entries = [_entry_bytes(image, k, str(path)) for k, image in enumerate(images)]
    if len(entries) != 2 * len(labels) or not entries:
        raise ValueError(
            f"{path} would have {len(entries)} images and {len(labels)} labels, expected two images per label, and at "
            "least one pair."
        )
    with atomic_write(path) as file:
        pickle.dump((entries, labels.tolist()), file, protocol=4)


def _two_lists(content: Any, path: str) -> tuple[Sequence[Any], Sequence[Any]]:
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise ValueError(f"{path}: found {_kind(content)}. {EXPECTED}")
    for part in content:
        if not isinstance(part, (tuple, list)) and not (isinstance(part, np.ndarray) and part.ndim):
            raise ValueError(f"{path}: found {_kind(content)} with {_kind(part)} in it. {EXPECTED}")
    if not len(content[0]) and not len(content[1]):
        raise ValueError(f"{path} holds no pairs. {EXPECTED}")
    return content[0], content[1]


def _kind(value: Any) -> str:
    has_length = isinstance(value, (tuple, list, dict, bytes, str))
    return f"{type(value).__name__} of {len(value)}" if has_length else type(value).__name__


def _checked_labels(labels: Sequence[Any] | np.ndarray, path: str) -> np.ndarray:
    for k, label in enumerate(labels):
        if not isinstance(label, (bool, int, float, np.bool_, np.number)) or label not in (0, 1):
            is_short = type(label) in (int, float) and -1e9 < label < 1e9
            shown = str(label) if is_short else _kind(label)
            raise ValueError(f"{path}: label {k}: expected True or False, found {shown}. {EXPECTED}")
    return np.array([bool(label) for label in labels], dtype=bool)


def _entry_bytes(entry: Any, k: int, path: str) -> bytes:
    if isinstance(entry, np.ndarray) and entry.dtype == np.uint8 and entry.size == max(entry.shape, default=0):
        return entry.tobytes()
    if isinstance(entry, (bytes, bytearray)):
        return bytes(entry)
    raise ValueError(
        f"{path}: entry {k} (pair {k // 2}): expected the bytes of an encoded image or a uint8 array of them, found "
        f"{_kind(entry)}. {EXPECTED}"
    )
