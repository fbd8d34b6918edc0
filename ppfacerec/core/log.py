"""Logging: lines on the terminal and in a file (rank 0), meters and CSV."""

import collections
import csv
import logging
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ppfacerec.core.io.atomic_file import atomic_write_text
from ppfacerec.core.printable import printable, without_secrets

logger = logging.getLogger("ppfacerec")
LOG_EVERY = 60.0  # seconds between two lines of progress without a terminal


def setup_logging(rank: int = 0) -> None:
    """Send the log to the terminal: everything from rank 0, warnings from the others with their rank."""
    who = "ppfacerec" if rank == 0 else f"ppfacerec rank {rank}"
    handler = _TerminalHandler(sys.stdout)
    handler.setFormatter(_Formatter(f"[%(asctime)s] {who} %(levelname)s: %(message)s", "%Y/%m/%d %H:%M:%S"))
    logger.handlers, logger.filters = [handler], [_Repeated()]
    logger.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    logger.propagate = False


def setup_library_logging() -> None:
    """Show warnings on the terminal when used as a library, unless the program has set up its own logging.

    Call it before importing Paddle, which adds a handler to the root logger.
    """
    if not logger.handlers and not logging.root.handlers:
        setup_logging()
        logger.setLevel(logging.WARNING)


class _Repeated(logging.Filter):
    """Show a repeated warning the 1st, 10th, 100th, ... time, with the count."""

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
    """Escape unsafe characters from files; a line break in them must not look like the beginning of a message."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(without_secrets(super().format(record)), keep="\n\t").replace("\n[", "\n [")


class _TerminalHandler(logging.StreamHandler):
    """Write lines above a progress bar, not through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=self.stream)
        self.flush()


def progress_bar(
    iterable: Iterable[Any], total: int, what: str, unit: str = "it", initial: int = 0, *, in_log: bool = True
) -> tqdm:
    """Iterate with a bar on rank 0's terminal; without a terminal (a file, a pipe), log a line now and then.

    Args:
        total: length of the whole, of which `initial` is already done.
        what: label before the bar.
        unit: what is counted.
        in_log: whether to log lines; the training loop writes its own.
    """
    is_first = os.environ.get("PADDLE_TRAINER_ID", "0") == "0"
    is_watched = sys.stderr.isatty() and is_first
    if in_log and is_first and not is_watched:
        iterable = _with_log_lines(iterable, total, what, unit)
    return tqdm(
        iterable, what, total, leave=False, disable=not is_watched, unit=unit, initial=initial, dynamic_ncols=True
    )


def _with_log_lines(iterable: Iterable[Any], total: int, what: str, unit: str) -> Iterator[Any]:
    began = said = time.monotonic()
    for done, item in enumerate(iterable):
        now = time.monotonic()
        if done and now - said >= LOG_EVERY:
            said, left = now, duration((now - began) / done * (total - done))
            logger.info("%s: %d of %d (%s), about %s left", what, done, total, unit, left)
        yield item


def log_to_file(path: Path) -> None:
    """Also append the log's lines to a file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logger.handlers[0].formatter if logger.handlers else _Formatter())
    logger.addHandler(handler)


class Meters:
    """Mean losses and times of training since the last row."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._samples, self._batches = 0, 0
        self.begin()

    def begin(self) -> None:
        """Start timing a batch, which is read next."""
        self._began = time.perf_counter()

    def read(self) -> None:
        """Record that the batch was read."""
        self._read = time.perf_counter()

    def add(self, losses: Mapping[str, float], num_samples: int) -> None:
        """Record that the batch was trained."""
        seconds = {"batch_cost": time.perf_counter() - self._began, "reader_cost": self._read - self._began}
        for name, value in [*((k, v * num_samples) for k, v in losses.items()), *seconds.items()]:
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._samples, self._batches = self._samples + num_samples, self._batches + 1

    def row(self, num_processes: int, batches_left: int) -> dict[str, float]:
        """Return losses per sample, seconds per batch, samples per second (all ranks) and seconds left; then reset."""
        times = {name: self._sums.pop(name) / self._batches for name in ("batch_cost", "reader_cost")}
        row = {name: total / self._samples for name, total in self._sums.items()}
        ips = self._samples / self._batches * num_processes / times["batch_cost"]
        self._sums, self._samples, self._batches = {}, 0, 0
        return {**row, **times, "ips": ips, "eta": round(batches_left * times["batch_cost"])}


def duration(seconds: float) -> str:
    """``"1 day, 2:03:04"``: whole seconds as hours, minutes, seconds."""
    days, rest = divmod(int(seconds), 86400)
    clock = f"{rest // 3600}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days} day{'s' if days > 1 else ''}, {clock}" if days else clock


class CsvLog:
    """Write one row per call (none if `path` is None), with the columns of the first; a resumed run appends."""

    def __init__(self, path: Path | None) -> None:
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
            raise ValueError(f"{self._path} cannot be written ({error.strerror}); check the disk.") from error

    def keep(self, is_kept: Callable[[Mapping[str, str]], bool]) -> None:
        """Drop rows that a resumed run will write again, and a row truncated by a kill."""
        if self._path is None or not self._path.is_file():
            return
        with open(self._path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = [row for row in reader if None not in row.values() and is_kept(row)]
        if not rows:
            self._path.unlink()
            return
        with atomic_write_text(self._path) as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Format a table as text: the first `left` columns flush left, the others right; cells may come from files."""
    cells = [list(header), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(_display_width, column)) for column in zip(*cells)]
    lines = []
    for row in cells:
        pads = [" " * (width - _display_width(cell)) for cell, width in zip(row, widths)]
        lines.append("  ".join(c + p if i < left else p + c for i, (c, p) in enumerate(zip(row, pads))))
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def _display_width(text: str) -> int:
    """Terminal columns of a text: Chinese and other wide characters take two, combining marks none."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) != 0 for letter in text)
