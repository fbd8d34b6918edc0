"""Label files with lines `path<TAB>class`, parsed in one pass without a Python object per line.

MS1MV3 has 5.18 million lines: the text stays one byte buffer, a sample is an offset, a length and a label. Parsing is
vectorised over the lines of a chunk, so that the working arrays fit into the CPU cache and do not add to the memory.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from ppfacerec.core.io.text_file import check_utf8, fail, quoted, separator_hint, without_mark
from ppfacerec.core.io.user_files import IMAGE_SUFFIXES, open_regular
from ppfacerec.data.datasets.class_identity import hash_texts

_NEWLINE, _SPACE, _HASH, _QUOTE = map(ord, '\n #"')
_IS_BLANK = np.zeros(256, bool)
_IS_BLANK[[ord("\r"), ord("\t"), _SPACE]] = True
_CHUNK = 1 << 20  # bytes of text per chunk


class LabelFile:
    """Samples of a label file in file order; for the arguments see ``ImageNetDataset``.

    UTF-8, LF or CRLF, final newline optional, blank lines skipped. Default delimiter: a tab if the first line has one.

    Attributes:
        labels: (N,) int32.
        lines: (N,) int32, line number in the file, from 1.
        num_skipped: lines that name no image (.DS_Store, ...).

    Raises:
        ValueError: no sample, no delimiter, a bad label, a path outside of the image folder; with file and line.
    """

    def __init__(
        self,
        path: str | Path,
        delimiter: str | None = None,
        class_num: int | None = None,
        allow_outside: bool = False,
    ) -> None:
        if delimiter not in (None, "\t", " ", ",", ";"):
            raise ValueError(f"delimiter: expected a tab, a space, a comma or a semicolon, got {delimiter!r}.")
        self.path = Path(path)
        try:
            with open_regular(self.path) as file:
                self._bytes = without_mark(file.read(), self.path)
        except OSError as error:
            raise ValueError(f"{self.path}: cannot read the label file ({error.strerror}).") from error
        self._text = np.frombuffer(self._bytes, np.uint8)
        self._separator = ord(delimiter) if delimiter else None
        self._allow_outside = allow_outside
        self._read()
        if class_num is not None and self.num_classes > class_num:
            first = int(np.argmax(self.labels >= class_num))
            self._fail(
                self.lines[first],
                f"label {self.labels[first]} is out of range for class_num {class_num}; the file's labels need "
                f"Arch.Head.class_num: {self.num_classes}, or relabel: True if they have gaps or start at 1.",
            )

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Return the path of sample `index` as written in the file."""
        start = self._starts[index]
        return self._bytes[start : start + self._lengths[index]].decode("utf-8")

    def name_hashes(self) -> np.ndarray:
        """(N,) uint64, a hash of each sample's path."""
        return hash_texts(self._text, self._starts, self._lengths)

    def where(self, index: int) -> str:
        """``"label.txt, line 7 (images/x.jpg)"``, for messages."""
        return f"{self.path}, line {self.lines[index]} ({self.name(index)})"

    @property
    def num_classes(self) -> int:
        """Largest label + 1."""
        return int(self.labels.max()) + 1

    def _read(self) -> None:
        """Parse chunk by chunk into preallocated arrays: a list of parts would need twice the memory."""
        most = 1 + self._bytes.count(b"\n")
        self._starts, self._lengths = np.empty(most, np.int64), np.empty(most, np.int32)
        self.labels, self.lines = np.empty(most, np.int32), np.empty(most, np.int32)
        count = num_full = passed = 0
        for begin, end in self._chunks():
            text = self._bytes[begin:end]
            if not text.isascii() or b"\0" in text:
                check_utf8(text, self.path, passed + 1)
            starts, ends, lines, in_chunk = self._lines(begin, end, passed)
            passed += in_chunk
            num_full += len(starts)
            if not len(starts):
                continue
            names, labels, lengths, lines = self._samples(begin, end, starts, ends, lines)
            part = slice(count, count + len(names))
            self._starts[part], self._lengths[part] = names, lengths
            self.labels[part], self.lines[part] = labels, lines
            count += len(names)
        if not num_full:
            raise ValueError(f"{self.path}: no lines found. Expected lines such as 'images/00000001.jpg<TAB>0'.")
        if not count:
            raise ValueError(f"{self.path}: none of its {num_full} lines names an image {IMAGE_SUFFIXES}.")
        self.num_skipped = num_full - count
        self._starts, self._lengths = self._starts[:count], self._lengths[:count]
        self.labels, self.lines = self.labels[:count], self.lines[:count]

    def _chunks(self) -> Iterator[tuple[int, int]]:
        """Yield begin and end of chunks of whole lines."""
        begin = 0
        while begin < len(self._bytes):
            end = self._bytes.find(b"\n", begin + _CHUNK - 1) + 1 or len(self._bytes)
            yield begin, end
            begin = end

    def _lines(self, begin: int, end: int, passed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Return starts, ends without trailing blanks and numbers of the kept lines, and the count of all lines."""
        breaks = np.flatnonzero(self._text[begin:end] == _NEWLINE) + begin
        starts = np.concatenate([[begin], breaks + 1])
        ends = np.concatenate([breaks, [end]])
        ends = self._without_blanks(starts, ends, _IS_BLANK)
        full = ends > starts
        first = self._text[np.minimum(starts, len(self._text) - 1)]
        if (first == _HASH).any():  # comments "# text" and "#", as in text_file
            second = self._text[np.minimum(starts + 1, len(self._text) - 1)]
            full &= (first != _HASH) | ((ends > starts + 1) & ~_IS_BLANK[second])
        for k in np.flatnonzero(full & (first == _QUOTE)):
            self._fail(int(k) + 1 + passed, quoted(self._decode(starts[k], ends[k])))
        return starts[full], ends[full], np.flatnonzero(full) + 1 + passed, len(breaks)

    def _without_blanks(self, starts: np.ndarray, ends: np.ndarray, is_blank: np.ndarray) -> np.ndarray:
        """Strip trailing blanks from all lines, one per line and round."""
        while True:
            trailing = (ends > starts) & is_blank[self._text[ends - 1]]
            if not trailing.any():
                return ends
            ends = ends - trailing

    def _samples(
        self, begin: int, end: int, starts: np.ndarray, ends: np.ndarray, lines: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return path start, label, path length and line number of the lines that name images."""
        if self._separator is None:
            has_tab = (self._text[starts[0] : ends[0]] == ord("\t")).any()
            self._separator = ord("\t") if has_tab else _SPACE
        cuts = self._last_separator(begin, end, starts, ends, lines)
        labels = self._integers(cuts + 1, ends, lines)
        name_ends = self._without_blanks(starts, cuts, _IS_BLANK) if self._separator == _SPACE else cuts
        images = self._are_images(starts, name_ends)
        starts, name_ends, lines = starts[images], name_ends[images], lines[images]
        if not self._allow_outside:
            self._check_inside(begin, end, starts, name_ends, lines)
        return starts, labels[images], name_ends - starts, lines

    def _last_separator(
        self, begin: int, end: int, starts: np.ndarray, ends: np.ndarray, lines: np.ndarray
    ) -> np.ndarray:
        assert self._separator is not None
        positions = np.flatnonzero(self._text[begin:end] == self._separator) + begin
        nearest = np.searchsorted(positions, ends) - 1  # last one before the line's end
        cuts = positions[nearest] if len(positions) else np.full(len(starts), -1)
        without = np.flatnonzero((nearest < 0) | (cuts <= starts))
        if len(without):
            first = without[0]
            hint = separator_hint(self._decode(starts[first], ends[first]), chr(self._separator))
            self._fail(
                lines[first],
                f"expected 'path{chr(self._separator)!r}class', found {self._show(starts[first], ends[first])}.{hint}",
            )
        return cuts

    def _integers(self, starts: np.ndarray, ends: np.ndarray, lines: np.ndarray) -> np.ndarray:
        """Parse the digits from `starts` to `ends` of all lines at once, one column of digits at a time."""
        while True:  # blanks between the delimiter and the number
            blank = (starts < ends) & _IS_BLANK[self._text[np.minimum(starts, len(self._text) - 1)]]
            if not blank.any():
                break
            starts = starts + blank
        values = np.zeros(len(starts), np.int64)
        widths = ends - starts
        bad = (widths == 0) | (widths > 10)
        for column in range(int(min(widths.max(), 10))):
            inside = column < widths
            digit = self._text[np.where(inside, starts + column, 0)] - np.uint8(ord("0"))  # wraps below "0"
            bad |= inside & (digit > 9)
            values = np.where(inside, values * 10 + digit, values)
        bad |= values > np.iinfo(np.int32).max
        if bad.any():
            first = int(np.argmax(bad))
            self._fail(
                lines[first],
                f"expected a class number 0, 1, 2, ..., found {self._show(starts[first], ends[first])}.",
            )
        return values

    def _are_images(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        images = np.zeros(len(starts), bool)
        for suffix in IMAGE_SUFFIXES:
            same = ends - starts > len(suffix)
            for k, letter in enumerate(reversed(suffix), 1):
                lower = self._text[np.maximum(ends - k, 0)] | (0x20 if letter.isalpha() else 0)
                same &= lower == ord(letter)
            images |= same
            if images.all():
                break
        return images

    def _check_inside(self, begin: int, end: int, starts: np.ndarray, ends: np.ndarray, lines: np.ndarray) -> None:
        """Reject ``/etc/x.jpg`` and ``a/../../x.jpg``: an untrusted label file must not choose what is read."""
        outside = self._text[starts] == ord("/")
        text = self._text[begin:end]
        for at in np.flatnonzero((text[:-1] == ord(".")) & (text[1:] == ord("."))) + begin:
            line = int(np.searchsorted(starts, at, "right")) - 1
            if line >= 0 and at < ends[line]:
                outside[line] |= ".." in self._decode(starts[line], ends[line]).split("/")
        if outside.any():
            first = int(np.argmax(outside))
            self._fail(
                lines[first],
                f"the path {self._decode(starts[first], ends[first])!r} leaves the image folder. Write paths relative "
                "to it, or set allow_outside: True if you trust the file.",
            )

    def _decode(self, start: int, end: int) -> str:
        return self._bytes[start:end].decode("utf-8", "replace")

    def _show(self, start: int, end: int) -> str:
        return repr(self._decode(start, min(end, start + 80)))

    def _fail(self, line: int, what: str) -> NoReturn:
        fail(self.path, line, what)
