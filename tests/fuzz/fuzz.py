"""Spoil files of every kind and read them: a result or a ValueError, nothing else, in bounded time and memory.

python tests/fuzz/fuzz.py --cases 20000 --seed 0
python tests/fuzz/fuzz.py --formats .bin ".pth zip" --case 1234

Each format is tried in a process of its own, whose audit hook ends a case that imports, executes, connects, or opens
a file outside of its own folder. A case depends on seed, format and number alone; --case runs one of them, and leaves its
files in ./fuzz_case.
"""

from __future__ import annotations

import argparse
import contextlib
import encodings
import importlib
import json
import os
import pkgutil
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import tracemalloc
import typing
import warnings
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).parent
sys.path.append(str(HERE))
sys.path.insert(0, str(HERE.parents[1]))
os.environ.setdefault("GLOG_minloglevel", "3")

SECONDS = 5.0  # of CPU time for one case; the machine may be slow
_HEADROOM = 1 << 30  # of address space beyond what the process has before the first case
# What reading a file has no need of. compile: NumPy's .npy header goes through ast.literal_eval, which compiles and
# does not run.
_FORBIDDEN = (
    "exec", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.spawn", "os.startfile",
    "subprocess.Popen", "socket.", "ctypes.", "pickle.find_class", "marshal.", "code.__new__", "function.__new__",
    "shutil.", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.truncate",
    "urllib.", "ftplib.", "webbrowser.", "winreg.",
)  # fmt: skip


class Violation(BaseException):
    """What no file may bring about; no `except Exception` catches it."""


class Guard:
    """An audit hook that lets nothing happen but reading within a folder. It cannot be taken away, only turned off."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.on = str(folder), False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        wrong = event.startswith(_FORBIDDEN)
        if event == "import":
            wrong = arguments[0] not in sys.modules
        elif event == "exec":  # typing evaluates the annotations of our own signatures
            wrong = sys._getframe(1).f_code.co_filename != typing.__file__
        elif event == "open":
            wrong = not self._is_reading_inside(*arguments)
        if wrong:
            self.on = False
            raise Violation(f"{event}{arguments!r}"[:300])

    def _is_reading_inside(self, path: Any, mode: Any, flags: int) -> bool:
        if isinstance(path, int):
            return True
        inside = (os.path.abspath(os.fsdecode(path)) + os.sep).startswith(self.folder + os.sep)
        return inside and not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)


def spoil(name: str, samples: Any, seed: int, case: int) -> dict[str, bytes]:
    """The files of one case."""
    from fuzz_formats import FORMATS

    rng, format_ = Random(f"{seed}/{name}/{case}"), FORMATS[name]
    files = dict(rng.choice(samples))
    pattern, change = rng.choice(list(format_.changes.items()))
    matching = [file for file in files if file == pattern or (pattern[-1] == "*" and file.startswith(pattern[:-1]))]
    chosen = rng.choice(matching)
    files[chosen] = change(rng, files[chosen])
    return format_.finish(files) if format_.finish else files


def write(folder: Path, files: dict[str, bytes]) -> None:
    for file, content in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _read_guarded(format_: Any, folder: Path, guard: Guard) -> None:
    guard.on = True
    try:
        format_.read(folder)
    finally:
        guard.on = False


def outcome(name: str, folder: Path, files: dict[str, bytes], guard: Guard) -> tuple[str, str]:
    """Read one case; return (what came of it, details of what must not)."""
    from fuzz_formats import FORMATS

    format_ = FORMATS[name]
    allowed = format_.memory + 100 * sum(map(len, files.values()))
    tracemalloc.reset_peak()
    before, start, details = tracemalloc.get_traced_memory()[0], time.process_time(), ""
    try:
        _read_guarded(format_, folder, guard)
        found = "read"
    except ValueError as error:
        found = type(error).__name__ if type(error).__name__ in ("UnsafePickleError", "ConfigError") else "ValueError"
        chain: Any = error
        while chain is not None:
            if isinstance(chain, MemoryError):
                found, details = "MEMORY", traceback.format_exc(limit=-6)
            chain = chain.__cause__ or chain.__context__
    except BaseException as error:
        found, details = type(error).__name__.upper(), traceback.format_exc(limit=-6)
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1] - before
    if seconds > SECONDS:
        return "TIME", f"{seconds:.1f} s ({found})"
    if peak > allowed:
        return "MEMORY", f"{peak >> 20} MiB for {sum(map(len, files.values()))} bytes ({found})"
    return found, details


def child(name: str, first: int, last: int, seed: int) -> None:
    """Run cases of one format, and print a line of JSON with the outcomes."""
    from fuzz_formats import FORMATS

    samples = FORMATS[name].samples()
    folder = Path(tempfile.mkdtemp(prefix="fuzz_", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)).resolve()
    guard = Guard(folder)
    failures: list[str] = []
    try:
        warnings.simplefilter("ignore")  # showing one reads Python's sources
        for module in pkgutil.iter_modules(encodings.__path__, "encodings."):  # looked up by name, all of Python's
            with contextlib.suppress(ImportError):  # those of other systems
                importlib.import_module(module.name)
        for sample in samples:  # the good files are read, and bring in the modules that reading needs
            write(folder, sample)
            _read_sample(name, folder)
        for number in range(200):  # what only an error needs
            _warm(name, folder, spoil(name, samples, seed + 1, -1 - number))
        _limit_memory()
        tracemalloc.start()
        signal.signal(signal.SIGALRM, _too_long)
        counts: Counter[str] = Counter()
        start = time.process_time()
        for case in range(first, last):
            files = spoil(name, samples, seed, case)
            write(folder, files)
            signal.alarm(60)
            found, details = outcome(name, folder, files, guard)
            signal.alarm(0)
            counts[found] += 1
            if found.isupper():
                failures.append(f"{name} --case {case}: {found} {details}")
            _clean(folder, samples[0], files)
        seconds = time.process_time() - start
    finally:
        shutil.rmtree(folder)
    print(json.dumps({"counts": counts, "failures": failures, "seconds": seconds}))


def _too_long(*_: Any) -> None:
    raise Violation("a case takes more than a minute")


def _clean(folder: Path, sample: dict[str, bytes], files: dict[str, bytes]) -> None:
    for file in files:
        (folder / file).unlink(missing_ok=True)


def _read_sample(name: str, folder: Path) -> None:
    from fuzz_formats import FORMATS

    try:
        FORMATS[name].read(folder)
    except ValueError:
        if name not in ("YAML config",):  # their samples have something to complain about
            raise


def _warm(name: str, folder: Path, files: dict[str, bytes]) -> None:
    from fuzz_formats import FORMATS

    write(folder, files)
    try:
        FORMATS[name].read(folder)
    except Exception:  # what it should have been is asked in the cases
        traceback.format_exc()


def _limit_memory() -> None:
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _HEADROOM, size + _HEADROOM))


def run(names: list[str], cases: int, seed: int, first: int = 0) -> tuple[dict[str, Counter[str]], list[str]]:
    """Try formats, each in its own process; return outcomes by format, and what must not be."""
    outcomes: dict[str, Counter[str]] = {}
    failures: list[str] = []
    for name in names:
        command = [sys.executable, str(HERE / "fuzz.py"), "--child", name, str(first), str(first + cases), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True)
        try:
            told = json.loads(done.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            told = {
                "counts": {},
                "failures": [f"{name}: the process died ({done.returncode}): {done.stderr[-2000:]}"],
                "seconds": 0,
            }
        outcomes[name] = Counter(told["counts"])
        failures += told["failures"]
        print(f"{name}: {dict(outcomes[name])}, {told['seconds']:.0f} s of CPU time", file=sys.stderr, flush=True)
    return outcomes, failures


def main() -> int:
    from fuzz_formats import FORMATS

    if sys.argv[1:2] == ["--child"]:
        name, first, last, seed = sys.argv[2:]
        child(name, int(first), int(last), int(seed))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000, help="of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--case", type=int, help="only this one; its files are left in ./fuzz_case")
    arguments = parser.parse_args()
    first, cases = (0, arguments.cases) if arguments.case is None else (arguments.case, 1)
    if arguments.case is not None:
        files = spoil(arguments.formats[0], FORMATS[arguments.formats[0]].samples(), arguments.seed, arguments.case)
        write(Path("fuzz_case"), files)
    outcomes, failures = run(arguments.formats, cases, arguments.seed, first)
    columns = ["read", "ValueError", "UnsafePickleError", "ConfigError"]
    print("| format | cases | " + " | ".join(columns) + " | anything else |\n" + "|---" * (len(columns) + 3) + "|")
    for name, counts in outcomes.items():
        known = [counts[column] for column in columns]
        row = [sum(counts.values()), *known, sum(counts.values()) - sum(known)]
        print(f"| {name} | " + " | ".join(f"{number:,}" for number in row) + " |")
    print("\n".join(failures[:50]), file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
