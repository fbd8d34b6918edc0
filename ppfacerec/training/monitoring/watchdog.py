"""End a run that makes no progress, and report where every thread and data worker is.

There are two guards, because a hung process may be unable to run Python. A thread measures the time since the last
batch and writes the report. If it cannot run because the main thread holds the GIL in C code, the timer of
``faulthandler``, an operating system thread that does not need the GIL, prints the stacks and ends the process.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO, Any

from ppfacerec.core import distributed
from ppfacerec.core.io.atomic_file import atomic_write_text
from ppfacerec.core.log import logger
from ppfacerec.training.callbacks import Activity, Callback
from ppfacerec.training.state import TrainState

# Exit status of a stalled run; timeout(1) uses the same.
STALLED = 124
# Makes a process write its stacks. Not SIGUSR1, with which batch systems announce the end of a job.
STACKS = signal.SIGUSR2

_STDERR = 2  # the file descriptor, whatever sys.stderr may be
_POLL = 5.0  # seconds between two checks
_FOR_OTHERS = 5.0  # seconds for the other ranks' reports before a launcher ends them

_DISK = "Likely: the disk of Global.output_dir does not respond."
# Likely causes, and what to try.
_LIKELY = {
    Activity.READING: "Likely: a disk or network file system that does not respond (dmesg, `ls` of the image folder), "
    "or a data set or transform that never ends. The data workers' stacks below show which; "
    "DataLoader.Train.loader.num_workers: 0 reads in this process.",
    Activity.COMPUTING: "Likely: a GPU or its driver that hangs (nvidia-smi, dmesg), a process that is swapped out, or "
    "a first step that takes longer than the limit.",
    Activity.EXCHANGING: "Their own reports show where they are.",
    Activity.LOGGING: _DISK,
    Activity.SAVING: _DISK,
    Activity.EVALUATING: "Likely: a disk or network file system that does not respond, or a GPU that hangs.",
}


class Watchdog(Callback):
    """Require during a training that a batch finishes at least every so many minutes.

    Data workers forked meanwhile also write their stacks on the signal, because they inherit its handler.

    Args:
        minutes: longest time between two batches; None disables the watchdog.
        folder: for the report, ``stalled_rank<n>.txt``.
        on_stall: receives "stalled" and the first line of the report, for other records.
    """

    def __init__(self, minutes: float | None, folder: Path, on_stall: Callable[[str, str], None]) -> None:
        self._limit = None if minutes is None else 60 * minutes
        self._folder, self._on_stall = folder, on_stall
        self._last, self._beats = time.monotonic(), 0
        self._activity = Activity.COMPUTING
        self._done = threading.Event()
        self._pid, self._arming = os.getpid(), threading.Lock()
        self._stacks: IO[bytes] | None = None

    def on_activity(self, activity: Activity) -> None:
        self._activity = activity

    def on_batch(self, state: TrainState) -> None:
        self._last = time.monotonic()
        self._beats += 1

    def __enter__(self) -> Watchdog:
        if self._limit is not None:
            self._stacks = tempfile.TemporaryFile(buffering=0)  # has no name, so that nothing remains
            faulthandler.register(STACKS, self._stacks, all_threads=True)
            self._last = time.monotonic()
            self._arm(self._limit)
            self._on_stop = signal.signal(signal.SIGTSTP, self._stop)
            self._thread = threading.Thread(target=self._watch, args=(self._limit,), name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._stacks is not None:
            self._done.set()
            self._thread.join()
            signal.signal(signal.SIGTSTP, self._on_stop)
            faulthandler.cancel_dump_traceback_later()
            faulthandler.unregister(STACKS)
            self._stacks.close()

    def _watch(self, limit: float) -> None:
        interval = min(_POLL, limit / 4)
        looked = time.monotonic()
        while not self._done.wait(interval):
            now = time.monotonic()
            # A late check means that this thread could not run: the process was stopped, or the machine slept.
            self._last = min(now, self._last + now - looked - interval)
            looked = now
            self._arm(limit)
            if now - self._last > limit:
                self._end(now - self._last)

    def _arm(self, limit: float) -> None:
        """Restart the timer that needs no Python; it fires unless restarted in time."""
        with self._arming:
            faulthandler.dump_traceback_later(limit + min(60.0, limit), exit=True, file=_STDERR)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """On Ctrl-Z, stop without the timer, which would end the process as soon as it continues."""
        if os.getpid() != self._pid:  # a data worker: no timer, and its copy of the lock may be held
            os.kill(os.getpid(), signal.SIGSTOP)
            return
        with self._arming:
            faulthandler.cancel_dump_traceback_later()
            os.kill(os.getpid(), signal.SIGSTOP)

    def _end(self, seconds: float) -> None:
        """Write the report to each place with a timeout, as any may hang for the same reason as the run; then exit."""
        children = multiprocessing.active_children()
        first = (
            f"No batch was finished for {seconds / 60:.3g} minutes (Global.watchdog_minutes), after {self._beats} of "
            f"training and evaluation: the run ends with status {STALLED}. {self._likely()} Resume from the last "
            "checkpoint once the cause is fixed."
        )
        report = "\n\n".join([first, *map(self._worker, children), f"Threads of this process:\n{self._own()}"])
        path = self._folder / f"stalled_rank{distributed.rank()}.txt"
        for action in (
            lambda: _write(path, report), lambda: logger.error("%s", report), lambda: self._on_stall("stalled", first),
        ):  # fmt: skip
            thread = threading.Thread(target=action, daemon=True)
            thread.start()
            thread.join(10)
        if distributed.world_size() > 1:
            time.sleep(_FOR_OTHERS)
        for child in children:
            child.kill()
            child.join(1)
        os._exit(STALLED)

    def _likely(self) -> str:
        many = distributed.world_size() > 1 and self._activity is not Activity.EXCHANGING
        others = ", or waiting for another process, whose own report shows where it is" if many else ""
        return f"It is {self._activity.value}{others}. {_LIKELY[self._activity]}"

    def _worker(self, process: Any) -> str:
        """Return a data worker's state and stack."""
        text = self._dumped(lambda: os.kill(process.pid, STACKS))
        return f"Process {process.pid} ({process.name}, {_state(process.pid)}):\n{text or 'It does not respond.'}"

    def _own(self) -> str:
        stacks = self._stacks
        assert stacks is not None
        return self._dumped(lambda: faulthandler.dump_traceback(stacks, all_threads=True))

    def _dumped(self, dump: Callable[[], None]) -> str:
        """Return what is written to the file of stacks after `dump`, once it stops growing."""
        assert self._stacks is not None
        descriptor = self._stacks.fileno()
        start = size = os.fstat(descriptor).st_size
        try:
            dump()
        except ProcessLookupError:
            return "It is gone."
        for _ in range(20):  # 2 seconds
            time.sleep(0.1)
            before, size = size, os.fstat(descriptor).st_size
            if start < before == size:
                break
        return os.pread(descriptor, size - start, start).decode(errors="replace").strip()


def _write(path: Path, text: str) -> None:
    with atomic_write_text(path) as file:
        file.write(text + "\n")


def _state(pid: int) -> str:
    """Return the process state in the system's words, such as "D (disk sleep)"."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return "state unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("State:")), "state unknown")
