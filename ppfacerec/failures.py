"""Several processes: what went wrong first, told by the one whose output a person reads.

When a process fails, the others only see that a connection broke. So it leaves its message in the output folder before
it ends, and the others show that message instead of their own.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from ppfacerec.log import logger

_START = ".failed_"
_WAIT = 3.0  # seconds for another process's message to show up in a network file system


@contextmanager
def first_failure_first(folder: Path) -> Iterator[None]:
    """Let an error inside the block be known to the other processes, and theirs to this one.

    Args:
        folder: that all processes can write to.

    Raises:
        ValueError: another process failed first, or its connection broke without a word.
    """
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) == 1:
        yield
        return
    notes = _Notes(folder)
    notes.clear()
    try:
        yield
    except (ValueError, ImportError) as error:
        notes.leave(str(error))
        raise
    except Exception as error:  # Paddle has several for a broken connection; each goes on as an error
        first = notes.of_another()
        if first is not None:
            raise ValueError(first) from error
        if not _is_connection(error):
            notes.leave(f"{type(error).__name__}: {error}")
            raise
        raise ValueError(
            "The connection to another process broke, and it left no message: it was killed, perhaps for lack of "
            "memory (see dmesg), or its machine is gone. The logs of all processes are in the launcher's --log_dir. "
            f"What was seen here: {str(error).strip().splitlines()[-1]}"
        ) from error


def remove_old_notes(folder: Path) -> None:
    """Remove what earlier runs have left, as when all processes fail together and none asks for the others' words."""
    notes = _Notes(folder)
    for path in folder.glob(f"{_START}*"):
        if not notes.is_own(path):
            path.unlink(missing_ok=True)


def _is_connection(error: BaseException) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("gloo", "nccl", "connection", "socket", "tcpstore", "peer"))


class _Notes:
    """One small file a process; their names tell the run by its addresses, which differ from run to run."""

    def __init__(self, folder: Path) -> None:
        run = hashlib.sha256(os.environ.get("PADDLE_TRAINER_ENDPOINTS", "").encode()).hexdigest()[:12]
        self._folder, self._start = folder, f"{_START}{run}_rank_"
        self._rank = int(os.environ.get("PADDLE_TRAINER_ID", "0"))

    def clear(self) -> None:
        path = self._folder / f"{self._start}{self._rank}"
        if path.exists():  # on a read-only disk also removing nothing is an error
            path.unlink()

    def is_own(self, path: Path) -> bool:
        """Whether the file is of a process of this run."""
        return path.name.startswith(self._start)

    def leave(self, message: str) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"{self._start}{self._rank}").write_text(message, encoding="utf-8")
        except OSError as error:  # the folder may be what has failed; the message is shown here in any case
            logger.warning("The other processes cannot be told: %s", error)

    def of_another(self) -> Optional[str]:
        """The oldest message of another process; rank 0 takes it away."""
        until = time.monotonic() + _WAIT
        while True:
            found = sorted(self._folder.glob(f"{self._start}*"), key=lambda path: path.stat().st_mtime)
            if found:
                first = found[0]
                message = f"Rank {first.name[len(self._start) :]} failed first: {first.read_text(encoding='utf-8')}"
                for path in found if self._rank == 0 else []:
                    path.unlink()
                return message
            if time.monotonic() > until:
                return None
            time.sleep(0.1)
