"""Laws of a whole run: what it writes, that it learns, resumes to the bit, accumulates, and stops cleanly."""

from __future__ import annotations

import csv
import json
import os
import signal

import numpy as np
import paddle
import pytest
import tiny_plugin
from training_state import assert_same_checkpoint

from ppfacerec.config import load_config
from ppfacerec.data.pairs.pair_bin import write_bin
from ppfacerec.engine import Engine, TrainingStopped
from ppfacerec.training.checkpoints.checkpoint import load_states
from ppfacerec.training.checkpoints.pretrained import read_weights
from ppfacerec.training.trainer import Trainer


def train(path, *overrides):
    config, notes = load_config(path, overrides)
    return Engine(config, notes).train()


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_mobilefacenet_trains_and_its_best_model_evaluates_without_a_config(tiny_config, tmp_path):
    from ppfacerec.cli import main

    output = tmp_path / "output"
    assert main(["train", "-c", str(tiny_config())]) == 0
    expected = ["best_model", "epoch_1", "epoch_2", "latest"]
    files = sorted(p.name for p in output.iterdir())
    suffixes = (".info.json", ".manifest.json", ".pdopt", ".pdparams", ".pdstates")
    others = [
        "config.yaml",
        "eval.csv",
        "eval.json",
        "train.csv",
        "train.log",
    ]
    assert files == sorted([name + suffix for name in expected for suffix in suffixes] + others)
    best = max(float(row["average"]) for row in rows(output / "eval.csv"))
    again = tmp_path / "again"
    overrides = [f"Global.pretrained_model={output}/best_model", f"Global.output_dir={again}"]
    assert main(["eval", "-o", *overrides]) == 0
    result = json.loads((again / "eval.json").read_text())
    assert result["average_accuracy"] == best
    assert list(result) == ["lfw", "cfp_fp", "average_accuracy"]
    assert result["lfw"]["num_pairs"] == 20
    assert result["average_accuracy"] == (result["lfw"]["accuracy"] + result["cfp_fp"]["accuracy"]) / 2


def test_the_loss_falls_and_the_csv_has_what_the_log_has(tiny_net_config, tmp_path, log_lines):
    train(tiny_net_config(), "Global.epochs=12", "Global.eval_during_train=False")
    logged = rows(tmp_path / "output" / "train.csv")
    assert list(logged[0]) == ["epoch", "iter", "global_step", "lr", "CELoss", "loss", "batch_cost", "reader_cost",
                               "ips", "eta"]  # fmt: skip
    losses = [float(row["loss"]) for row in logged]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert [int(row["global_step"]) for row in logged] == list(range(1, 61))
    lines = [r.getMessage() for r in log_lines.records if "[Train]" in r.getMessage()]
    assert len(lines) == len(logged)
    assert lines[0].startswith(f"[Train][Epoch 1/12][Iter: 0/5] lr: 0.00000000, CELoss: {losses[0]:.5f}, loss: ")
    assert all(word in lines[0] for word in ("batch_cost: ", "reader_cost: ", "ips: ", "eta: "))


@pytest.mark.slow
@pytest.mark.parametrize("head", [{}, {"name": "CurricularMargin", "sample_rate": 0.5}, {"name": "AdaMargin"}], ids=str)
@pytest.mark.parametrize(("optimizer", "update_freq"), [("AdamW", 1), ("AdamW", 2), ("Momentum", 2)])
def test_resumed_run_equals_the_uninterrupted_one(tiny_net_config, tmp_path, monkeypatch, update_freq, optimizer, head):
    """Stopped in mid-epoch, after a warm-up, with dropout, augmentation, EMA, sampling and evaluation in between."""
    lr = "Optimizer.lr={name: Cosine, learning_rate: 0.002, warmup_epoch: 1}"
    common = [
        "Global.epochs=3",
        f"Global.update_freq={update_freq}",
        "EMA.decay=0.9",
        f"Optimizer.name={optimizer}",
        lr,
        *(f"Arch.Head.{key}={value}" for key, value in head.items()),
    ]
    train(tiny_net_config(), *common, f"Global.output_dir={tmp_path}/whole")

    original = Trainer._step

    def stop_in_mid_epoch(trainer):
        original(trainer)
        trainer.callbacks[0].wants_stop = trainer.state.progress.global_step == 8 // update_freq

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", stop_in_mid_epoch)
        with pytest.raises(TrainingStopped):
            train(tiny_net_config(), *common, f"Global.output_dir={tmp_path}/part")
    _, states = load_states(tmp_path / "part" / "latest")
    assert 0 < states["progress"]["iteration"] < 5  # in the middle of an epoch
    train(
        tiny_net_config(),
        *common,
        f"Global.output_dir={tmp_path}/part",
        f"Global.checkpoints={tmp_path}/part/latest",
    )
    assert_same_checkpoint(tmp_path / "whole" / "latest", tmp_path / "part" / "latest")
    assert_same_checkpoint(tmp_path / "whole" / "best_model", tmp_path / "part" / "best_model")


def test_accumulated_gradient_equals_the_large_batchs(tiny_net_config, tmp_path):
    """Two batches of 4 = one of 8, for a network without batch statistics; the epoch ends on an uneven group."""
    common = ["Arch.Backbone.name=PlainNet", "Global.eval_during_train=False", "Optimizer.name=SGD",
              "Optimizer.lr={name: Constant, learning_rate: 0.1}"]  # fmt: skip
    for name, batch_size, update_freq in (("large", 8, 1), ("small", 4, 2), ("tiny", 1, 8)):
        train(
            tiny_net_config(), *common, f"Global.output_dir={tmp_path}/{name}", f"Global.update_freq={update_freq}",
            f"DataLoader.Train.sampler.batch_size={batch_size}",
        )  # fmt: skip
    large = read_weights(tmp_path / "large" / "latest")
    for name in ("small", "tiny"):
        other = read_weights(tmp_path / name / "latest")
        for key in large:
            np.testing.assert_allclose(other[key], large[key], rtol=1e-4, atol=1e-6, err_msg=f"{name} {key}")


def test_ema_weights_are_what_is_evaluated_and_saved_as_best(tiny_net_config, tmp_path):
    train(tiny_net_config(), "EMA.decay=0.5", "Global.epochs=2")
    latest, best = read_weights(tmp_path / "output/latest"), read_weights(tmp_path / "output/best_model")
    _, states = load_states(tmp_path / "output" / "latest")
    assert any(not np.array_equal(latest[key], best[key]) for key in latest)
    if states["progress"]["best_epoch"] == 2:
        for key in best:
            np.testing.assert_array_equal(best[key], states["ema"][key])


def test_ema_is_the_weighted_mean_of_the_weights():
    from ppfacerec.training.ema import EMA

    layer = paddle.nn.Linear(1, 1, bias_attr=False)
    layer.weight.set_value(np.zeros((1, 1), "float32"))
    ema = EMA(layer, 0.9)
    expected = 0.0
    for step in range(1, 200):
        layer.weight.set_value(np.full((1, 1), step, "float32"))
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with ema.applied():
        assert layer.weight.item() == pytest.approx(expected, rel=1e-5)
    assert layer.weight.item() == 199


def test_pretrained_weights_are_where_training_starts(tiny_net_config, tmp_path):
    train(tiny_net_config(), f"Global.output_dir={tmp_path}/first", "Global.epochs=2")
    train(
        tiny_net_config(), f"Global.output_dir={tmp_path}/second", f"Global.pretrained_model={tmp_path}/first/latest",
        "Optimizer.lr.learning_rate=1e-30", "Global.epochs=2",
    )  # fmt: skip
    first, second = (read_weights(tmp_path / name / "latest") for name in ("first", "second"))
    for key in first:
        if not key.endswith(("_mean", "_variance")):
            np.testing.assert_array_equal(first[key], second[key], err_msg=key)


def test_base_batch_size_scales_the_learning_rate(tiny_net_config, tmp_path, log_lines):
    common = ["Global.eval_during_train=False", "Optimizer.lr={name: Constant, learning_rate: 0.5}"]
    train(tiny_net_config(), *common)
    assert "Total batch 4 (4 per process x 1 processes x update_freq 1), learning rate 0.5 as given" in log_lines.text
    train(tiny_net_config(), *common, "Optimizer.lr.base_batch_size=1024", "Global.output_dir=" + str(tmp_path / "b"))
    assert "Total batch 4: learning rates multiplied by 0.00390625 (base_batch_size 1024)" in log_lines.text
    assert float(rows(tmp_path / "b" / "train.csv")[0]["lr"]) == 0.5 * 4 / 1024


def test_amp_on_the_cpu_is_float32_and_says_so_once(tiny_net_config, log_lines):
    train(tiny_net_config(), "AMP={scale_loss: 128, level: O1}", "Global.eval_during_train=False")
    assert log_lines.text.count("AMP is for GPUs: on the CPU everything is computed in float32.") == 1


def test_synchronised_batch_norm_keeps_the_keys_and_is_said_to_be_for_gpus(tiny_net_config, log_lines):
    from ppfacerec.backbones import MobileFaceNet

    plain = MobileFaceNet()
    names, kinds = list(plain.state_dict()), [type(layer).__name__ for layer in plain.sublayers()]
    converted = paddle.nn.SyncBatchNorm.convert_sync_batchnorm(plain)
    assert list(converted.state_dict()) == names
    new_kinds = [type(layer).__name__ for layer in converted.sublayers()]
    assert new_kinds == [
        kind.replace("BatchNorm2D", "SyncBatchNorm").replace("BatchNorm1D", "SyncBatchNorm") for kind in kinds
    ]
    train(tiny_net_config(), "Global.use_sync_bn=True", "Global.eval_during_train=False")
    assert log_lines.text.count("Global.use_sync_bn has no effect: it is for several GPUs") == 1


def test_loss_that_is_not_finite_stops_with_the_files_of_the_batch(tiny_net_config, tmp_path):
    with pytest.raises(ValueError, match="The loss is not finite in epoch") as caught:
        train(tiny_net_config(), "Optimizer.name=SGD", "Optimizer.lr={name: Constant, learning_rate: 1e30}")
    message = str(caught.value)
    for words in (
        "Learning rate 1e+30",
        "embedding norms",
        "parameters not finite",
        "loss scale off",
        "label.txt, line",
    ):
        assert words in message
    listed = (tmp_path / "output" / "not_finite_rank0.txt").read_text().splitlines()
    assert len(listed) == 4
    assert all("images/" in line for line in listed)


def test_a_full_disk_does_not_hide_that_the_loss_is_not_finite(tiny_net_config, tmp_path, monkeypatch):
    def write(log, row):
        if row.get("condition") == "loss_not_finite":
            raise ValueError("health.csv cannot be written.")

    monkeypatch.setattr("ppfacerec.training.monitoring.health.CsvLog.write", write)
    path = tmp_path / "output" / "not_finite_rank0.txt"
    path.mkdir(parents=True)
    with pytest.raises(ValueError, match="The loss is not finite in epoch") as caught:
        train(tiny_net_config(), "Optimizer.name=SGD", "Optimizer.lr={name: Constant, learning_rate: 1e30}")
    assert f"could not be listed in {path} (Is a directory), first: " in str(caught.value)
    assert str(caught.value).endswith(" health.csv cannot be written.")


def test_label_out_of_range_is_named_before_training(tiny_net_config):
    with pytest.raises(ValueError, match=r"label\.txt, line 9: label 2 is out of range for class_num 2"):
        train(tiny_net_config(), "Arch.Head.class_num=2")


def test_a_wrong_image_root_is_named_before_training(tiny_net_config, tmp_path):
    with pytest.raises(ValueError, match=r"label\.txt, line 1 .*cannot read .* Is the image folder '.*' right\?"):
        train(tiny_net_config(), f"DataLoader.Train.dataset.image_root={tmp_path}", "Global.eval_before_train=True")
    assert not (tmp_path / "output" / "eval.csv").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_finishes_the_step_saves_and_says_how_to_go_on(tiny_net_config, tmp_path, monkeypatch, number):
    from ppfacerec import cli

    original = Trainer._step

    def interrupt(trainer):
        original(trainer)
        if trainer.state.progress.global_step == 3:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)  # as from a launcher that passes on what this process got with it

    monkeypatch.setattr(Trainer, "_step", interrupt)
    assert cli.main(["train", "-c", str(tiny_net_config())]) == cli.EXIT_STOPPED == 75
    _, states = load_states(tmp_path / "output" / "latest")
    assert states["progress"]["global_step"] == 3
    assert f"resume with -o Global.checkpoints={tmp_path}/output/latest" in (tmp_path / "output/train.log").read_text()


@pytest.mark.slow
def test_a_signal_in_an_evaluation_stops_after_it(tiny_net_config, tmp_path, monkeypatch):
    evaluate = Trainer._evaluate
    monkeypatch.setattr(
        Trainer, "_evaluate", lambda self, *rest: (os.kill(os.getpid(), signal.SIGTERM), evaluate(self, *rest))[1]
    )
    with pytest.raises(TrainingStopped):
        train(tiny_net_config())
    _, states = load_states(tmp_path / "output" / "latest")
    assert (states["progress"]["epoch"], states["progress"]["iteration"]) == (2, 0)
    assert states["progress"]["best_epoch"] == 1
    train(tiny_net_config(), "Global.checkpoints=auto")  # the last epoch is finished all the same
    assert load_states(tmp_path / "output" / "latest")[1]["progress"]["epoch"] == 3


def test_training_with_onednn_switched_on_is_refused(tiny_net_config, monkeypatch):
    paddle.set_flags({"FLAGS_use_mkldnn": True})
    try:
        with pytest.raises(ValueError, match="give wrong gradients in training. Unset the variable"):
            train(tiny_net_config())
    finally:
        paddle.set_flags({"FLAGS_use_mkldnn": False})


def test_a_pair_that_does_not_decode_is_named(tiny_net_config, tmp_path, tiny_data):
    write_bin(tmp_path / "bad.bin", [b"no image"] * 40, [True] * 20)
    overrides = [f"DataLoader.Eval.dataset.val_data_path={tmp_path}", "DataLoader.Eval.dataset.val_targets=[bad]"]
    config, _ = load_config(tiny_net_config(), overrides, "eval")
    with pytest.raises(ValueError, match=r"bad\.bin, entry 0 \(pair 0\) does not decode"):
        Engine(config).evaluate()


def test_onednn_evaluation_equals_eager(tiny_net_config, tmp_path, log_lines):
    """Both of the random weights that the seed stands for."""
    results = {}
    for backend in ("eager", "onednn"):
        options = [f"Global.eval_backend={backend}", "DataLoader.Eval.dataset.val_targets=[lfw]"]
        config, _ = load_config(tiny_net_config(), options, "eval")
        results[backend] = Engine(config).evaluate().results["lfw"]
    np.testing.assert_allclose(results["eager"].distances, results["onednn"].distances, atol=1e-5)
    assert results["eager"].accuracy_mean == results["onednn"].accuracy_mean
    assert results["eager"].auc == pytest.approx(results["onednn"].auc, abs=1e-6)
    assert "s, eager" in log_lines.text
    assert "s, onednn" in log_lines.text


def test_onednn_that_disagrees_is_not_used(monkeypatch, log_lines):
    from ppfacerec.core.device import inference

    monkeypatch.setattr(inference, "PARITY_TOLERANCE", -1.0)
    net = tiny_plugin.TinyNet()
    net.eval()
    images = paddle.randn([5, 3, 112, 112])
    runner = inference.InferenceRunner(net)
    np.testing.assert_array_equal(runner(images), net(images).numpy())
    assert runner.backend == "eager"
    assert "evaluating without oneDNN" in log_lines.text


class EagerNet(paddle.nn.Layer):
    """A network that Paddle cannot trace, as a user's may be."""

    embedding_size = 3

    def forward(self, images):
        if not paddle.in_dynamic_mode():
            raise RuntimeError("not to be traced")
        return images.mean([2, 3])


class Inheriting(tiny_plugin.TinyNet):
    """Paddle 2.6 knows no super() in what it translates, and leaves its translation in the layers."""

    def forward(self, images):
        return 2 * super().forward(images)


@pytest.mark.parametrize("network", [EagerNet, Inheriting])
def test_a_network_that_cannot_be_traced_is_evaluated_eagerly(log_lines, network):
    from ppfacerec.core.device.inference import InferenceRunner

    net, images = network(), paddle.randn([5, 3, 112, 112])
    net.eval()
    runner, expected = InferenceRunner(net), net(images).numpy()
    np.testing.assert_allclose(runner(images), expected, atol=1e-5)
    np.testing.assert_array_equal(net(images).numpy(), expected)  # training goes on with its own forward
    assert not [layer for layer in net.sublayers(include_self=True) if "forward" in vars(layer)]
    if runner.backend == "eager":
        assert "The network cannot be traced for oneDNN (" in log_lines.text
    assert (runner.backend == "eager") or network is Inheriting


def test_evaluation_before_training_is_epoch_zero(tiny_net_config, tmp_path):
    evaluations = train(tiny_net_config(), "Global.eval_before_train=True", "Global.eval_interval=2", "Global.epochs=3")
    assert list(evaluations) == [0, 2, 3]
    assert [int(row["epoch"]) for row in rows(tmp_path / "output" / "eval.csv")] == [0, 2, 3]
