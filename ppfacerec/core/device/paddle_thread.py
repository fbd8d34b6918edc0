"""The one thread in which networks are made, traced and run for inference on the CPU.

Paddle keeps caches and statistics for every thread that has used it, and adds those of a thread that ends to another's.
In a forked process the other thread may not exist, and its memory may be in use for something else: networks loaded
there were corrupted now and then, or crashed. So one thread does all the work, and nothing of it survives a fork: the
thread ends before, with all predictors (which have threads of their own), and both processes create them on demand.
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

# Held while Paddle builds, traces or runs a network, which use process-wide state; a fork waits for it.
PADDLE_LOCK = threading.RLock()


class Remade(Generic[Native]):
    """An object that `make` creates in Paddle's thread, where it is used and destroyed, and again after each fork."""

    def __init__(self, make: Callable[[], Native]) -> None:
        self._make = make
        self._native: Native | None = None
        PADDLE_THREAD.run(self.get)

    def get(self) -> Native:
        """Return the object; call it in Paddle's thread."""
        if self._native is None:
            self._native = self._make()
            PADDLE_THREAD.remade.add(self)
        return self._native

    def destroy(self) -> None:
        """Destroy the object until it is needed again; call it in Paddle's thread."""
        self._native = None

    def __del__(self) -> None:
        if self._native is not None:
            PADDLE_THREAD.release(self._native)


_Tasks = SimpleQueue[Optional[Callable[[], None]]]


class _PaddleThread:
    def __init__(self) -> None:
        self.remade: WeakSet[Remade[Any]] = WeakSet()
        self._thread: threading.Thread | None = None  # started on demand
        self._tasks: _Tasks = SimpleQueue()
        self._parents: list[_Tasks] = []
        atexit.register(self._end)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._after_fork_in_child
            )

    def run(self, work: Callable[[], Result]) -> Result:
        """Run `work` in the thread; return its result or raise its error."""
        if self._is_this_thread():
            return work()
        with PADDLE_LOCK:
            if self._thread is None:
                self._tasks = SimpleQueue()
                # Not an executor's thread, which ends with the main thread while others may still serve requests.
                thread = threading.Thread(target=self._serve, args=(self._tasks,), name="paddle", daemon=True)
                thread.start()
                self._thread = thread
            future: Future[Result] = Future()
            self._tasks.put(partial(_answer, future, work))
            try:
                return future.result()
            finally:
                wait([future])  # after Ctrl-C: Python cannot end while a thread is inside Paddle (it aborts)
                del future  # or an error, its traceback and its frames keep each other alive

    def release(self, native: object) -> None:
        """Let the thread destroy an object that is no longer needed."""
        self._tasks.put([native].clear)

    def _is_this_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def _serve(self, tasks: _Tasks) -> None:
        for task in iter(tasks.get, None):
            task()
            del task  # it may hold the last reference to a native object
        for remade in list(self.remade):
            remade.destroy()

    def _before_fork(self) -> None:
        if not self._is_this_thread():  # else a user's network forks here
            self._end()

    def _end(self) -> None:
        """End the thread and destroy what was made in it; other threads wait for the lock."""
        PADDLE_LOCK.acquire()
        thread, self._thread = self._thread, None
        if thread:
            self._tasks.put(None)
            thread.join()
            # Paddle's thread-local destructors run after Python's part of the thread has ended.
            while os.path.exists(f"/proc/self/task/{thread.native_id}"):
                time.sleep(0.001)

    def _after_fork(self) -> None:
        if not self._is_this_thread():
            PADDLE_LOCK.release()

    def _after_fork_in_child(self) -> None:
        self._parents.append(self._tasks)  # its objects must not be destroyed here
        self._after_fork()


def _answer(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # the future raises it in the caller
        future.set_exception(error)
        del future, work  # the error keeps this frame alive


PADDLE_THREAD = _PaddleThread()
