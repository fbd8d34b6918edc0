"""Lock an output folder for one training at a time."""

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ppfacerec.core import distributed
from ppfacerec.core.io.atomic_file import is_running
from ppfacerec.core.log import logger

LOCK_FILE = "run.lock"
# The data workers of a killed run hold its lock until they notice that it is gone.
_PATIENCE = 15.0
_CANNOT_LOCK = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextmanager
def only_run(folder: Path, is_leader: bool = True) -> Iterator[None]:
    """Be the only training in `folder` inside the block; the ranks of one run share the lock.

    The system releases the lock when a process ends in any way, so that a dead run blocks nobody. Across machines it
    requires a network file system that supports locks (NFS does).

    Args:
        is_leader: whether this rank locks it, for all that share its disk.

    Raises:
        ValueError: another run holds the lock (with its process and host), or the folder cannot be written to.
    """
    with ExitStack() as stack:
        with distributed.failing_together():
            if is_leader:
                try:
                    stack.callback(_release, folder, _lock(folder))
                except OSError as error:
                    raise _cannot_write(folder, error) from error
        yield


@contextmanager
def lock_if_free(folder: Path) -> Iterator[bool]:
    """Try to lock a folder for the block; yield False if another run holds it or it cannot be written to."""
    descriptor = None
    with suppress(OSError):
        descriptor = _open_locked(folder / LOCK_FILE)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            _release(folder, descriptor)


def _release(folder: Path, descriptor: int) -> None:
    (folder / LOCK_FILE).unlink(missing_ok=True)  # while it is still locked, see _is_of_path
    os.close(descriptor)


def make_output_dir(folder: Path) -> None:
    """Create `folder` on every machine; raise a ValueError if it cannot be created or written to."""
    probe = folder / f".writable.{distributed.rank()}.{os.getpid()}.tmp"
    with distributed.failing_together():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise _cannot_write(folder, error) from error


def _cannot_write(folder: Path, error: OSError) -> ValueError:
    return ValueError(
        f"Global.output_dir: {folder} cannot be written to ({error.strerror}). Give another folder, or check its "
        "permissions and the disk."
    )


def _lock(folder: Path) -> int:
    path = folder / LOCK_FILE
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            descriptor = _open_locked(path)
        except OSError as error:
            if error.errno not in _CANNOT_LOCK:
                raise
            logger.warning("%s cannot be locked (%s): a second run there would not be detected.", path, error.strerror)
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if descriptor is not None:
            _sign(descriptor)
            return descriptor
        pid, host = _owner(path)
        if not _is_gone(pid, host) or time.monotonic() > until:
            raise ValueError(
                f"Global.output_dir: {folder} is in use by another run, process {pid} on {host}. Wait for it, stop it "
                f"(kill {pid}), or give another output_dir."
            )
        time.sleep(0.1)


def _sign(descriptor: int) -> None:
    """Write the owner into the locked file."""
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
    except OSError:
        os.close(descriptor)
        raise


def _open_locked(path: Path) -> int | None:
    """Return the descriptor of the locked file, or None if another run holds the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        if _is_of_path(descriptor, path):
            return descriptor
        os.close(descriptor)


def _is_of_path(descriptor: int, path: Path) -> bool:
    """Whether the file still exists: the previous run may have removed it between our open and our lock."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _owner(path: Path) -> list[str]:
    """Process and host of a lock's owner; question marks if unknown."""
    words = []
    with suppress(OSError):
        words = path.read_text(encoding="utf-8").split()
    return words if len(words) == 2 else ["?", "?"]


def _is_gone(pid: str, host: str) -> bool:
    """Whether the lock's process has ended on this machine, or is not recorded yet."""
    return pid == "?" or (host == socket.gethostname() and pid.isdigit() and not is_running(int(pid)))
