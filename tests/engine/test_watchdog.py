"""Laws of the watchdog: a run in which nothing happens any more ends, and says where everybody stands."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from launching import ROOT, launch

from ppfacerec.training.monitoring.watchdog import STALLED, Watchdog

LIMIT = 6  # seconds, which the first step must not take on a busy machine
PLUGIN = """
import ctypes
import os
import time

from ppfacerec.data import TRAIN_DATASETS
from ppfacerec.data.datasets.base import ImageNetDataset
from ppfacerec.training.state import Progress
from ppfacerec.evaluation.evaluator import Evaluator
from ppfacerec.training.trainer import Trainer


def sleep_with_the_lock(seconds):
    ctypes.PyDLL(None).sleep(seconds)


def sleep_for_ever():
    time.sleep(10_000)


@TRAIN_DATASETS.register
class Sleeping(ImageNetDataset):
    def read(self, index):
        if index == 7 and os.environ.get("SLEEPS") == "reading":
            sleep_for_ever()
        return super().read(index)


update, embed = Trainer._step, Evaluator._embed_batch


def sleepy_update(trainer):
    if trainer.state.progress.global_step == 2 and os.environ.get("SLEEPS") == "computing":
        sleep_with_the_lock(10_000)
    update(trainer)


def sleepy_embed(evaluator, runner, images):
    if os.environ.get("SLEEPS") == "evaluating":
        sleep_for_ever()
    time.sleep(float(os.environ.get("SLOW_EVALUATION", 0)))
    return embed(evaluator, runner, images)


Trainer._step, Evaluator._embed_batch = sleepy_update, sleepy_embed
"""


def train(config: Path, folder: Path, sleeps: str, *overrides: str, **environment: str) -> tuple[int, str]:
    """Status and output of a training in a process of its own, which must be over soon."""
    (folder / "sleeping.py").write_text(PLUGIN)
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "train.py"), "-c", str(config), "-o",
         "Global.plugins=[tiny_plugin, sleeping]", f"Global.watchdog_minutes={LIMIT / 60}", *overrides],
        cwd=folder, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests", folder))), "SLEEPS": sleeps,
             **environment},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_read_that_never_returns_ends_the_run_with_the_stacks_of_all(tiny_net_config, tmp_path, num_workers):
    status, output = train(
        tiny_net_config(), tmp_path, "reading", "DataLoader.Train.dataset.name=Sleeping",
        f"DataLoader.Train.loader.num_workers={num_workers}", "Global.eval_during_train=False",
    )  # fmt: skip
    assert status == STALLED, output
    report = (tmp_path / "output" / "stalled_rank0.txt").read_text()
    assert report in output
    assert "(Global.watchdog_minutes)" in report
    assert "the run ends with status 124. It is reading training data. Likely: a disk or network" in report
    assert "Threads of this process:\n" in report
    assert report.count("in sleep_for_ever") == 1
    processes = [part for part in report.split("\n\n") if part.startswith("Process ")]
    assert len(processes) == num_workers
    assert sum("in sleep_for_ever" in part for part in processes) == min(num_workers, 1)
    assert all("File " in part and "(sleeping)" in part for part in processes)  # the system's state of a process
    for part in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(int(part.split()[1]), 0)
    with open(tmp_path / "output" / "health.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["condition"] == "stalled"
    assert report.startswith(row["message"])


@pytest.mark.slow
def test_an_evaluation_that_hangs_is_seen_and_one_that_is_slow_is_let_alone(tiny_net_config, tmp_path):
    status, output = train(tiny_net_config(), tmp_path, "evaluating")
    assert status == STALLED, output
    assert "It is evaluating." in output
    status, output = train(
        tiny_net_config(), tmp_path, "", "Global.epochs=1", "DataLoader.Eval.dataset.val_targets=[lfw]",
        "DataLoader.Eval.sampler.batch_size=10", "Optimizer.lr={name: Constant, learning_rate: 0.01}",
        SLOW_EVALUATION="2",
    )  # fmt: skip
    assert status == 0, output  # 4 batches of 2 seconds, in more than the limit together


@pytest.mark.slow
def test_code_that_keeps_pythons_lock_cannot_hold_the_run(tiny_net_config, tmp_path):
    status, output = train(tiny_net_config(), tmp_path, "computing", "Global.eval_during_train=False")
    assert status == 1, output
    assert f"Timeout (0:00:{2 * LIMIT})!" in output
    assert "in sleep_with_the_lock" in output


def nothing(condition: str, message: str) -> None:
    pass


def test_a_run_that_goes_on_is_let_alone_and_leaves_nothing(tmp_path):
    before = signal.getsignal(signal.SIGUSR2)
    with Watchdog(0.005, tmp_path, nothing) as watchdog:  # 0.3 seconds
        for _ in range(10):
            time.sleep(0.1)
            watchdog.on_batch(None)
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGUSR2) == before


def test_without_minutes_there_is_no_watchdog(tmp_path):
    with Watchdog(None, tmp_path, nothing) as watchdog:
        watchdog.on_batch(None)
        time.sleep(0.1)


@pytest.mark.slow
def test_a_machine_that_slept_is_no_stall(tmp_path, monkeypatch):
    """The watchdog itself was late then."""
    from ppfacerec.training.monitoring import watchdog as module

    clock = SimpleNamespace(monotonic=lambda: 100 * time.monotonic(), sleep=time.sleep)  # every look is late
    monkeypatch.setattr(module, "time", clock)
    with Watchdog(0.1, tmp_path, nothing):  # 6 seconds, which would be over after 60 ms
        time.sleep(3.5)  # two looks


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "seconds"),
    [(signal.SIGSTOP, 4), (signal.SIGTSTP, 8)],  # Ctrl-Z: also beyond the timer of 3 + 3 seconds
)
def test_time_in_which_the_process_was_stopped_does_not_count(tmp_path, stop, seconds):
    code = (
        "import sys, time; from pathlib import Path; from ppfacerec.training.monitoring.watchdog import Watchdog\n"
        "with Watchdog(0.05, Path(sys.argv[1]), print):\n"  # 3 seconds
        "    print('in', flush=True); time.sleep(2)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        process.send_signal(stop)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        assert process.wait(30) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_each_of_two_processes_says_where_it_stands(tiny_net_config, tmp_path, monkeypatch):
    """The second one's data worker sleeps; the first one waits for the second."""
    (tmp_path / "sleeping.py").write_text(
        PLUGIN.replace("index == 7", "index and os.environ['PADDLE_TRAINER_ID'] == '1'")
    )
    monkeypatch.setenv("SLEEPS", "reading")
    output = launch(
        2, str(ROOT / "tools" / "train.py"), "-c", str(tiny_net_config()), "-o",
        "Global.plugins=[tiny_plugin, sleeping]", "Global.watchdog_minutes=0.1", "Global.eval_during_train=False",
        "DataLoader.Train.dataset.name=Sleeping", "DataLoader.Train.loader.num_workers=1",
        log_dir=tmp_path / "log", expect=1,
    )  # fmt: skip
    first, second = ((tmp_path / "output" / f"stalled_rank{rank}.txt").read_text() for rank in (0, 1))
    assert "or waiting for another process, whose own report shows where it is." in first
    assert "It is reading training data" in second
    assert "in sleep_for_ever" in second
    assert "in sleep_for_ever" not in first
    assert "No batch was finished for" in output
