"""The one thread in which networks are made, traced and run for inference on the CPU.

Paddle keeps caches and figures of every thread that it has worked in. Where one of them ends, it adds its figures to
those of another. In a forked process that may be a thread which was not forked, and whose memory is long another's: a
network loaded there was spoilt now and then, or crashed. So one thread does it all, whichever ask, and none of it
outlives a fork: the thread ends before, with all predictors, which have threads of their own, and both processes make
them anew when they need them.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, Optional, TypeVar
from weakref import WeakSet

Result = TypeVar("Result")
Native = TypeVar("Native")

# Held while Paddle builds, traces or runs a network: all of it works on state of the whole process; a fork waits.
PADDLE_LOCK = threading.RLock()


class Remade(Generic[Native]):
    """What is made in Paddle's thread, used and destroyed there, and made anew after a fork.

    Args:
        make: called once here, and once after each fork.
    """

    def __init__(self, make: Callable[[], Native]) -> None:
        self._make = make
        self._native: Native | None = None
        PADDLE_THREAD.run(self.get)

    def get(self) -> Native:
        """What was made; to be called in Paddle's thread."""
        if self._native is None:
            self._native = self._make()
            PADDLE_THREAD.remade.add(self)
        return self._native

    def destroy(self) -> None:
        """Until it is needed again; to be called in Paddle's thread."""
        self._native = None

    def __del__(self) -> None:
        if self._native is not None:
            PADDLE_THREAD.let_go(self._native)


_Tasks = SimpleQueue[Optional[Callable[[], None]]]


class _PaddleThread:
    def __init__(self) -> None:
        self.remade: WeakSet[Remade[Any]] = WeakSet()
        self._thread: threading.Thread | None = None  # until it is needed
        self._tasks: _Tasks = SimpleQueue()
        self._parents: list[_Tasks] = []
        atexit.register(self._end)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._after_fork_in_child
            )

    def run(self, work: Callable[[], Result]) -> Result:
        """Return or raise what `work` does in the thread."""
        if self._is_this_thread():
            return work()
        with PADDLE_LOCK:
            if self._thread is None:
                self._tasks = SimpleQueue()
                # Not an executor's, which ends with the main thread, while others may still serve requests.
                thread = threading.Thread(target=self._serve, args=(self._tasks,), name="paddle", daemon=True)
                thread.start()
                self._thread = thread
            future: Future[Result] = Future()
            self._tasks.put(partial(_answer, future, work))
            try:
                return future.result()
            finally:
                wait([future])  # after Ctrl-C: Python cannot end while a thread is inside Paddle (it aborts)
                del future  # or an error, its traceback and all that the frames hold would keep each other

    def let_go(self, native: object) -> None:
        """Let the thread destroy what nobody needs any more."""
        self._tasks.put([native].clear)

    def _is_this_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def _serve(self, tasks: _Tasks) -> None:
        for task in iter(tasks.get, None):
            task()
            del task  # what it was to do may be its caller's last
        for remade in list(self.remade):
            remade.destroy()

    def _before_fork(self) -> None:
        if not self._is_this_thread():  # a network of the user's that forks
            self._end()

    def _end(self) -> None:
        """End the thread, and all that was made in it; others wait for the lock."""
        PADDLE_LOCK.acquire()
        thread, self._thread = self._thread, None
        if thread:
            self._tasks.put(None)
            thread.join()
            # For Paddle the thread ends after it does for Python.
            while os.path.exists(f"/proc/self/task/{thread.native_id}"):
                time.sleep(0.001)

    def _after_fork(self) -> None:
        if not self._is_this_thread():
            PADDLE_LOCK.release()

    def _after_fork_in_child(self) -> None:
        self._parents.append(self._tasks)  # not to be destroyed here: what was let go when the thread had ended
        self._after_fork()


def _answer(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # the caller's, whose future raises it
        future.set_exception(error)
        del future, work  # of the frame that the error keeps


PADDLE_THREAD = _PaddleThread()
