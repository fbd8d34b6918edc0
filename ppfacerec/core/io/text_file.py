"""Text files of users: lists of images, pairs and labels, configs. One rule for encodings, comments and quotes.

UTF-8 with or without a byte order mark, and UTF-16 with one, are read; anything else is an error with its line. Lines
end with LF or CRLF. Blank lines and lines that begin with "# " are skipped; "#1.jpg" is a name. Quotes are not removed,
so a line that begins with one is an error. A backslash is part of a name.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import NoReturn, Union

from ppfacerec.core.io.user_files import open_regular

Path = Union[str, "os.PathLike[str]"]
BLANKS = " \t\r"  # stripped from both ends of a line; other Unicode spaces are part of names
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")


def read_text(path: Path, what: str = "file") -> str:
    """Read a whole text file, described as `what` in a ValueError if it is missing, not regular or not UTF-8 or -16."""
    try:
        with open_regular(path) as file:
            data = file.read()
    except OSError as error:
        raise ValueError(f"{path}: cannot read the {what} ({error.strerror}).") from error
    data = without_mark(data, path)
    check_utf8(data, path)
    return data.decode("utf-8")


def without_mark(data: bytes, path: Path) -> bytes:
    """Return a text's bytes without byte order mark; UTF-16 is converted to UTF-8."""
    if not data.startswith(_UTF16_MARKS):
        return data.removeprefix(_UTF8_MARK)
    try:
        return data.decode("utf-16").encode("utf-8")
    except UnicodeError as error:
        raise ValueError(f"{path} begins like UTF-16, but is not valid UTF-16 ({error}). Save it as UTF-8.") from error


def check_utf8(data: bytes, path: Path, first_line: int = 1) -> None:
    """Raise a ValueError with the line that is not UTF-8; `data` begins at line `first_line` of the file."""
    try:
        data.decode("utf-8")
        at, reason = data.find(b"\0"), "a NUL byte, as in UTF-16 without a byte order mark"
    except UnicodeDecodeError as error:
        at, reason = error.start, error.reason
    if at < 0:
        return
    number = first_line + data.count(b"\n", 0, at)
    line = data[data.rfind(b"\n", 0, at) + 1 :].partition(b"\n")[0].rstrip(b"\r")
    hint = "Save the file as UTF-8."
    if b"\0" not in line:
        with suppress(UnicodeDecodeError):
            as_gbk = line.decode("gb18030")
            hint = f"Read as GBK it is {as_gbk[:80]!r}: `iconv -f GBK -t UTF-8` converts it."
    fail(path, number, f"{line[:80]!r} is not UTF-8 ({reason}). {hint}")


def read_lines(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """Yield number (from 1) and stripped text of every line not skipped; a leading quote raises a ValueError."""
    for number, line in enumerate(read_text(path, what).split("\n"), 1):
        text = line.strip(BLANKS)
        if text.startswith('"'):
            fail(path, number, quoted(text))
        if text and text != "#" and not text.startswith(("# ", "#\t")):
            yield number, text


def quoted(text: str) -> str:
    """Describe what is wrong with a line that begins with a quote."""
    return f"{text[:80]!r} begins with a quote, which would be part of the name. Write it without quotes."


def separator_hint(text: str, separator: str) -> str:
    """Return a sentence about separators found instead of the expected one, or ""."""
    there = [repr(c) for c in "\t ,;" if c in text and c != separator]
    return f" The line has {' and '.join(there)}; set `delimiter` to it." if there else ""


def backslash_hint(name: str) -> str:
    """Return a sentence about a path in Windows notation, or ""."""
    return " It has backslashes: write paths with '/'." if "\\" in name else ""


def fail(path: Path, line: int, what: str) -> NoReturn:
    """Raise a ValueError about a line."""
    raise ValueError(f"{path}, line {line}: {what}")
