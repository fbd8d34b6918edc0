"""A file that appears whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, Union


@contextmanager
def written_whole(path: Union[str, os.PathLike[str]]) -> Iterator[BinaryIO]:
    """Open a file beside `path` that takes its place once everything is on disk."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def text_written_whole(path: Union[str, os.PathLike[str]]) -> Iterator[TextIO]:
    """The same for text, in UTF-8."""
    with written_whole(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
        yield text
        text.flush()
        text.detach()  # the file is closed by whoever opened it
