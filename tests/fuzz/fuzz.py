"""Spoil files of every kind and read them: a result or a ValueError, nothing else, in bounded time and memory.

python tests/fuzz/fuzz.py --cases 20000 --seed 0
python tests/fuzz/fuzz.py --formats .bin ".pth zip" --case 1234

Formats are tried in child processes whose audit hook ends a case that imports, executes, connects, or opens a file
outside of its own folder. A case depends on seed, format and number alone; --case runs one of them, and leaves its files in
./fuzz_case.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from fuzz_formats import FORMATS
from fuzz_guard import ALLOWED_ERRORS, Guard, Violation, import_what_python_imports_late, limit_memory, outcome
from fuzz_mutations import Files

HERE = Path(__file__).parent
_INCOMPLETE = ("YAML config",)  # its sample has something to complain about: no data is there
_SHOWN = 5  # failures of a format
_WARM_UP = 100  # cases that bring in what only errors need


def spoil(name: str, samples: Sequence[Files], seed: int, case: int) -> Files:
    """The files of one case."""
    rng, format_ = Random(f"{seed}/{name}/{case}"), FORMATS[name]
    files = dict(rng.choice(samples))
    pattern, change = rng.choice(list(format_.changes.items()))
    matching = [file for file in files if file == pattern or (pattern[-1] == "*" and file.startswith(pattern[:-1]))]
    chosen = rng.choice(matching)
    files[chosen] = change(rng, files[chosen])
    return format_.finish(files) if format_.finish else files


def write(folder: Path, files: Files) -> None:
    for file, content in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def child(names: Sequence[str], first: int, last: int, seed: int) -> None:
    """Run cases of some formats, and print a line of JSON for each with the outcomes."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz_", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)).resolve()
    guard = Guard(folder)
    import_what_python_imports_late()
    signal.signal(signal.SIGALRM, _too_long)
    try:
        for name in names:
            print(json.dumps(_try_format(name, folder / "case", guard, range(first, last), seed)), flush=True)
    finally:
        shutil.rmtree(folder)


def _try_format(name: str, folder: Path, guard: Guard, cases: range, seed: int) -> dict[str, Any]:
    format_ = FORMATS[name]
    samples = format_.samples()
    tracemalloc.stop()
    for sample in samples:  # the good files are read, and bring in the modules that reading needs
        write(folder, sample)
        with contextlib.suppress(*([ValueError] if name in _INCOMPLETE else [])):
            format_.read(folder)
    for number in range(1, _WARM_UP):
        write(folder, spoil(name, samples, seed, -number))
        with contextlib.suppress(Exception):  # what it should have been is asked in the cases
            format_.read(folder)
    shutil.rmtree(folder)
    limit_memory()
    tracemalloc.start()
    counts: Counter[str] = Counter()
    failures, start = [], time.process_time()
    for case in cases:
        files = spoil(name, samples, seed, case)
        write(folder, files)
        signal.alarm(60)
        found, details = outcome(lambda: format_.read(folder), guard, sum(map(len, files.values())), format_.memory)
        signal.alarm(0)
        counts[found] += 1
        if found.isupper():
            failures.append(f"{name} --case {case}: {found} {details}")
        for file in files:
            (folder / file).unlink()
    shutil.rmtree(folder, ignore_errors=True)
    return {"name": name, "counts": counts, "failures": failures, "seconds": time.process_time() - start}


def _too_long(*_: Any) -> None:
    raise Violation("a case takes more than a minute")


def run(
    groups: Sequence[Sequence[str]], cases: int, seed: int, first: int = 0
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Try formats, each group in its own process; return outcomes by format, and what must not be."""
    outcomes: dict[str, Counter[str]] = {}
    failures: list[str] = []
    for names in groups:
        command = [sys.executable, str(HERE / "fuzz.py"), "--child", *names, str(first), str(first + cases), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True)
        told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"name"')]
        for one in told:
            outcomes[one["name"]] = Counter(one["counts"])
            failures += one["failures"][:_SHOWN]
            shown = f"{one['name']}: {one['counts']}, {one['seconds']:.0f} s of CPU time"
            print(shown, file=sys.stderr, flush=True)
        if len(told) < len(names):
            failures.append(f"{names[len(told)]}: the process died ({done.returncode}): {done.stderr[-2000:]}")
    return outcomes, failures


def table(outcomes: dict[str, Counter[str]]) -> str:
    columns = ["read", *ALLOWED_ERRORS]
    lines = ["| format | cases | " + " | ".join(columns) + " | anything else |", "|---" * (len(columns) + 3) + "|"]
    for name, counts in outcomes.items():
        known = [counts[column] for column in columns]
        row = [sum(counts.values()), *known, sum(counts.values()) - sum(known)]
        lines.append(f"| {name} | " + " | ".join(f"{number:,}" for number in row) + " |")
    return "\n".join(lines)


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        *names, first, last, seed = sys.argv[2:]
        child(names, int(first), int(last), int(seed))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000, help="of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--case", type=int, help="only this one; its files are left in ./fuzz_case")
    arguments = parser.parse_args()
    first, cases = (0, arguments.cases) if arguments.case is None else (arguments.case, 1)
    if arguments.case is not None:
        name = arguments.formats[0]
        write(Path("fuzz_case"), spoil(name, FORMATS[name].samples(), arguments.seed, arguments.case))
    outcomes, failures = run([[name] for name in arguments.formats], cases, arguments.seed, first)
    print(table(outcomes))
    print("\n".join(failures), file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
