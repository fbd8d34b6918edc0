"""Prefetching: a thread reads and decodes the next batch while the caller works on the current one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def prefetched(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Yield ``make(item)`` for each item in order; a thread makes the next one meanwhile, never more than one.

    A thread suffices, since OpenCV releases the GIL while it decodes. Exceptions of `make` are raised here, in order.
    """
    with ThreadPoolExecutor(1, "decode") as thread:
        pending: deque[Future[Made]] = deque()
        for item in items:
            pending.append(thread.submit(make, item))
            if len(pending) > 1:
                yield pending.popleft().result()
        yield from (made.result() for made in pending)
