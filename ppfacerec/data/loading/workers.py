"""Worker processes that make batches in parallel and return them in order.

Images go through anonymous memory that is mapped before the fork: no copy, no use of /dev/shm, and nothing left behind
however a process ends. Each worker has its own pipe for the sample indices, so that none dies holding a shared lock.
"""

import mmap
import multiprocessing
import multiprocessing.connection
import os
import signal
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import util
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple

import numpy as np

from ppfacerec.core.image_size import IMAGE_SHAPE
from ppfacerec.data.loading.batch_maker import BatchMaker, Made

_IGNORED = (signal.SIGINT, signal.SIGTERM)  # the trainer receives them too, and finishes its step


class Task(NamedTuple):
    """A batch to be made."""

    epoch: int
    indices: np.ndarray


class _Order(NamedTuple):
    number: int
    slot: int
    task: Task


class _Reply(NamedTuple):
    number: int
    made: Made | Exception


class WorkerPool:
    """Forked processes that share a set of slots for finished batches.

    Args:
        maker: inherited by the workers through the fork, not copied.
        prefetch_factor: batches that each worker may prepare ahead.

    Raises:
        ValueError: the memory for the slots cannot be allocated, or the system has no fork.
    """

    def __init__(self, maker: BatchMaker, num_workers: int, batch_size: int, prefetch_factor: int = 2) -> None:
        if "fork" not in multiprocessing.get_all_start_methods():
            raise ValueError("Worker processes need fork, which this system does not have; set loader.num_workers: 0.")
        num_slots = num_workers * prefetch_factor + 1  # one is in use by the trainer
        self._slots = _shared_array((num_slots, batch_size, *IMAGE_SHAPE))
        self._processes: list[BaseProcess] = []
        self._connections: list[Connection] = []
        self._load = [0] * num_workers  # pending batches of each worker
        context = multiprocessing.get_context("fork")
        for _ in range(num_workers):
            ours, theirs = context.Pipe()
            self._connections.append(ours)
            process = context.Process(
                target=_work, args=(maker, self._slots, theirs, list(self._connections)), daemon=True
            )
            with _signals_held(), warnings.catch_warnings():
                # Python 3.12 warns that other threads may hold locks; the workers run none of their code.
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            theirs.close()
            self._processes.append(process)
        # Also runs at the interpreter's exit, before multiprocessing waits for its children.
        self.close = util.Finalize(self, _end, (self._processes, self._connections), exitpriority=10)

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[np.ndarray, Made]]:
        """Yield images (N, 112, 112, 3) and samples of each task, in order; images are valid until the next task.

        Leaving the generator early closes the pool.

        Raises:
            ValueError: a task failed, or a worker died.
        """
        try:
            yield from self._run(iter(tasks))
        except BaseException:
            self.close()
            raise

    def _run(self, tasks: Iterator[Task]) -> Iterator[tuple[np.ndarray, Made]]:
        free = list(range(len(self._slots)))
        orders: dict[int, _Order] = {}  # not yielded yet, in order
        replies: dict[int, _Reply] = {}
        number = 0
        while True:
            while free and (task := next(tasks, None)) is not None:
                orders[number] = _Order(number, free.pop(), task)
                self._send(orders[number])
                number += 1
            if not orders:
                return
            following = next(iter(orders))
            while following not in replies:
                replies.update((reply.number, reply) for reply in self._receive())
            order, made = orders.pop(following), replies.pop(following).made
            if isinstance(made, Exception):
                raise made
            yield self._slots[order.slot, : len(order.task.indices)], made
            free.append(order.slot)

    def _send(self, order: _Order) -> None:
        """Send a batch to the worker with the fewest pending ones."""
        worker = int(np.argmin(self._load))
        self._load[worker] += 1
        try:
            self._connections[worker].send(order)
        except OSError:
            self._died(worker)

    def _receive(self) -> list[_Reply]:
        """Wait for replies of the workers."""
        ready = multiprocessing.connection.wait(self._connections)
        replies: list[_Reply] = []
        for worker, connection in enumerate(self._connections):
            if connection in ready:
                try:
                    replies.append(connection.recv())
                    self._load[worker] -= 1
                except (EOFError, OSError):
                    self._died(worker)
        return replies

    def _died(self, worker: int) -> None:
        process = self._processes[worker]
        process.join(5)
        code = process.exitcode or 0
        how = f"was terminated by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        reason = " The system does that when memory runs out (see dmesg)." if code == -signal.SIGKILL else ""
        raise ValueError(
            f"Data worker {worker + 1} of {len(self._processes)} (process {process.pid}) {how}.{reason} Resume from "
            "the last checkpoint, with fewer loader.num_workers if memory ran out."
        )


def _shared_array(shape: Sequence[int]) -> np.ndarray:
    """Allocate zeros that forked processes write to and this process reads."""
    size = int(np.prod(shape))
    try:
        memory = mmap.mmap(-1, size)
    except OSError as error:
        raise ValueError(
            f"{size >> 20} MiB cannot be allocated for the batches of the data workers ({error.strerror}). Use a "
            "smaller sampler.batch_size, fewer loader.num_workers or a smaller loader.prefetch_factor."
        ) from error
    return np.frombuffer(memory, np.uint8).reshape(shape)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Block signals that would end a worker before it ignores them; this process receives them afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(maker: BatchMaker, slots: np.ndarray, connection: Connection, not_mine: Sequence[Connection]) -> None:
    """Run a worker until the other end of its pipe is closed, also by the trainer's death."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)
    for other in not_mine:
        other.close()
    while True:
        try:
            order: _Order = connection.recv()
            connection.send(_answer(maker, slots, order))
        except (EOFError, OSError):
            os._exit(0)


def _answer(maker: BatchMaker, slots: np.ndarray, order: _Order) -> _Reply:
    try:
        return _Reply(order.number, maker.make(*order.task, slots[order.slot]))
    except ValueError as error:
        return _Reply(order.number, ValueError(str(error)))
    except Exception as error:  # the trainer raises it; a plugin's exception class may not survive pickling
        return _Reply(order.number, RuntimeError(str(error)))


def _end(processes: Sequence[BaseProcess], connections: Sequence[Connection]) -> None:
    """End and join the workers, so that no zombie remains."""
    for connection in connections:
        connection.close()
    for process in processes:
        process.join(5)
        if process.is_alive():  # stuck in a read
            process.kill()
            process.join()
