"""Laws of the worker processes: they answer in order, name what fails, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from ppfacerec.core.registry import Spec
from ppfacerec.data.datasets.synthetic_dataset import SyntheticDataset
from ppfacerec.data.loading.bad_images import BadImages
from ppfacerec.data.loading.batch_maker import BatchMaker, SampleGenerators
from ppfacerec.data.loading.loader import TrainLoader
from ppfacerec.data.loading.sampler import DistributedBatchSampler
from ppfacerec.data.loading.workers import Task, WorkerPool
from ppfacerec.data.transforms.basic import Pipeline

OPS = [Spec("DecodeImage"), Spec("RandFlipImage"), Spec("NormalizeImage")]
TASKS = [Task(1, np.arange(4 * step, 4 * step + 3 + step % 2)) for step in range(9)]


def make_pool(num_workers=2, dataset=None, prefetch_factor=2):
    maker = BatchMaker(dataset or SyntheticDataset(100, 10), Pipeline(OPS), BadImages(), seed=0)
    return WorkerPool(maker, num_workers, 4, prefetch_factor), maker


def assert_gone(pids):
    """No process is left of them, not even a zombie."""
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


@pytest.mark.parametrize(("num_workers", "prefetch_factor"), [(1, 1), (2, 2), (3, 1), (5, 4)])
def test_batches_come_in_order_and_whole(num_workers, prefetch_factor):
    pool, maker = make_pool(num_workers, prefetch_factor=prefetch_factor)
    for _ in range(2):  # the same processes again
        for (images, made), task in zip(pool.run(TASKS), TASKS):
            expected = np.empty_like(images)
            maker.make(task.epoch, task.indices, expected)
            np.testing.assert_array_equal(images, expected)
            np.testing.assert_array_equal(made.indices, task.indices)
    pids = [process.pid for process in pool._processes]
    pool.close()
    assert_gone(pids)


class Slow(SyntheticDataset):
    """Its first samples take longest, so the workers finish out of order."""

    def read(self, index):
        time.sleep(max(0.0, 0.02 - index * 0.002))
        return super().read(index)


def test_order_is_kept_when_a_worker_is_slow():
    pool, _ = make_pool(3, Slow(100, 10))
    assert [made.indices.tolist() for _, made in pool.run(TASKS)] == [t.indices.tolist() for t in TASKS]
    pool.close()


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_the_run_with_a_message(victim):
    pool, _ = make_pool(2, Slow(100, 10))
    pids = [process.pid for process in pool._processes]
    run = pool.run(Task(1, np.arange(4)) for _ in range(1000))
    next(run)
    os.kill(pids[victim], signal.SIGKILL)
    with pytest.raises(
        ValueError, match=rf"Data worker {victim + 1} of 2 \(process {pids[victim]}\) was terminated by SIGKILL\."
    ):
        for _ in run:
            pass
    assert_gone(pids)


def test_a_run_that_is_left_ends_its_workers():
    pool, _ = make_pool()
    pids = [process.pid for process in pool._processes]
    run = pool.run(TASKS)
    next(run)
    run.close()
    assert_gone(pids)


class Broken(SyntheticDataset):
    def read(self, index):
        raise ZeroDivisionError("a mistake of a plugin")


def test_an_error_of_a_plugin_names_the_sample():
    pool, _ = make_pool(1, Broken(100, 10))
    with pytest.raises(RuntimeError, match=r"(?s)synthetic image 0: ZeroDivisionError: a mistake of a plugin.*in read"):
        list(pool.run(TASKS))


SCRIPT = """
import os, sys, time
sys.path.insert(0, {tests!r})
from data.test_workers import TASKS, make_pool
pool, _ = make_pool()
run = pool.run(TASKS)
next(run)
print(*(process.pid for process in pool._processes), flush=True)
{end}
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "raise ValueError", "os._exit(1)", "time.sleep(60)"])
def test_workers_end_with_the_trainer_however_it_ends(end, tmp_path):
    """At its end, at an error, without any clean-up, and by kill -9; and nothing is left in shared memory."""
    before = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    script = SCRIPT.format(tests=tests, end=end)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    if "sleep" in end:
        process.kill()
    process.wait(30)
    assert_gone(pids)
    if before:
        assert not [name for name in set(os.listdir("/dev/shm")) - before if str(process.pid) in name]


def test_signals_of_the_group_leave_the_workers_alone():
    pool, _ = make_pool()
    run = pool.run(TASKS)
    next(run)
    for pid in [process.pid for process in pool._processes]:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
    assert len(list(run)) == len(TASKS) - 1
    pool.close()


def test_too_little_memory_is_a_clear_error():
    maker = BatchMaker(SyntheticDataset(100, 10), Pipeline(OPS), BadImages(), seed=0)
    with pytest.raises(
        ValueError,
        match=r"\d+ MiB cannot be allocated for the batches of the data workers \(.*\)\. Use a smaller sampler\.batch_size",
    ):
        WorkerPool(maker, 2, 10**12)


@pytest.mark.parametrize("persistent", [True, False])
def test_persistent_workers_stay_and_others_go(persistent):
    dataset = SyntheticDataset(30, 10)
    loader = TrainLoader(dataset, Pipeline(OPS), DistributedBatchSampler(30, 4), 2, persistent_workers=persistent)
    others = set(psutil.Process().children())  # of tests before
    children = []
    for epoch in (1, 2):
        batches = loader.epoch(epoch)
        next(batches)
        children.append({child.pid for child in set(psutil.Process().children()) - others})
        assert len(list(batches)) == len(loader) - 1
    assert (children[0] == children[1]) == persistent
    loader.close()
    assert_gone(children[0] | children[1])


def test_a_samples_random_numbers_depend_on_seed_epoch_and_sample_alone():
    generators = SampleGenerators(5)
    first = generators.of(1, 70).random(9)
    generators.of(2, 3).integers(0, 10, 7)
    generators.of(2, 3).random(dtype=np.float32)
    np.testing.assert_array_equal(generators.of(1, 70).random(9), first)
    others = [SampleGenerators(6).of(1, 70), SampleGenerators(5).of(2, 70), SampleGenerators(5).of(1, 71)]
    for other in others:
        assert not np.isin(other.random(9), first).any()


def test_samples_random_numbers_are_uniform_and_independent():
    """Mean, variance and neighbours' correlation of the first number of 20,000 samples, within 5 standard errors."""
    generators, count = SampleGenerators(0), 20_000
    values = np.array([generators.of(1, index).random() for index in range(count)])
    assert abs(values.mean() - 0.5) < 5 * np.sqrt(1 / 12 / count)
    assert abs(values.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / count)
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 5 / np.sqrt(count)
