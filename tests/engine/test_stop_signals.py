"""Laws of signals: the first is a request, a second one ends the process whatever it is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ppfacerec.training import stop_signals
from ppfacerec.training.stop_signals import StopSignals

# Blocked in C, as in a collective whose other end is gone: Python's own handlers never run.
STUCK = """
import ctypes, sys
from ppfacerec.training import stop_signals
stop_signals.SAME_SIGNAL_SECONDS = 0.2
with stop_signals.StopSignals():
    print("ready", flush=True)
    libc = ctypes.CDLL(None)
    while True:
        libc.pause()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_a_process_that_is_stuck(number, status):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    process.send_signal(number)  # as from a launcher that passes on what this process got with it
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(number)
    assert process.wait(10) == status
    process.stdout.close()


def test_the_first_signal_is_a_request_and_afterwards_everything_is_as_before():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals() as signals:
        assert not signals.wants_stop
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.wants_stop
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_other_signals_are_none_of_its_business():
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.05)
            assert not signals.wants_stop
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_that_comes_again_while_the_training_ends_is_still_the_same(monkeypatch):
    """Paddle's launcher sends each process three, 0.2 seconds apart."""
    monkeypatch.setattr(stop_signals, "SAME_SIGNAL_SECONDS", 0.5)
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        again = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
        again.start()
        time.sleep(0.05)
        assert signals.wants_stop
    again.join()  # this process is still there
