"""Write files atomically: a file appears whole or not at all."""

import contextlib
import errno
import glob
import io
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

_MARK = ".tmp"
_PRIVATE = 0o600
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_target(path: str | os.PathLike[str], *suffixes: str) -> Path:
    """Return the file that writing to `path` creates or replaces, with links resolved; called before long work begins.

    Args:
        suffixes: allowed endings of the name; by default any.

    Raises:
        ValueError: another suffix, a folder, a device or a pipe is there, or its folder cannot be created or written.
    """
    if suffixes and Path(path).suffix.lower() not in suffixes:
        raise ValueError(f"{path}: expected a name that ends in {' or '.join(suffixes)}.")
    target = _target(path)
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            return target
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {target.parent}: {error.strerror}.") from error


def _target(path: str | os.PathLike[str]) -> Path:
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise ValueError(f"{path} cannot be written: it is a folder, a device or a pipe. Give a file.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.filename}: {error.strerror}.") from error
    return target


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], private: bool = False) -> Iterator[BinaryIO]:
    """Open a file beside `path` that replaces it once everything is on disk; links and permissions are kept.

    A new `private` file (biometric data) is readable by its owner only.
    """
    target = _target(path)
    remove_abandoned(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}{_MARK}")
    try:
        with open(temporary, "wb", opener=_private if private or target.exists() else None) as file:
            if target.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise _named(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def _named(error: OSError, path: str | os.PathLike[str]) -> OSError:
    """Add the path to the error of a full disk, which has none."""
    return OSError(error.errno, error.strerror, str(path)) if error.errno in DISK_FULL and not error.filename else error


def atomic_write_unsynced(path: Path, content: bytes) -> None:
    """Write a small file that is whole or absent after a kill; it may be lost in a power failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{_MARK}")  # a fixed name: what a kill leaves is overwritten
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _named(error, path) from error


def remove_abandoned(target: Path) -> None:
    """Remove the temporary files of commands that were killed while they wrote `target`."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*{_MARK}"):
        process = left.name[len(target.name) + 2 : -len(_MARK)]
        if process.isdigit() and not is_running(int(process)):
            left.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, _PRIVATE)


@contextlib.contextmanager
def atomic_write_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """The same for text, in UTF-8."""
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
        yield text
        text.flush()
        text.detach()  # the caller closes the file
