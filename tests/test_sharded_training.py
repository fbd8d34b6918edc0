"""Laws of whole runs whose head is spread over processes: the same training, from any checkpoint, on any number of them."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from launching import ROOT, launch
from training_state import training_state

from ppfacerec.training.checkpoints.pretrained import read_weights

pytestmark = pytest.mark.slow

HEAD = {"name": "ArcMargin", "embedding_size": 16, "class_num": 5, "margin": 0.2, "scale": 16, "class_parallel": True}
# PlainNet has no batch statistics: samples do not depend on their batch. The last step of an epoch is uneven.
CHANGES = {"Arch.Backbone": {"name": "PlainNet"}, "Arch.Head": HEAD, "Optimizer.clip_norm": 0.5, "EMA.decay": 0.5}
TOGETHER = 12  # samples a step, of 20


def train(num_processes, config, output, *overrides):
    return launch(
        num_processes, str(ROOT / "tools" / "train.py"), "-c", str(config), "-o", f"Global.output_dir={output}",
        "Optimizer.lr={name: Constant, learning_rate: 0.01}", "Global.eval_during_train=False",
        f"DataLoader.Train.sampler.batch_size={TOGETHER // num_processes}", *overrides,
        log_dir=output.parent / f"log_{output.name}",
    )  # fmt: skip


def whole(value):
    """Numbers of a checkpoint, its head read from wherever it is."""
    if isinstance(value, dict):
        return {name: whole(v) for name, v in value.items()}
    return value.rows(0, value.shape[1]).T if hasattr(value, "rows") else value


def everything(prefix):
    return whole(training_state(prefix))


def assert_close(ours, expected, tolerance, where=""):
    if isinstance(expected, dict):
        assert ours.keys() == expected.keys(), where
        for name in expected:
            assert_close(ours[name], expected[name], tolerance, f"{where}.{name}")
    elif tolerance == 0 or not isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(ours, expected, err_msg=where)
    else:
        np.testing.assert_allclose(
            ours, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max(), err_msg=where
        )


def losses(output):
    with open(output / "train.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_a_head_trained_on_two_processes_goes_on_on_one_and_then_on_three(tiny_net_config, tmp_path):
    """With the optimizer's state and the average: in the end all is as if one process had done it."""
    config = tiny_net_config(**CHANGES)
    train(1, config, tmp_path / "one", "Global.epochs=6")
    moved, latest = tmp_path / "moved", f"Global.checkpoints={tmp_path}/moved/latest"
    output = train(2, config, moved, "Global.epochs=2", "Global.save_head=shards")
    assert "5 classes sharded over 2 processes (set by class_parallel)" in output
    shards = json.loads((moved / "latest.manifest.json").read_text())["files"]
    assert [shards[f".head_{rank}_of_2.pdhead"]["rows"] for rank in (0, 1)] == [[0, 3], [3, 5]]
    train(1, config, moved, "Global.epochs=4", latest)
    assert not list(moved.glob("latest.head_*"))
    train(3, config, moved, "Global.epochs=6", latest)
    assert_close(everything(moved / "latest"), everything(tmp_path / "one" / "latest"), 2e-3)
    assert read_weights(moved / "latest")["head.weight"].shape == (16, 5)
    # The log has the loss of rank 0's samples: all of them where it is alone.
    assert losses(moved)[4:8] == pytest.approx(losses(tmp_path / "one")[4:8], rel=1e-3)


def test_accumulation_and_uneven_batches_on_two_processes_are_one_large_batch(tiny_net_config, tmp_path):
    """6 + 6 and 6 + 2 samples on two processes are the steps of 12 and 8 on one."""
    config = tiny_net_config(**CHANGES)
    train(1, config, tmp_path / "one", "Global.epochs=3")
    train(
        2, config, tmp_path / "two", "Global.epochs=3", "Global.update_freq=2",
        "DataLoader.Train.sampler.batch_size=3", "Arch.Head.chunk_size=1",
    )  # fmt: skip
    one, two = (everything(tmp_path / name / "latest") for name in ("one", "two"))
    assert one["progress"]["global_step"] == two["progress"]["global_step"] == 6
    for part in ("weights", "optimizer"):
        assert_close(two[part], one[part], 2e-3)


def test_a_sampled_head_resumes_to_the_bit_on_two_processes(tiny_net_config, tmp_path):
    config = tiny_net_config(**{"Arch.Head": {**HEAD, "sample_rate": 0.5}, "EMA.decay": 0.5})
    train(2, config, tmp_path / "whole", "Global.epochs=3", "Global.save_head=shards")
    train(2, config, tmp_path / "part", "Global.epochs=3", f"Global.checkpoints={tmp_path}/whole/epoch_2")
    assert_close(everything(tmp_path / "part" / "latest"), everything(tmp_path / "whole" / "latest"), 0)
