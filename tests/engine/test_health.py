"""Laws of a training's health: each sickness is driven into, seen, named and recorded once; a healthy run hears nothing."""

from __future__ import annotations

import csv

import numpy as np
import paddle
import pytest
import tiny_plugin

from ppfacerec.backbones import BACKBONES
from ppfacerec.config import load_config
from ppfacerec.core.device.runtime import MixedPrecision
from ppfacerec.engine import Engine
from ppfacerec.heads import ArcMargin
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.monitoring import warning_signs
from ppfacerec.training.monitoring.health import Health, effective_dimensions, mean_cosine
from ppfacerec.training.monitoring.warning_signs import Alarm, Collapsed, Growing, LossStuck, zero_rate
from ppfacerec.training.state import TrainState
from ppfacerec.training.trainer import Trainer


@BACKBONES.register
class ConstantNet(tiny_plugin.TinyNet):
    """Sees nothing: every image gets the bias."""

    def forward(self, x):
        return super().forward(x) * 0.0 + self.fc.bias + 1.0


@BACKBONES.register
class ZeroNet(tiny_plugin.TinyNet):
    def forward(self, x):
        return super().forward(x) * 0.0


@BACKBONES.register
class SteepNet(tiny_plugin.TinyNet):
    """A finite value with an infinite slope."""

    def forward(self, x):
        embedding = super().forward(x)
        return embedding + paddle.sqrt(embedding * 0.0)


def train(path, *overrides):
    config, notes = load_config(path, ["Global.eval_during_train=False", *overrides])
    return Engine(config, notes).train()


def alarms(output):
    """The rows of health.csv; none where there is no such file."""
    path = output / "health.csv"
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def messages(log_lines):
    return [r.getMessage() for r in log_lines.records if "Health" in r.getMessage()]


@pytest.mark.slow
def test_a_healthy_run_hears_nothing(tiny_net_config, tmp_path, log_lines, monkeypatch):
    """With a window so short that it would be seen; a warm-up from 0, a rate that ends near 0, uneven batches."""
    monkeypatch.setattr(warning_signs, "_MIN_WINDOW", 20)
    train(tiny_net_config(), "Global.epochs=16")
    assert messages(log_lines) == []
    assert alarms(tmp_path / "output") == []


@pytest.mark.slow
def test_a_learning_rate_far_too_high_is_named_once(tiny_net_config, tmp_path, log_lines, monkeypatch):
    monkeypatch.setattr(warning_signs, "_MIN_WINDOW", 20)
    train(
        tiny_net_config(), "Global.epochs=16", "Optimizer.name=SGD", "Optimizer.lr={name: Constant, learning_rate: 30}"
    )
    (row,) = [row for row in alarms(tmp_path / "output") if row["condition"] == "loss_stuck"]
    assert row["message"].startswith("The loss does not fall: ")
    assert "Guessing would give 1.609. Likely: the learning rate is far too high (try a tenth, or a" in row["message"]
    assert [m for m in messages(log_lines) if "loss_stuck" in m] == [f"Health, loss_stuck: {row['message']}"]
    assert int(row["global_step"]) >= 20
    assert alarms(tmp_path / "output")[0]["condition"] == "weights_explode"  # known at once


@pytest.mark.slow
def test_embeddings_that_are_all_the_same_are_named_once(tiny_net_config, tmp_path, log_lines):
    train(tiny_net_config(), "Arch.Backbone.name=ConstantNet", "Global.epochs=14")
    (row,) = [row for row in alarms(tmp_path / "output") if row["condition"] == "embeddings_collapsed"]
    assert row["message"].startswith("The embeddings have collapsed: mean cosine of the pairs of a batch 1.0000")
    assert 50 <= int(row["batch"]) <= 60
    assert len([m for m in messages(log_lines) if "embeddings_collapsed" in m]) == 1


@pytest.mark.slow
def test_embeddings_of_zero_are_collapsed_and_have_no_gradient(tiny_net_config, tmp_path):
    train(tiny_net_config(), "Arch.Backbone.name=ZeroNet", "Global.epochs=14")
    rows = {row["condition"]: row["message"] for row in alarms(tmp_path / "output")}
    assert "mean norm 0. Faces cannot" in rows["embeddings_collapsed"]
    assert "but the backbone's gradients are 0." in rows["logits_saturated"]


def test_a_set_of_one_class_saturates_the_logits(tiny_net_config, tiny_data, tmp_path):
    lines = (tiny_data / "label.txt").read_text().splitlines()
    (tmp_path / "one.txt").write_text("\n".join(line.split("\t")[0] + "\t0" for line in lines))
    train(
        tiny_net_config(), "Arch.Head.class_num=1", f"DataLoader.Train.dataset.cls_label_path={tmp_path}/one.txt",
        "Arch.Head.margin=0", "Global.epochs=2",
    )  # fmt: skip
    (row,) = [row for row in alarms(tmp_path / "output") if row["condition"] == "logits_saturated"]
    assert row["message"].startswith("The logits are saturated: the mean loss is 0, every target's probability 1")


def test_a_rate_that_will_be_zero_is_named_before_the_first_step(tiny_net_config, tmp_path, log_lines):
    train(tiny_net_config(), "Optimizer.lr={name: Piecewise, decay_epochs: [1, 2], values: [0.01, 0.0, 0.01]}",
          "Global.epochs=3")  # fmt: skip
    (row,) = alarms(tmp_path / "output")
    assert row["condition"] == "learning_rate_zero"
    assert row["global_step"] == "0"
    assert row["message"].startswith(
        "The learning rate is 0 from optimizer step 5 to 9 of 15: these steps change no weight"
    )
    first_step = next(i for i, r in enumerate(log_lines.records) if "[Train]" in r.getMessage())
    assert any("learning_rate_zero" in r.getMessage() for r in log_lines.records[:first_step])


def test_a_gradient_that_is_not_finite_ends_the_run_before_it_ruins_the_weights(tiny_net_config, tmp_path, monkeypatch):
    trainers, begin = [], Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda trainer, *rest: (trainers.append(trainer), begin(trainer, *rest))[1])
    with pytest.raises(
        ValueError, match=r"The gradient of backbone\.\S+ is not finite in optimizer step 0 \(\d+ of"
    ) as caught:
        train(tiny_net_config(), "Arch.Backbone.name=SteepNet")
    message = str(caught.value)
    assert "though the loss is. The step was not taken. Learning rate 0, embedding norms" in message
    assert "0 parameters not finite" in message
    for parameter in trainers[0].state.recognizer.parameters():
        assert paddle.isfinite(parameter).all().item()
    (row,) = alarms(tmp_path / "output")
    assert (row["condition"], row["message"]) == ("gradient_not_finite", message)


def test_a_loss_that_is_not_finite_is_recorded(tiny_net_config, tmp_path):
    with pytest.raises(ValueError, match="The loss is not finite in epoch") as caught:
        train(tiny_net_config(), "Optimizer.name=SGD", "Optimizer.lr={name: Constant, learning_rate: 1e30}")
    row = alarms(tmp_path / "output")[-1]
    assert (row["condition"], row["message"]) == ("loss_not_finite", str(caught.value))


class FakeScaler:
    """Finds no finite gradient in the steps of a set of numbers, and skips them."""

    def __init__(self, bad_steps):
        self._bad, self._count, self._scale = bad_steps, 0, 65536.0

    def scale(self, loss):
        return loss

    def step(self, optimizer):
        self._found_inf = paddle.to_tensor([self._count in self._bad])
        if self._count not in self._bad:
            optimizer.step()

    def update(self):
        self._scale *= 0.5 if self._count in self._bad else 1.0
        self._count += 1

    def state_dict(self):
        return {"scale": np.array([self._scale], "float32")}


def mixed_precision(bad_steps):
    precision = MixedPrecision()
    precision.level, precision.scaler = "O1", FakeScaler(bad_steps)
    return precision


def test_steps_skipped_in_a_row_end_the_run_at_the_limit(tiny_net_config, tmp_path, monkeypatch):
    monkeypatch.setattr(Engine, "_precision", lambda engine: mixed_precision({2, 3, 5, 6, 7, 8}))
    with pytest.raises(ValueError) as caught:
        train(tiny_net_config(), "Global.max_bad_steps=3", "Global.epochs=4")
    assert str(caught.value).startswith(
        "3 optimizer steps in a row were skipped (Global.max_bad_steps: 3): their gradients were not finite in mixed "
        "precision, and the loss scale is 2048 now. The weights are as they were before. Likely: a network or"
    )
    (row,) = alarms(tmp_path / "output")
    assert (row["condition"], row["global_step"]) == ("steps_skipped", "8")


def test_fewer_skipped_steps_or_no_limit_let_the_run_go_on(tiny_net_config, tmp_path, monkeypatch):
    monkeypatch.setattr(Engine, "_precision", lambda engine: mixed_precision({2, 3, 5, 6}))
    train(tiny_net_config(), "Global.max_bad_steps=3")
    monkeypatch.setattr(Engine, "_precision", lambda engine: mixed_precision(range(100)))
    train(tiny_net_config(), "Global.max_bad_steps=null")
    assert alarms(tmp_path / "output") == []


def test_a_step_is_skipped_only_in_mixed_precision():
    assert not MixedPrecision().skipped_step
    precision = mixed_precision({0})
    precision.scaler.step(None)
    assert precision.skipped_step


def test_a_sum_that_overflows_is_no_bad_gradient(tmp_path):
    """Finite gradients whose sum is infinite: huge, but not what the check is about."""
    recognizer = FaceRecognizer(tiny_plugin.PlainNet(), ArcMargin(16, 5))
    state = TrainState(recognizer, paddle.optimizer.SGD(0.1, recognizer.parameters()))
    health = Health(state, 10, 10, str, tmp_path)
    (recognizer.head.weight * 3e38).sum().backward()
    assert not np.isfinite(recognizer.head.weight.grad.numpy().sum())
    health.on_gradients(state)


def stuck(losses, rates=None, num_batches=0, chance=2.0):
    condition = LossStuck(num_batches, chance)
    for loss, rate in zip(losses, rates if rates is not None else np.ones(len(losses))):
        condition.add(loss, rate)
    return condition(0.1)


def test_a_loss_is_stuck_only_above_chance_with_a_rate_that_could_move_it():
    noise = np.random.default_rng(0).standard_normal(400) * 0.05
    flat = 3.0 + noise
    assert stuck(flat).startswith("The loss does not fall: 2.993, then 2.998, the means of the halves of the last 200")
    assert stuck(flat[:190]) is None  # too early
    assert stuck(flat, num_batches=10_000) is None  # a tenth of a long run is longer
    assert stuck(flat, chance=4.0) is None  # a plateau of what has been learned
    assert stuck(flat, np.full(400, 1e-3)) is None  # as planned
    assert stuck(flat * np.linspace(1, 0.95, 400)) is None  # falls slowly
    assert stuck(flat * np.linspace(1, 1.5, 400)) is not None  # rises
    assert stuck(np.linspace(3, 3.001, 400)) is not None
    assert stuck(np.full(400, np.nan)) is None  # no cross-entropy among the losses


def test_a_collapse_must_last_and_a_batch_norm_does_not_hide_it():
    healthy, same, line = (0.1, 20.0, 10.0), (0.999, 5.0, 10.0), (0.0, 1.01, 10.0)
    for sick in (same, line):
        condition = Collapsed()
        assert [condition(batch, *sick) is None for batch in (0, 20, 40, 60)] == [True, True, True, False]
        assert condition(80, *healthy) is None
        assert condition(100, *sick) is None
    assert Collapsed()(0, *healthy) is None


def test_weights_that_grow_fast_are_named_those_that_grow_in_thousands_of_steps_are_not():
    condition = Growing()
    assert condition(0, [1.0, 2.0, 0.0, 5.0], 0.3) is None
    assert condition(20, [2.9, 5.0, 1.0, 5.0], 0.3) is None
    assert condition(40, [3.2, 7.0, 2.0, 5.0], 0.3).startswith(
        "The backbone's weights have grown 3.2-fold within 40 optimizer steps, with learning rate 0.3. Likely: it is"
    )
    slow = Growing()
    assert all(slow(step, [1.001**step], 0.3) is None for step in range(0, 5000, 20))
    assert Growing()(0, [], 0.3) is None


def test_zero_in_the_first_step_of_a_warm_up_is_as_it_should_be():
    assert zero_rate(0.0, 0, 1, 100) is None
    assert zero_rate(1e-9, 5, 9, 100) is None
    assert zero_rate(0.0, 5, 7, 100).startswith("The learning rate is 0 from optimizer step 5 to 6 of 100")


def test_an_alarm_is_told_when_it_begins_and_not_each_time_it_comes_and_goes():
    alarm = Alarm()
    assert alarm("sick", 10)
    assert not alarm("sick", 20)
    assert not alarm(None, 30)
    assert not alarm("sick again", 40)
    assert not alarm(None, 50)
    assert alarm("sick much later", 2000)


def test_mean_cosine_and_effective_dimensions_equal_the_plain_ones():
    embeddings = np.random.default_rng(1).standard_normal((9, 5)) @ np.diag([3, 2, 1, 0.5, 0.1]) + 0.3
    pairs = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        for i, a in enumerate(embeddings)
        for j, b in enumerate(embeddings)
        if i != j
    ]
    assert mean_cosine(embeddings) == pytest.approx(np.mean(pairs))
    values = np.linalg.eigvalsh(np.cov(embeddings.T))
    assert effective_dimensions(embeddings) == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert mean_cosine(np.zeros((4, 3))) == 0
    assert effective_dimensions(np.ones((4, 3))) == 0
    assert effective_dimensions(np.outer([1, 2, 5], [1, 1])) == pytest.approx(1)
    assert mean_cosine(np.ones((1, 3))) == 0


def test_checks_do_not_change_what_is_trained(tiny_net_config, tmp_path, monkeypatch):
    """A run with all checks and one with none give the same weights to the last bit."""
    from ppfacerec.training.checkpoints.pretrained import read_weights

    train(tiny_net_config(), f"Global.output_dir={tmp_path}/with")
    for name in ("on_train_begin", "on_forward", "on_gradients", "on_step", "on_log"):
        monkeypatch.setattr(Health, name, lambda *arguments: None)
    train(tiny_net_config(), f"Global.output_dir={tmp_path}/without", "Global.watchdog_minutes=null")
    one, two = (read_weights(tmp_path / name / "latest") for name in ("with", "without"))
    for key in one:
        np.testing.assert_array_equal(one[key], two[key], err_msg=key)
