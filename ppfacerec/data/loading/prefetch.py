"""One step ahead: the next batch is read and decoded in a thread while the caller computes on this one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def made_ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Yield ``make(item)`` of each item in order; the next one is made in a thread meanwhile, never more than one.

    A thread is enough, and costs no memory: OpenCV gives up the interpreter's lock while it decodes. What `make`
    raises is raised here, in its turn.
    """
    with ThreadPoolExecutor(1, "decode") as thread:
        pending: deque[Future[Made]] = deque()
        for item in items:
            pending.append(thread.submit(make, item))
            if len(pending) > 1:
                yield pending.popleft().result()
        yield from (made.result() for made in pending)
