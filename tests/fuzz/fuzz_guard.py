"""What a case may do, and what came of it."""

from __future__ import annotations

import contextlib
import encodings
import importlib
import os
import pkgutil
import resource
import sys
import time
import traceback
import tracemalloc
import typing
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 5.0  # of CPU time for one case; the machine may be slow
_HEADROOM = 1 << 30  # of address space beyond what the process has before the first case
_FACTOR = 100  # bytes of memory for a byte of file: small numbers in text become Python objects
# What reading a file has no need of. compile is allowed: NumPy's .npy header goes through ast.literal_eval, which
# compiles and does not run.
_FORBIDDEN = (
    "exec", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.spawn", "os.startfile",
    "subprocess.Popen", "socket.", "ctypes.", "pickle.find_class", "marshal.", "code.__new__", "function.__new__",
    "shutil.", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.truncate",
    "urllib.", "ftplib.", "webbrowser.", "winreg.",
)  # fmt: skip
ALLOWED_ERRORS = ("ValueError", "UnsafePickleError", "ConfigError")


class Violation(BaseException):
    """What no file may bring about; no `except Exception` catches it."""


class Guard:
    """An audit hook that lets nothing happen but reading within a folder. It cannot be taken away, only turned off."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._on = str(folder), False
        sys.addaudithook(self._hook)

    @contextlib.contextmanager
    def on(self) -> typing.Iterator[None]:
        self._on = True
        try:
            yield
        finally:
            self._on = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on:
            return
        wrong = event.startswith(_FORBIDDEN)
        if event == "import":
            wrong = arguments[0] not in sys.modules
        elif event == "exec":  # typing evaluates the annotations of our own signatures
            wrong = sys._getframe(1).f_code.co_filename != typing.__file__
        elif event == "open":
            wrong = not self._is_reading_inside(*arguments)
        if wrong:
            self._on = False
            raise Violation(f"{event}{arguments!r}"[:300])

    def _is_reading_inside(self, path: Any, mode: Any, flags: int) -> bool:
        if isinstance(path, int):
            return True
        inside = (os.path.abspath(os.fsdecode(path)) + os.sep).startswith(self.folder + os.sep)
        return inside and not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)


def import_what_python_imports_late() -> None:
    """Codecs are looked up by name, all of them Python's own; showing a warning reads Python's sources."""
    warnings.simplefilter("ignore")
    for module in pkgutil.iter_modules(encodings.__path__, "encodings."):
        with contextlib.suppress(ImportError):  # those of other systems
            importlib.import_module(module.name)


def limit_memory() -> None:
    """Let the process have a gigabyte more than it has."""
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _HEADROOM, resource.RLIM_INFINITY))


def outcome(read: Callable[[], object], guard: Guard, size: int, memory: int) -> tuple[str, str]:
    """Read one case; return what came of it, in capitals what must not be, and details of that.

    Args:
        size: bytes of its files.
        memory: that reading may take beside 100 times the size.
    """
    tracemalloc.reset_peak()
    before, start, details = tracemalloc.get_traced_memory()[0], time.process_time(), ""
    try:
        with guard.on():
            read()
        found = "read"
    except ValueError as error:
        found = type(error).__name__ if type(error).__name__ in ALLOWED_ERRORS else "ValueError"
        if _is_from_memory_error(error):
            found, details = "MEMORY", traceback.format_exc(limit=-6)
    except BaseException as error:
        found, details = type(error).__name__.upper(), traceback.format_exc(limit=-6)
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1] - before
    if seconds > SECONDS:
        return "TIME", f"{seconds:.1f} s ({found})"
    if peak > memory + _FACTOR * size:
        return "MEMORY", f"{peak >> 20} MiB for {size} bytes ({found})"
    return found, details


def _is_from_memory_error(error: BaseException) -> bool:
    """True where memory was asked for and not had: it should not have been asked for."""
    chain: Any = error
    while chain is not None and not isinstance(chain, MemoryError):
        chain = chain.__cause__ or chain.__context__
    return chain is not None
