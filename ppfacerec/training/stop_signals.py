"""SIGTERM and SIGINT: the first stops training after the current step, a second one ends the process at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

from ppfacerec.core import distributed
from ppfacerec.core.log import logger
from ppfacerec.training.callbacks import Callback

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A launcher forwards a signal that its processes also receive directly: two within so many seconds are one.
SAME_SIGNAL_SECONDS = 1.0
_DONE = b"\0"  # no signal has this number


class StopSignals(Callback):
    """Handle signals during a training instead of letting them end the process.

    Python runs handlers between two bytecodes of the main thread, which may be in a collective that never returns, as
    when another rank is gone. So a thread reads the signal numbers from a pipe, into which the interpreter writes them
    at once, and the second one ends the process whatever the main thread is doing.
    """

    def __enter__(self) -> StopSignals:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._first: float | None = None  # time of the first signal
        self._handlers = {number: signal.signal(number, self._request) for number in SIGNALS}
        self._wakeup = signal.set_wakeup_fd(self._write)
        self._watcher = threading.Thread(target=self._watch, name="stop signals", daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._first is not None:  # the launcher sends it three times
            time.sleep(max(0.0, self._first + SAME_SIGNAL_SECONDS - time.monotonic()))
        signal.set_wakeup_fd(self._wakeup)
        ignored = signal.SIGTERM if any(exception) and distributed.ignore_sigterm() else None
        for number, handler in self._handlers.items():
            if number != ignored:
                signal.signal(number, handler)
        os.write(self._write, _DONE)
        self._watcher.join()
        os.close(self._read)
        os.close(self._write)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.wants_stop = True

    def _watch(self) -> None:
        """Log the effect of each signal; runs in the thread."""
        while (byte := os.read(self._read, 1)) != _DONE:
            number = byte[0]
            if number not in SIGNALS:
                continue
            if self._first is None:
                self.wants_stop, self._first = True, time.monotonic()
                logger.warning("%s: stopping after this step. A second one stops at once.", signal.Signals(number).name)
            elif time.monotonic() - self._first > SAME_SIGNAL_SECONDS:
                logger.error("%s again: stopped at once.", signal.Signals(number).name)
                os._exit(128 + number)
