"""Pair lists of images in a folder: PaddleClas's `left right 0|1`, and LFW's pairs.txt."""

import re

from ppfacerec.core.io.text_file import BLANKS, fail, read_lines, separator_hint
from ppfacerec.data.pairs.pair_set import FolderPairs, ListedPair, folder_pairs


def read_pair_list(path: str, root: str, delimiter: str | None = None) -> FolderPairs:
    """Read PaddleClas's pair list with two image paths and 1 (same person) or 0 in a line.

    Args:
        root: the folder that the image paths are relative to.
        delimiter: None: a tab if the first line has one, else blanks.

    Raises:
        ValueError: a malformed line, no line, an image that is missing or outside of `root`; with the line.
    """
    pairs = []
    for line, text in read_lines(path, "pair list"):
        if not delimiter:
            delimiter = "\t" if "\t" in text else " "
        fields = _fields(text, delimiter)
        if len(fields) != 3 or not all(fields):
            hint = separator_hint(text, delimiter)
            fail(path, line, f"expected 'left{delimiter!r}right{delimiter!r}0 or 1', found {text[:80]!r}.{hint}")
        if fields[2] not in ("0", "1"):
            fail(path, line, f"expected 1 (same person) or 0 at the end, found {fields[2][:40]!r}.")
        pairs.append(ListedPair(line, fields[0], fields[1], fields[2] == "1"))
    return folder_pairs(path, root, pairs)


def is_lfw_list(path: str) -> bool:
    """Return whether a pair list is LFW's pairs.txt: its first line has only one or two numbers."""
    _, text = next(read_lines(path, "pair list"), (1, ""))
    return len(text.split()) in (1, 2) and all(map(_is_number, text.split()))


def read_lfw_pairs(path: str, root: str, suffix: str = ".jpg") -> FolderPairs:
    """Read LFW's pairs.txt (Huang et al., Labeled Faces in the Wild, UMass TR 07-49; README of the data set).

    Its first line, ``10<TAB>300``, declares ten folds of 300 pairs of one person, ``name i j``, followed by 300 pairs
    of two persons, ``name i other j``. Image 1 of a person is ``name/name_0001.jpg``. A first line with one number N
    (pairsDevTest.txt) declares N and N pairs without folds.

    Raises:
        ValueError: a malformed line, a wrong number of lines, an image missing or outside of `root`; with the line.
    """
    lines = read_lines(path, "pair list")
    num_folds, each = _header(path, *next(lines, (1, "")))
    expected = 2 * each * (num_folds or 1)
    pairs: list[ListedPair] = []
    for line, text in lines:
        (left, i), (right, j), is_same = _two_people(path, line, text)
        if len(pairs) < expected and is_same != (len(pairs) % (2 * each) < each):
            kinds = ("'name i other j', images of two people,", "'name i j', two images of one person,")
            fail(path, line, f"expected {kinds[not is_same]} as counted by the first line, found {text[:80]!r}.")
        names = [f"{person}/{person}_{number:04d}{suffix}" for person, number in ((left, i), (right, j))]
        pairs.append(ListedPair(line, names[0], names[1], is_same))
    if len(pairs) != expected:
        raise ValueError(
            f"{path}: {len(pairs)} pairs, but its first line declares {expected}: {num_folds or 1} x {each} of one "
            "person and as many of two. Get the file again."
        )
    return folder_pairs(path, root, pairs, num_folds)


def _header(path: str, line: int, text: str) -> tuple[int | None, int]:
    """Return (folds, pairs of each kind in a fold)."""
    numbers = [int(field) for field in text.split() if _is_number(field)]
    if len(numbers) != len(text.split()) or len(numbers) not in (1, 2) or 0 in numbers:
        fail(path, line, f"expected the numbers of folds and pairs, such as '10<TAB>300', found {text[:80]!r}.")
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (None, numbers[0])


def _two_people(path: str, line: int, text: str) -> tuple[tuple[str, int], tuple[str, int], bool]:
    fields = _fields(text, "\t" if "\t" in text else " ")
    numbers = [int(field) if _is_number(field) else None for field in fields]
    if len(fields) == 3 and numbers[1] is not None and numbers[2] is not None:
        return (fields[0], numbers[1]), (fields[0], numbers[2]), True
    if len(fields) == 4 and numbers[1] is not None and numbers[3] is not None:
        return (fields[0], numbers[1]), (fields[2], numbers[3]), False
    fail(path, line, f"expected 'name i j' or 'name i other j', found {text[:80]!r}.")


def _fields(text: str, delimiter: str) -> list[str]:
    return re.split(r"[ \t]+", text) if delimiter == " " else [field.strip(BLANKS) for field in text.split(delimiter)]


def _is_number(field: str) -> bool:
    return field.isascii() and field.isdigit() and len(field) < 10  # Python does not parse thousands of digits
