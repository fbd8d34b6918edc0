"""The log: lines on the terminal and in a file (rank 0), meters and CSV."""

from __future__ import annotations

import collections
import csv
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from tqdm import tqdm

from ppfacerec.printable import printable
from ppfacerec.whole_file import text_written_whole

logger = logging.getLogger("ppfacerec")


def setup_logging(rank: int = 0) -> None:
    """Send the log to the terminal: everything from rank 0, warnings from the others with their rank."""
    who = "ppfacerec" if rank == 0 else f"ppfacerec rank {rank}"
    handler = _TerminalHandler(sys.stdout)
    handler.setFormatter(_Formatter(f"[%(asctime)s] {who} %(levelname)s: %(message)s", "%Y/%m/%d %H:%M:%S"))
    logger.handlers, logger.filters = [handler], [_Repeated()]
    logger.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    logger.propagate = False


def setup_library_logging() -> None:
    """For use from Python: warnings on the terminal, unless the program has set up its own logging.

    To be called before Paddle is imported, which gives the root logger a handler of its own.
    """
    if not logger.handlers and not logging.root.handlers:
        setup_logging()
        logger.setLevel(logging.WARNING)


class _Repeated(logging.Filter):
    """Shows a warning that comes again and again the 1st, 10th, 100th, ... time, with the count."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: collections.Counter[str] = collections.Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        text = record.getMessage()
        self._counts[text] += 1
        count = self._counts[text]
        if count > 1:
            record.msg, record.args = f"{text} (for the {count}th time)", ()
        return str(count).strip("0") == "1"


class _Formatter(logging.Formatter):
    """Shows names and labels that come from files without obeying them.

    A line break in one of them begins a line of the same message, which must not look like a message of its own.
    """

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n\t").replace("\n[", "\n [")


class _TerminalHandler(logging.StreamHandler):
    """Writes lines above a progress bar, not through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=self.stream)
        self.flush()


def progress_bar(iterable: Iterable[Any], total: int, what: str, unit: str = "it", initial: int = 0) -> tqdm:
    """Iterate with a bar on rank 0's terminal; where nobody watches (a file, a pipe) there is none.

    Args:
        total: length of the whole, `initial` of which is done already.
        what: stands before the bar.
        unit: what is counted.
    """
    is_watched = sys.stderr.isatty() and os.environ.get("PADDLE_TRAINER_ID", "0") == "0"
    return tqdm(
        iterable, what, total, leave=False, disable=not is_watched, unit=unit, initial=initial, dynamic_ncols=True
    )


def log_to_file(path: Path) -> None:
    """Write the log's lines to a file as well, appended to what an earlier run wrote there."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logger.handlers[0].formatter if logger.handlers else _Formatter())
    logger.addHandler(handler)


class Meter:
    """Mean of the values since the last `reset`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._sum, self._count = 0.0, 0.0

    def update(self, value: float, count: float = 1) -> None:
        self._sum += value * count
        self._count += count

    @property
    def mean(self) -> float:
        return self._sum / max(self._count, 1e-30)


def duration(seconds: float) -> str:
    """``"1 day, 2:03:04"``: whole seconds as hours, minutes, seconds."""
    days, rest = divmod(int(seconds), 86400)
    clock = f"{rest // 3600}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days} day{'s' if days > 1 else ''}, {clock}" if days else clock


class CsvLog:
    """One row a call, with the columns of the first; a resumed run goes on in the same file.

    Args:
        path: the file; None writes nothing (ranks other than 0).
    """

    def __init__(self, path: Optional[Path]) -> None:
        self._path = path

    def write(self, row: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        is_new = not self._path.exists()
        try:
            with open(self._path, "a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, fieldnames=list(row))
                if is_new:
                    writer.writeheader()
                writer.writerow(row)
        except OSError as error:
            raise ValueError(f"{self._path} cannot be written ({error.strerror}); see to the disk.") from error

    def keep(self, is_kept: Callable[[Mapping[str, str]], bool]) -> None:
        """Drop the rows that a resumed run will write again, and one that a kill has cut off."""
        if self._path is None or not self._path.is_file():
            return
        with open(self._path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = [row for row in reader if None not in row.values() and is_kept(row)]
        if not rows:
            self._path.unlink()
            return
        with text_written_whole(self._path) as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Plain-text table: the first `left` columns flush left, the others flush right; cells may come from files."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    line = "  ".join("-" * w for w in widths)
    shown = [
        "  ".join(cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        for row in [header, *rows]
    ]
    return "\n".join([shown[0], line, *shown[1:]])
