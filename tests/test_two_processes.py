"""Laws of several processes, through paddle.distributed.launch on the CPU."""

from __future__ import annotations

import csv
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from launching import ROOT, launch

from ppfacerec.data.pairs.pair_bin import read_bin, write_bin
from ppfacerec.training.checkpoints.pretrained import read_weights

pytestmark = pytest.mark.slow


def train(num_processes: int, config: Path, output: Path, *overrides: str, **options) -> str:
    return launch(
        num_processes, str(ROOT / "tools" / "train.py"), "-c", str(config), "-o", f"Global.output_dir={output}",
        *overrides, log_dir=output.parent / f"log_{output.name}", **options,
    )  # fmt: skip


def visualdl_steps(folder: Path) -> dict[tuple[str, str], list[int]]:
    from visualdl import LogReader

    (path,) = folder.glob("*/*")
    reader = LogReader(file_path=str(path))
    tags = [(kind, tag) for kind, found in reader.get_tags().items() for tag in found]
    return {(kind, tag): [record.id for record in reader.get_data(kind, tag)] for kind, tag in tags}


def test_two_processes_train_and_evaluate_as_one(tiny_net_config, tmp_path):
    """Without batch statistics and dropout, two processes of batch 2 take the very steps of one of batch 4."""
    config = tiny_net_config(**{"Arch.Backbone": {"name": "PlainNet"}})
    shared = ["Global.epochs=3", "DataLoader.Eval.sampler.batch_size=7", "Optimizer.name=Momentum"]
    shared.append("Global.use_visualdl=True")
    train(1, config, tmp_path / "one", *shared)
    train(2, config, tmp_path / "two", *shared, "DataLoader.Train.sampler.batch_size=2")
    one, two = (read_weights(tmp_path / name / "latest") for name in ("one", "two"))
    for key in one:
        np.testing.assert_allclose(two[key], one[key], rtol=1e-3, atol=1e-5, err_msg=key)
    for name in ("one", "two"):
        with open(tmp_path / name / "train.csv", newline="") as file:
            assert len(list(csv.DictReader(file))) == 15
    one, two = (visualdl_steps(tmp_path / name / "vdl") for name in ("one", "two"))
    assert one == two  # by rank 0 alone


def test_one_processes_checkpoint_goes_on_in_two(tiny_net_config, tmp_path):
    config = tiny_net_config()
    train(1, config, tmp_path / "run")
    output = train(
        2, config, tmp_path / "run", "Global.epochs=3", f"Global.checkpoints={tmp_path}/run/latest",
        "DataLoader.Train.sampler.batch_size=2",
    )  # fmt: skip
    assert "Resumed from" in output
    assert "epoch 3, iteration 0, optimizer step 10" in output


def test_an_error_in_one_process_ends_the_other(tiny_net_config, tmp_path):
    output = train(2, tiny_net_config(), tmp_path / "run", "Arch.Head.class_num=2", expect=1)
    assert "label 2 is out of range for class_num 2" in output


def evaluate(num_processes: int, config: Path, output: Path, *overrides: str, **options) -> str:
    return launch(
        num_processes, str(ROOT / "tools" / "eval.py"), "-c", str(config), "-o", f"Global.output_dir={output}",
        *overrides, log_dir=output.parent / f"log_{output.name}", **options,
    )  # fmt: skip


def test_several_processes_evaluate_to_the_same_numbers(tiny_net_config, tmp_path):
    """40 images a set: three processes with a batch each, and two of which the second has none."""
    config = tiny_net_config()
    train(1, config, tmp_path / "run", "Global.epochs=1", "Optimizer.lr={name: Constant, learning_rate: 0.01}")
    results = []
    for num_processes, batch_size in ((1, 16), (3, 16), (2, 64)):
        output = tmp_path / f"eval{num_processes}"
        evaluate(
            num_processes, tmp_path / "run" / "config.yaml", output, f"Global.pretrained_model={tmp_path}/run/latest",
            f"DataLoader.Eval.sampler.batch_size={batch_size}", "Global.eval_backend=auto", here=False,
        )  # fmt: skip
        results.append(json.loads((output / "eval.json").read_text()))
    assert results[0] == results[1] == results[2]


def test_an_image_that_does_not_decode_in_one_process_ends_all_with_its_name(tiny_net_config, tiny_data, tmp_path):
    """The last image is the second process's; the first must not wait for ever for the embeddings of it."""
    good = read_bin(tiny_data / "lfw.bin")
    images = [good.images[i] for i in good.index]
    write_bin(tmp_path / "bad.bin", [*images[:-1], b"broken"], good.is_same)
    config = tiny_net_config(
        **{"DataLoader.Eval.dataset.val_data_path": str(tmp_path), "DataLoader.Eval.dataset.val_targets": "all"}
    )
    output = evaluate(2, config, tmp_path / "eval", "DataLoader.Eval.sampler.batch_size=4", expect=1)
    message = f"{tmp_path}/bad.bin, entry 39 (pair 19) does not decode as an image: 6 bytes that start with b'broken'"
    assert f"ppfacerec ERROR: Rank 1 failed: {message}" in output  # what rank 0 says
    assert f"ppfacerec rank 1 ERROR: {message}" in output


DYING = """
import os, signal, time
from ppfacerec.data.loading.loader import TrainLoader
from ppfacerec.training.trainer import Trainer

original, close = Trainer._step, TrainLoader.close

def update(trainer):
    if os.environ["PADDLE_TRAINER_ID"] == "1" and trainer.state.progress.global_step == 2:
        {death}
    original(trainer)

def close_slowly(loader):  # meanwhile the launcher ends this process, as the other is gone
    time.sleep(1.5)
    close(loader)

Trainer._step, TrainLoader.close = update, close_slowly
"""


@pytest.mark.parametrize(
    ("death", "message"),
    [
        ("raise ValueError('peer/7.jpg (label.txt, line 7): does not decode')",
         "ERROR: Rank 1 failed first: peer/7.jpg (label.txt, line 7): does not decode"),
        ("raise KeyError('a bug')", "ERROR: Rank 1 failed first: KeyError: 'a bug'"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "code -9"),
    ],
)  # fmt: skip
def test_a_process_that_dies_ends_the_others_within_a_minute(tiny_net_config, tmp_path, death, message):
    """And what a person sees first is its message, not that a connection (to a peer) broke."""
    (tmp_path / "dying.py").write_text(DYING.format(death=death))
    began = time.monotonic()
    output = train(2, tiny_net_config(), tmp_path / "run", "Global.plugins=[tiny_plugin, dying]", expect=1)
    assert time.monotonic() - began < 60
    lines = [line for line in output.splitlines() if "ppfacerec ERROR" in line or "Container rank" in line]
    assert any(message in line for line in lines[:2]), output  # one of rank 0, one of the launcher
    assert ("and it left no message" in output) == (message == "code -9")
    assert not list((tmp_path / "run").glob(".failed*"))


def test_two_runs_at_the_same_time_do_not_collide(tiny_net_config, tmp_path):
    """Each launcher finds ports of its own; each run goes to its own folder and ends as if it were alone."""
    config = tiny_net_config(**{"Arch.Backbone": {"name": "PlainNet"}})
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(train, 2, config, tmp_path / name, "Global.epochs=2") for name in ("one", "two")]
        for run in runs:
            run.result()
    one, two = (read_weights(tmp_path / name / "latest") for name in ("one", "two"))
    for key in one:
        np.testing.assert_array_equal(two[key], one[key], err_msg=key)


DIFFERING = """
import os
from ppfacerec.training.callbacks import Callback
from ppfacerec.engine.engine import Engine

callbacks = Engine._callbacks

class Drift(Callback):
    def on_step(self, state):
        if state.progress.global_step == 3 and os.environ["PADDLE_TRAINER_ID"] == "1":
            bias = state.recognizer.backbone.fc.bias
            bias.set_value(bias + 1e-3)

def differing(engine, state, *rest):
    if {at_start} and os.environ["PADDLE_TRAINER_ID"] == "1":
        bias = state.recognizer.backbone.fc.bias
        bias.set_value(bias + 0.25)
    return [Drift(), *callbacks(engine, state, *rest)]

Engine._callbacks = differing
"""


@pytest.mark.parametrize("at_start", [True, False])
def test_unequal_replicas_never_train(tiny_net_config, tmp_path, at_start):
    """Neither where they are so from the start, nor, if that is asked for, where they become so."""
    (tmp_path / "differing.py").write_text(DIFFERING.format(at_start=at_start))
    output = train(
        2, tiny_net_config(), tmp_path / "run", "Global.plugins=[tiny_plugin, differing]",
        "Global.check_replicas_steps=1", expect=1,
    )  # fmt: skip
    assert "The processes do not train the same network: " in output
    assert "differ from rank 0's on rank 1 (backbone.fc.bias" in output
    assert "ranks 0, 1 on " in output
    assert ("[Train]" in output) == (not at_start)


RECORDING = """
import os
import numpy as np
from ppfacerec.training.replicas import Replicas

original = Replicas.average

def record(replicas, bn_sync):
    for moment in ("before", "after"):
        path = f"{moment}{os.environ['PADDLE_TRAINER_ID']}.npy"
        if not os.path.exists(path):  # of the first step
            np.save(path, replicas._backbone.features[1]._mean.numpy())
        if moment == "before":
            original(replicas, bn_sync)

Replicas.average = record
"""


@pytest.mark.parametrize("bn_sync", ["average", "broadcast"])
def test_batch_norm_statistics_are_made_equal_after_every_step(tiny_net_config, tmp_path, bn_sync):
    (tmp_path / "recording.py").write_text(RECORDING)
    train(
        2, tiny_net_config(), tmp_path / "run", "Global.plugins=[tiny_plugin, recording]", "Global.epochs=2",
        "Global.eval_during_train=False", f"Global.bn_sync={bn_sync}", "Global.save_interval=9",
    )  # fmt: skip
    before, after = ([np.load(tmp_path / f"{moment}{rank}.npy") for rank in (0, 1)] for moment in ("before", "after"))
    assert np.abs(before[0] - before[1]).max() > 1e-4
    expected = (before[0] + before[1]) / 2 if bn_sync == "average" else before[0]
    for statistics in after:
        np.testing.assert_allclose(statistics, expected, rtol=1e-6)
