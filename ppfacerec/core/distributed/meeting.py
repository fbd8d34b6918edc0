"""Wait for other ranks without a timeout, and learn why one of them fails.

Collectives time out, gloo's after 30 seconds. So work that one rank does alone (drawing, downloading, writing, scoring)
is awaited through the store that paddle.distributed keeps on rank 0's machine, where every rank writes its heartbeat.
"""

import atexit
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

from ppfacerec.core.distributed.ranks import rank, refuse_lone_slurm_tasks, refuse_loopback_name, world_size
from ppfacerec.core.log import logger

_BEAT = 2.0  # seconds between two heartbeats
_SILENCE = 120.0  # seconds without a heartbeat: the rank is lost; Python code may hold the GIL for long
_LONGEST_POLL = 0.5
# Seconds that a failed rank waits until the others are notified, and they for its message; the launcher kills them 4
# seconds after it has noticed.
_LINGER = 2.5
_OF_C = re.compile(r"\.(cc|cpp|cu|h):\d+")  # in what Paddle's C++ code raises: "[.../gloo/transport/tcp/pair.cc:784]"
_OF_CONNECTIONS = ("gloo", "nccl", "connection", "socket", "tcpstore", "tcp ", "peer")  # in an error of a broken one


class RankError(ValueError):
    """Another rank failed; the message contains its error."""


class _Store:
    """Thread-safe access to the store; each call is one short exchange, so that none blocks the others."""

    def __init__(self) -> None:
        from paddle.base import core

        core.create_or_get_global_tcp_store()  # waits for rank 0's
        master = os.environ.get("PADDLE_MASTER") or os.environ["PADDLE_TRAINER_ENDPOINTS"].split(",")[0]
        host, _, port = master.rpartition(":")
        # A connection of our own: Paddle's is not thread-safe.
        self._store, self._lock = core.TCPStore(host, int(port), False, 0, 900), threading.Lock()

    @contextmanager
    def _exchange(self) -> Iterator[Any]:
        """Block signals in this thread: Paddle takes an interrupted call for a broken connection."""
        with self._lock:
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                yield self._store
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def add(self, key: str, number: int) -> int:
        with self._exchange() as store:
            return int(store.add(f"ppfacerec/{key}", number))

    def set(self, key: str, text: str) -> None:
        with self._exchange() as store:
            store.set(f"ppfacerec/{key}", text.encode("utf-8", "replace").decode())  # no lone surrogates

    def get(self, key: str) -> str:
        """Return the text of a key that is known to be set."""
        with self._exchange() as store:
            return bytes(store.get(f"ppfacerec/{key}")).decode("utf-8", "replace")


class Meeting:
    """This rank's side of waiting for the others, and of failing with them."""

    def __init__(self) -> None:
        self._store = _Store()
        self._count = 0
        self._failure: str | None = None
        self.ends_with_error = False  # whether this program does on errors, as our commands do
        self._store.set(f"host/{rank()}", socket.gethostname())
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._live, name="heartbeat", daemon=True)
        self._thread.start()
        atexit.register(self._end)  # a thread that is in the store's C++ code when Python ends aborts the process
        self._wait("joined")
        self.hosts = [self._store.get(f"host/{number}") for number in range(world_size())]

    def wait(self) -> None:
        """Return when all ranks have called it as often as this one; raise a RankError if one has failed or is lost."""
        self._count += 1
        self._wait(f"meeting/{self._count}")

    def gather(self, text: str) -> list[str]:
        """The texts of all ranks, on every rank; works before the process group exists."""
        key = f"text/{self._count + 1}"
        self._store.set(f"{key}/{rank()}", text)
        self.wait()
        return [self._store.get(f"{key}/{number}") for number in range(world_size())]

    def name_of(self, number: int) -> str:
        """``"rank 1"``, with its host where there are several."""
        return f"rank {number}" + (f" on {self.hosts[number]}" if len(set(self.hosts)) > 1 else "")

    def leave(self, message: str) -> None:
        """Send the reason why this rank fails to the others, and give them time to receive it."""
        try:
            number = self._store.add("failures", 1)
            self._store.set(f"failure/{number}", f"{self.name_of(rank()).capitalize()} failed first: {message}")
            self._store.add("failures announced", 1)
            until = time.monotonic() + _LINGER
            # The store ends with rank 0's process.
            while rank() == 0 and self._store.add("heard", 0) < world_size() - 1 and time.monotonic() < until:
                time.sleep(0.1)
        except ValueError as error:  # from Paddle if the store, and rank 0 with it, is gone
            logger.warning("The other processes cannot be notified: %s", str(error).strip().splitlines()[0])

    def first_failure(self) -> str | None:
        """Return another rank's error message, if one arrives within some seconds."""
        until = time.monotonic() + _LINGER
        while self._failure is None and time.monotonic() < until:
            time.sleep(0.1)
            with suppress(ValueError):  # from Paddle if the store is gone
                self._listen()  # at once: the launcher ends this process within a second
        return self._failure

    def _listen(self) -> None:
        if self._failure is None and self._store.add("failures announced", 0):
            self._failure = self._store.get("failure/1")
            self._store.add("heard", 1)

    def _end(self) -> None:
        self._done.set()
        self._thread.join()

    def _live(self) -> None:
        """Write heartbeats and listen for failures of other ranks; runs in a thread."""
        while not self._done.wait(_BEAT):
            try:
                self._store.add(f"alive/{rank()}", 1)
                self._listen()
            except Exception:  # rank 0 is gone, and the store with it: the others time out
                return

    def _wait(self, key: str) -> None:
        poll, looked = 0.01, time.monotonic()
        alive: dict[int, tuple[int, float]] = {}  # heartbeats, and when they last changed
        came = self._store.add(key, 1)
        while came < world_size():
            if self._failure is not None:
                raise RankError(self._failure)
            time.sleep(poll)
            poll = min(1.5 * poll, _LONGEST_POLL)
            if time.monotonic() - looked > 5 * _BEAT:
                looked = time.monotonic()
                self._look_for_silence(alive)
            came = self._store.add(key, 0)

    def _look_for_silence(self, alive: dict[int, tuple[int, float]]) -> None:
        now = time.monotonic()
        for number in range(world_size()):
            signs = self._store.add(f"alive/{number}", 0)
            before, since = alive.get(number, (-1, now))
            alive[number] = (signs, now if signs != before else since)
            if now - alive[number][1] > _SILENCE:
                raise RankError(
                    f"{self.name_of(number).capitalize()} has not responded for {_SILENCE:.0f} seconds: it was killed "
                    "or stopped, or its machine or the network is gone."
                )


def _is_of_connection(text: str) -> bool:
    """Whether an error is Paddle's for a broken connection; a file name may contain the same words."""
    return _OF_C.search(text) is not None and any(word in text.lower() for word in _OF_CONNECTIONS)


@lru_cache(maxsize=1)
def meeting() -> Meeting:
    """This process's meeting, created on first use."""
    return Meeting()


def init() -> None:
    """Join the other processes of ``paddle.distributed.launch``; raise a ValueError if they cannot find each other."""
    import paddle
    import paddle.distributed as dist

    refuse_lone_slurm_tasks()
    if world_size() > 1 and not dist.is_initialized():
        meeting()
        # The launcher sets it; a user who sets the variables by hand may not.
        if paddle.get_device() == "cpu":
            os.environ.setdefault("PADDLE_DISTRI_BACKEND", "gloo")
            with failing_together():
                if len(set(meeting().hosts)) > 1:
                    refuse_loopback_name()
        dist.init_parallel_env()


def ignore_sigterm() -> bool:
    """Ignore the launcher's SIGTERM, so that the error that ends this program reaches the log.

    Returns:
        Whether SIGTERM is ignored from now on; the launcher kills a process that does not end.
    """
    if world_size() == 1 or not meeting().ends_with_error or threading.current_thread() is not threading.main_thread():
        return False
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return True


def barrier() -> None:
    """Wait for all ranks, for as long as it takes."""
    if world_size() > 1:
        meeting().wait()


def describe_ranks() -> str:
    """``"rank 0 on alpha; ranks 1, 2 on beta"``."""
    hosts: dict[str, list[str]] = {}
    for number, host in enumerate(meeting().hosts if world_size() > 1 else [socket.gethostname()]):
        hosts.setdefault(host, []).append(str(number))
    return "; ".join(
        f"rank{'s' if len(ranks) > 1 else ''} {', '.join(ranks)} on {host}" for host, ranks in hosts.items()
    )


@contextmanager
def failing_together() -> Iterator[None]:
    """Make an error of one rank inside the block end the block on all ranks, however long the others take.

    The ranks meet at the end of the block, inside which there must be no communication. A rank that did not fail
    itself raises a ``RankError`` with the message of the first one that did.
    """
    if world_size() == 1:
        yield
        return
    failure: Exception | None = None
    try:
        yield
    except Exception as error:  # of any kind: the other ranks must be notified before it propagates
        failure = error
    texts = meeting().gather("" if failure is None else str(failure) or type(failure).__name__)
    if any(texts):
        # Wait until each has them: the launcher ends all ranks when one ends, and the store ends with rank 0.
        with suppress(ValueError):
            meeting().wait()
    if failure is not None:
        raise failure
    for number, text in enumerate(texts):
        if text:
            raise RankError(f"{meeting().name_of(number).capitalize()} failed: {text}")


@contextmanager
def exchange_failures() -> Iterator[None]:
    """Report an error inside the block to the other ranks, and raise theirs here.

    When a process fails, the others only see a broken connection; they raise its message instead.

    Raises:
        RankError: another process failed first, or its connection broke without a message.
    """
    refuse_lone_slurm_tasks()
    if world_size() == 1:
        yield
        return
    meeting().ends_with_error = True
    try:
        yield
    except RankError:
        ignore_sigterm()
        raise
    except Exception as error:  # Paddle raises several types for a broken connection
        ignore_sigterm()
        text = str(error)
        if _is_of_connection(text):
            raise RankError(
                meeting().first_failure()
                or "The connection to another process broke, and it left no message: it was killed, perhaps for lack "
                f"of memory (see dmesg), or its machine is gone ({describe_ranks()}). The logs of all processes "
                f"are in the launcher's --log_dir. The error here: {text.strip().splitlines()[-1]}"
            ) from error
        known = isinstance(error, (ValueError, ImportError, OSError))
        meeting().leave(text if known else f"{type(error).__name__}: {text}")
        raise
