"""RecordIO, the format of MXNet's and insightface's data sets: train.rec has the records, train.idx their offsets.

A record has one or more parts; a part is the magic number, a word with its position in the record (3 bits) and its
length (29 bits), the data, and zero padding to a multiple of four bytes. Data is split at each magic number on a
multiple of four bytes, which is left out and inserted again when the parts are joined. The data of an image record is
the header ``IfQQ`` (number of labels, label, two ids), the labels if there are several, and the encoded image.
"""

import os
import re
import struct
import warnings
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from ppfacerec.core.io.user_files import open_regular

MAGIC = struct.pack("<I", 0xCED7230A)
EXACT_NUMBERS = 1 << 24  # numbers in headers are float32
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_HEADER = struct.Struct("<IfQQ")


class Record(NamedTuple):
    """Labels and image of one record."""

    labels: tuple[float, ...]
    image: bytes


class RecordFile:
    """Random access to the records of a .rec file.

    Reads with ``pread``, so that forked processes can share the open file. The .idx file must be beside the .rec file.

    Raises:
        ValueError: a file is missing or empty, the .idx file is malformed, or has offsets beyond the .rec file's end.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.idx_path = Path(path), Path(path).with_suffix(".idx")
        try:
            self._file = open_regular(self.path)
        except OSError as error:
            raise ValueError(f"{self.path}: cannot read the record file ({error.strerror}).") from error
        self._size = os.fstat(self._file.fileno()).st_size
        self.keys, self._offsets = _read_idx(self.idx_path)  # (M,) int64 each; keys ascend
        beyond = np.flatnonzero((self._offsets < 0) | (self._offsets > self._size - 8))
        if len(beyond):
            key, offset = self.keys[beyond[0]], self._offsets[beyond[0]]
            raise ValueError(
                f"{self.idx_path} lists record {key} at byte {offset}, but {self.path} has only {self._size} bytes: it "
                "is truncated, or the two files are from different sets. Get both again."
            )
        # A record ends where the next one starts, so one call reads it without reading its length first.
        ascending = np.append(np.sort(self._offsets), self._size)
        self._ends = ascending[np.searchsorted(ascending, self._offsets, "right")]

    def __len__(self) -> int:
        return len(self.keys)

    def where(self, position: int) -> str:
        """``"train.rec, record 17 (byte 4096)"`` for the record at a position in `keys`."""
        return f"{self.path}, record {self.keys[position]} (byte {self._offsets[position]})"

    @property
    def sizes(self) -> np.ndarray:
        """(M,) size of each record in bytes."""
        return self._ends - self._offsets

    def read(self, position: int) -> Record:
        """Read the record at a position in `keys`.

        Raises:
            ValueError: there is no record at that byte, or it is truncated; with the byte.
        """
        offset, end = int(self._offsets[position]), int(self._ends[position])
        data = self._join(os.pread(self._file.fileno(), end - offset, offset), position)
        if len(data) < _HEADER.size:
            self._fail(position, f"{len(data)} bytes are too few for the header of an image record")
        num_labels, label = _HEADER.unpack_from(data)[:2]
        if not num_labels:
            return Record((label,), data[_HEADER.size :])
        image = _HEADER.size + 4 * num_labels
        if len(data) < image:
            self._fail(position, f"its header declares {num_labels} labels, but it has {len(data)} bytes")
        return Record(struct.unpack_from(f"<{num_labels}f", data, _HEADER.size), data[image:])

    def _join(self, content: bytes, position: int) -> bytes:
        """Return the data of the record at the start of `content`."""
        parts: list[bytes] = []
        at = 0
        while True:
            content = self._at_least(at + 8, content, position)
            if content[at : at + 4] != MAGIC:
                found = content[at : at + 4]
                at_byte = f" part {len(parts) + 1}, byte {self._offsets[position] + at}:" if parts else ""
                what = "expected the magic number 0a23d7ce" if found else "the file ends"
                self._fail(position, f"{at_byte} {what}, found {found.hex() or 'nothing'}".strip())
            kind, length = divmod(int.from_bytes(content[at + 4 : at + 8], "little"), 1 << 29)
            if kind not in ((_MIDDLE, _LAST) if parts else (_WHOLE, _FIRST)):
                self._fail(position, f"part {len(parts) + 1} is marked {kind}, which is not allowed there")
            content = self._at_least(at + 8 + length, content, position)
            if at + 8 + length > len(content):
                self._fail(position, f"{length} bytes declared, {len(content) - at - 8} found; the file is truncated")
            parts.append(content[at + 8 : at + 8 + length])
            if kind in (_WHOLE, _LAST):
                return MAGIC.join(parts)
            at += 8 + length + -length % 4

    def _at_least(self, size: int, content: bytes, position: int) -> bytes:
        """Return at least `size` bytes of a record, if available; a wrong index line can make `content` too short."""
        if size <= len(content):
            return content
        offset = int(self._offsets[position])
        return os.pread(
            self._file.fileno(), min(size, self._size - offset), offset
        )  # `pread` allocates the requested size

    def _fail(self, position: int, what: str) -> NoReturn:
        raise ValueError(
            f"{self.where(position)}: {what}. {self.path.name} is damaged, or {self.idx_path.name} belongs to another "
            "file; get both again."
        )


def _read_idx(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read ascending keys and their offsets from an index with lines ``key<TAB>offset``."""
    try:
        file = open_regular(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot read the index of the record file ({error.strerror}).") from error
    try:
        with file, warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns about what is not a number
            numbers = np.fromfile(file, np.int64, sep=" ")
    except (DeprecationWarning, ValueError) as error:
        raise ValueError(f"{path} is not an index: expected lines 'key<TAB>byte' of whole numbers.") from error
    if not len(numbers) or len(numbers) % 2:
        raise ValueError(f"{path} is not an index: expected lines 'key<TAB>byte', found {len(numbers)} numbers.")
    keys, offsets = numbers[0::2], numbers[1::2]
    if not (keys[:-1] < keys[1:]).all():
        order = np.argsort(keys, kind="stable")
        keys, offsets = keys[order], offsets[order]
        twice = np.flatnonzero(keys[:-1] == keys[1:])
        if len(twice):
            raise ValueError(f"{path}: record {keys[twice[0]]} is listed twice.")
    return keys, offsets


def pack(labels: tuple[float, ...], image: bytes, key: int) -> bytes:
    """Return the data of an image record: one label is in the header itself, several follow it."""
    if len(labels) == 1:
        return _HEADER.pack(0, labels[0], key, 0) + image
    return _HEADER.pack(len(labels), 0, key, 0) + struct.pack(f"<{len(labels)}f", *labels) + image


def frame(data: bytes) -> bytes:
    """Return the bytes of a complete record with `data`."""
    cuts = [match.start() for match in re.finditer(re.escape(MAGIC), data) if match.start() % 4 == 0]
    begins, ends = [0, *(cut + 4 for cut in cuts)], [*cuts, len(data)]
    framed = []
    for i, (begin, end) in enumerate(zip(begins, ends)):
        kind = _WHOLE if not cuts else _FIRST if i == 0 else _LAST if i == len(cuts) else _MIDDLE
        length = end - begin
        framed += [MAGIC, struct.pack("<I", kind << 29 | length), data[begin:end], bytes(-length % 4)]
    return b"".join(framed)
