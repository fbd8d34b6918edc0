"""Read one pickle from a file or from bytes; errors describe what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from ppfacerec.core.io.safe_pickle.limits import BadPickleError
from ppfacerec.core.io.safe_pickle.machine import Machine, UnsafePickleError
from ppfacerec.core.io.user_files import open_regular


def load(path: str | os.PathLike[str]) -> Any:
    """Read one pickle from a file; arrays are read-only views of its bytes, strings of Python 2 are returned as bytes.

    Raises:
        UnsafePickleError: it names something that is not plain data or a NumPy array; nothing has been run.
        ValueError: empty, truncated, damaged, or no pickle.
    """
    with open_regular(path) as file:
        return run(Source(file, os.fstat(file.fileno()).st_size), str(path))


def run(source: Source, where: str, encoding: str = "bytes", machine: Callable[[str, int], Machine] = Machine) -> Any:
    """Read a pickle at the source's position, as `load`; `encoding` decodes Python 2's strings ("bytes": keep them)."""
    if not source.left:
        raise ValueError(f"{where} is empty (0 bytes). Copy, download or write it again.")
    try:
        return machine(encoding, source.size).run(cast(BinaryIO, source))
    except UnsafePickleError as error:
        raise UnsafePickleError(
            f"{where} is not safe to open: it {error}. Nothing was executed. Only plain data and NumPy arrays are "
            "read; get the file from someone you trust, or write it again."
        ) from None
    except (BadPickleError, ValueError, OverflowError, MemoryError) as error:  # the last three are pickletools' own
        raise ValueError(
            f"{where} is damaged, truncated or not a pickle (byte {source.tell()} of {source.size}, it starts with "
            f"{source.head!r}): {error or type(error).__name__}. Copy, download or write it again."
        ) from error


class Source:
    """A stream for pickletools that reads no more bytes than exist, whatever length the file claims."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.left = file, size, size
        self.head = file.read(16)  # for messages: identifies a web page or a Git LFS pointer
        file.seek(-len(self.head), os.SEEK_CUR)

    def read(self, count: int) -> bytes:
        data = self.file.read(min(count, self.left)) if count > 0 else b""
        return self._took(data)

    def readline(self) -> bytes:
        return self._took(self.file.readline(self.left) if self.left else b"")

    def tell(self) -> int:
        return self.size - self.left

    def _took(self, data: bytes) -> bytes:
        self.left -= len(data)
        return data
