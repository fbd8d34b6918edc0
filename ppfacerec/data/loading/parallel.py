"""An ordered parallel map in processes."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from ppfacerec.core.log import logger

Item = TypeVar("Item")
Made = TypeVar("Made")


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(function: Callable[[Item], Made], items: Sequence[Item], num_processes: int) -> Iterator[Made]:
    """Yield ``function(item)`` for each item in order; every process has its own copy of `function`.

    Raises:
        ValueError: `function` raised it, or a process was killed.
    """
    if num_processes <= 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else None)
    chunk = max(1, min(64, len(items) // (4 * num_processes)))
    try:
        pool = ProcessPoolExecutor(num_processes, context, initializer=_set, initargs=(function, os.getpid()))
    except OSError as error:
        logger.warning("/dev/shm cannot hold a semaphore (%s): using one process.", error.strerror)
        yield from map(function, items)
        return
    with pool:
        try:
            yield from pool.map(_call, items, chunksize=chunk)
        except BrokenProcessPool as error:
            raise ValueError(f"A process died while working ({error}); out of memory? Use fewer processes.") from error


_function: Callable | None = None  # set once, when a worker process starts


def _set(function: Callable, parent: int) -> None:
    global _function
    _function = function
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Exit when the parent does: an orphan holds both ends of the pipe and would wait for work forever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _call(item: Any) -> Any:
    assert _function is not None
    return _function(item)
