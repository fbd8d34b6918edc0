"""label.txt: one `path<TAB>class` a line, read in one pass without a Python object a line.

MS1MV3's has 5.18 million lines: the text stays one byte buffer, a sample is an offset, a length and a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Optional, Union

import numpy as np

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_NEWLINE, _RETURN, _SPACE = ord("\n"), ord("\r"), ord(" ")


class LabelFile:
    """The samples of a label file, in its order.

    Args:
        path: the file; UTF-8, LF or CRLF, with or without a newline at its end. Blank lines are skipped.
        delimiter: between path and class; None finds out: a tab if the first line has one, else spaces.
        class_num: the labels must be below it; None takes any.

    Attributes:
        labels: (N,) int32.
        lines: (N,) int32, line number in the file, from 1.
        num_skipped: lines that name no image (.DS_Store, ...).

    Raises:
        ValueError: no sample, a line without delimiter, a label that is no integer or out of range; with file and line.
    """

    def __init__(
        self, path: Union[str, Path], delimiter: Optional[str] = None, class_num: Optional[int] = None
    ) -> None:
        self.path = Path(path)
        self._text = np.fromfile(self.path, np.uint8)
        starts, ends, lines = self._lines()
        if not len(starts):
            raise ValueError(f"{self.path}: no line in it. Expected lines such as 'images/00000001.jpg<TAB>0'.")
        separator = self._separator(delimiter, starts[0], ends[0])
        cuts = self._last_separator(separator, starts, ends, lines)
        labels = self._integers(cuts + 1, ends, lines)
        name_ends = self._strip_spaces(starts, cuts) if separator == _SPACE else cuts
        images = self._are_images(starts, name_ends)
        self.num_skipped = int(len(images) - images.sum())
        self._starts, self._lengths = starts[images], (name_ends - starts)[images].astype(np.int32)
        self.labels, self.lines = labels[images].astype(np.int32), lines[images].astype(np.int32)
        if not len(self.labels):
            raise ValueError(f"{self.path}: none of its {len(images)} lines names an image {IMAGE_SUFFIXES}.")
        self._check_range(class_num)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Path of sample `index` as it stands in the file."""
        start = self._starts[index]
        return self._text[start : start + self._lengths[index]].tobytes().decode("utf-8")

    def where(self, index: int) -> str:
        """``"label.txt, line 7 (images/x.jpg)"``: how to name a sample to a person."""
        return f"{self.path}, line {self.lines[index]} ({self.name(index)})"

    @property
    def num_classes(self) -> int:
        """Largest label + 1."""
        return int(self.labels.max()) + 1

    def _lines(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Start, end and number of every line that is not blank, without its line break and blanks at its end."""
        breaks = np.flatnonzero(self._text == _NEWLINE)
        starts = np.concatenate([[0], breaks + 1])
        ends = np.concatenate([breaks, [len(self._text)]])
        while True:  # CR, and blanks before it: a few rounds, each over all lines
            trailing = (ends > starts) & np.isin(self._text[np.maximum(ends - 1, 0)] if len(self._text) else 0, _BLANKS)
            if not trailing.any():
                break
            ends = ends - trailing
        full = ends > starts
        return starts[full], ends[full], np.flatnonzero(full) + 1

    def _separator(self, delimiter: Optional[str], start: int, end: int) -> int:
        if delimiter is not None:
            if delimiter not in ("\t", " ", ",", ";"):
                raise ValueError(f"delimiter: expected a tab, a space, a comma or a semicolon, got {delimiter!r}.")
            return ord(delimiter)
        return ord("\t") if (self._text[start:end] == ord("\t")).any() else _SPACE

    def _last_separator(self, separator: int, starts: np.ndarray, ends: np.ndarray, lines: np.ndarray) -> np.ndarray:
        positions = np.flatnonzero(self._text == separator)
        nearest = np.searchsorted(positions, ends) - 1  # last one before the line's end
        cuts = positions[nearest] if len(positions) else np.full(len(starts), -1)
        without = np.flatnonzero((nearest < 0) | (cuts <= starts))
        if len(without):
            first = without[0]
            there = [repr(c) for c in "\t ,;" if ord(c) in self._text[starts[first] : ends[first]]]
            hint = f" The line has {' and '.join(there)}; set `delimiter` to it." if there else ""
            self._fail(
                int(lines[first]),
                f"expected 'path{chr(separator)!r}class', found {self._show(starts, ends, first)}.{hint}",
            )
        return cuts

    def _integers(self, starts: np.ndarray, ends: np.ndarray, lines: np.ndarray) -> np.ndarray:
        """Parse the digits from `starts` to `ends` of all lines at once, a column of digits at a time."""
        while True:  # blanks between the delimiter and the number
            blank = (starts < ends) & np.isin(self._text[np.minimum(starts, len(self._text) - 1)], _BLANKS)
            if not blank.any():
                break
            starts = starts + blank
        values = np.zeros(len(starts), np.int64)
        widths = ends - starts
        for column in range(int(min(widths.max(), 10))):
            inside = column < widths
            digit = self._text[np.where(inside, starts + column, 0)].astype(np.int64) - ord("0")
            bad = np.flatnonzero(inside & ((digit < 0) | (digit > 9)))
            if len(bad):
                self._not_a_class(starts, ends, lines, bad[0])
            values = np.where(inside, values * 10 + digit, values)
        bad = np.flatnonzero((widths == 0) | (widths > 10) | (values > np.iinfo(np.int32).max))
        if len(bad):
            self._not_a_class(starts, ends, lines, bad[0])
        return values

    def _not_a_class(self, starts: np.ndarray, ends: np.ndarray, lines: np.ndarray, i: int) -> NoReturn:
        self._fail(int(lines[i]), f"expected a class number 0, 1, 2, ..., found {self._show(starts, ends, i)}.")

    def _strip_spaces(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Several spaces may stand between path and class."""
        while True:
            blank = (ends > starts) & (self._text[ends - 1] == _SPACE)
            if not blank.any():
                return ends
            ends = ends - blank

    def _are_images(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        images = np.zeros(len(starts), bool)
        for suffix in IMAGE_SUFFIXES:
            same = ends - starts > len(suffix)
            for k, letter in enumerate(reversed(suffix), 1):
                lower = self._text[np.maximum(ends - k, 0)] | (0x20 if letter.isalpha() else 0)
                same &= lower == ord(letter)
            images |= same
        return images

    def _check_range(self, class_num: Optional[int]) -> None:
        if class_num is not None and self.num_classes > class_num:
            first = int(np.argmax(self.labels >= class_num))
            self._fail(
                int(self.lines[first]),
                f"label {self.labels[first]} is out of range for class_num {class_num}; the file's labels need "
                f"Arch.Head.class_num: {self.num_classes}.",
            )

    def _show(self, starts: np.ndarray, ends: np.ndarray, i: int) -> str:
        return repr(self._text[starts[i] : min(ends[i], starts[i] + 80)].tobytes().decode("utf-8", "replace"))

    def _fail(self, line: int, what: str) -> NoReturn:
        raise ValueError(f"{self.path}, line {line}: {what}")


_BLANKS: Sequence[int] = (_RETURN, _SPACE, ord("\t"))
