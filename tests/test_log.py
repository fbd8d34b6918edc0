"""Laws of the log: meters, tables of rows, and bars only where a person watches."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from ppfacerec.core import log
from ppfacerec.core.log import CsvLog, Meters, duration, progress_bar, setup_logging, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_row_has_the_weighted_means_since_the_row_before():
    meters = Meters()
    for losses, num_samples, row in (({"loss": 1.0}, 3, True), ({"loss": 2.0}, 1, False), ({"loss": 5.0}, 2, True)):
        meters.begin()
        meters.read()
        meters.add(losses, num_samples)
        if row:
            last = meters.row(num_processes=2, batches_left=0)
    assert last["loss"] == 4.0
    assert last["ips"] == pytest.approx(1.5 * 2 / last["batch_cost"])
    assert last["eta"] == 0


def test_csv_goes_on_where_an_earlier_run_stopped(tmp_path):
    for epoch in (1, 2):
        CsvLog(tmp_path / "train.csv").write({"epoch": epoch, "loss": 0.5})
    assert (tmp_path / "train.csv").read_text().splitlines() == ["epoch,loss", "1,0.5", "2,0.5"]


@pytest.mark.parametrize(("seconds", "shown"), [(59.9, "0:00:59"), (3661, "1:01:01"), (90061, "1 day, 1:01:01")])
def test_duration_is_read_by_people(seconds, shown):
    assert duration(seconds) == shown


def test_table_has_columns():
    assert table(["set", "accuracy"], [["lfw", "0.5"]]) == "set  accuracy\n---  --------\nlfw       0.5"


@pytest.mark.parametrize(
    ("stream", "rank", "shows"), [(Terminal, "0", True), (io.StringIO, "0", False), (Terminal, "1", False)]
)
def test_a_bar_is_shown_on_rank_0s_terminal_only(monkeypatch, stream, rank, shows):
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setenv("PADDLE_TRAINER_ID", rank)
    assert list(progress_bar(range(5), 5, "Epoch 1")) == [0, 1, 2, 3, 4]
    assert ("Epoch 1" in sys.stderr.getvalue()) is shows


def test_other_ranks_speak_only_when_something_is_wrong(monkeypatch):
    logger = logging.getLogger("ppfacerec")
    before = logger.handlers, logger.level, logger.propagate
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    try:
        setup_logging(rank=1)
        logger.info("all is well")
        logger.warning("something is not")
        lines = sys.stdout.getvalue().splitlines()
    finally:
        logger.handlers, logger.level, logger.propagate = before
    assert [line.partition("] ")[2] for line in lines] == ["ppfacerec rank 1 WARNING: something is not"]


def test_wide_letters_count_as_two_columns():
    assert table(["set", "n"], [["测试", "1"], ["ab", "22"]]) == "set    n\n----  --\n测试   1\nab    22"


def test_long_work_without_a_terminal_says_how_far_it_is(monkeypatch, log_lines):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(log, "LOG_EVERY", 0.0)
    assert list(progress_bar(range(3), 3, "lfw", "batch")) == [0, 1, 2]
    assert list(progress_bar(range(3), 3, "Epoch 1", "batch", in_log=False)) == [0, 1, 2]
    assert [record.getMessage().rpartition(",")[0] for record in log_lines.records] == [
        "lfw: 1 of 3 (batch)", "lfw: 2 of 3 (batch)",
    ]  # fmt: skip


def test_a_repeated_warning_is_shown_the_first_tenth_and_hundredth_time(capsys):
    setup_logging()
    for _ in range(100):
        logging.getLogger("ppfacerec").warning("again %d", 1)
    lines = [line.split(": ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["again 1", "again 1 (for the 10th time)", "again 1 (for the 100th time)"]
