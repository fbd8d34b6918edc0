"""Laws of ranges: each number has one, and Python's constructors and the config's check use the same."""

from __future__ import annotations

import re

import pytest

from ppfacerec.config import ConfigError, load_config, schema
from ppfacerec.config.components import arguments_of, keys_of
from ppfacerec.core.ranges import range_of, range_problem
from ppfacerec.losses import LOSSES
from ppfacerec.optim import OPTIMIZERS, SCHEDULES

NO_RANGE = {
    "milestones",
    "decay_epochs",
    "steps_per_epoch",
    "image_shape",
    "check_replicas_steps",
}  # rules of their own


def test_every_number_of_sections_schedules_optimizers_and_losses_has_a_range():
    sections = [getattr(schema, name) for name in dir(schema) if name.endswith("Section")]
    found = [keys_of(section) for section in sections]
    found += [arguments_of(registry, n, {}) for registry in (SCHEDULES, OPTIMIZERS, LOSSES) for n in registry.names()]
    numbers = {
        name
        for keys in found
        for name, key in keys.items()
        if re.search(r"\b(int|float)\b", str(key.hint)) and not key.range
    }
    assert numbers - NO_RANGE == set()
    assert "name_scope" not in LOSSES.signature("CELoss").parameters


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Optimizer.lr.warmup_epoch=-1", "Optimizer.lr.warmup_epoch: expected a number of at least 0, found -1."),
        ("Optimizer.lr.eta_min=-1", "Optimizer.lr.eta_min: expected a number of at least 0, found -1."),
        ("Optimizer.lr.eta_min=0.5", "Optimizer.lr.eta_min: expected at most the learning rate 0.1, found 0.5."),
        ("Optimizer.lr.base_batch_size=0", "Optimizer.lr.base_batch_size: expected an integer of at least 1, found 0."),
        ("Optimizer.weight_decay=-1", "Optimizer.weight_decay: expected a number of at least 0, found -1."),
        ("Optimizer.weight_decay=.nan", "Optimizer.weight_decay: expected a number of at least 0, found nan."),
        ("Global.seed=-1", "Global.seed: expected an integer from 0 to 4294967295, found -1."),
        ("Loss.Train.0.CELoss.weight=-1", "Loss.Train.0.CELoss.weight: expected a number of at least 0, found -1."),
        (
            "Loss.Train.0.CELoss.epsilon=1",
            "Loss.Train.0.CELoss.epsilon: expected a number of at least 0 and below 1, found 1.",
        ),
        ("Arch.Head.scale=0", "Arch.Head.scale: expected a positive number, found 0."),
        ("AMP.scale_loss=0", "AMP.scale_loss: expected a positive number, found 0."),
        (
            "DataLoader.Eval.loader.num_workers=-1",
            "DataLoader.Eval.loader.num_workers: expected a number of at least 0, found -1.",
        ),
    ],
)
def test_a_number_out_of_its_range_is_told_before_anything_is_built(tiny_config, override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(tiny_config(), ["Optimizer.lr.learning_rate=0.1", override])
    assert caught.value.problems == [message]


@pytest.mark.parametrize("name", ["Polynomial", "Linear"])
def test_python_checks_what_the_config_checks(name):
    with pytest.raises(ValueError, match="end_lr: expected a number of at least 0, found -1"):
        SCHEDULES.get(name)(learning_rate=0.1, epochs=5, steps_per_epoch=10, end_lr=-1)
    assert range_problem([0.1, -1.0], range_of("values")) == "expected a number of at least 0, found -1.0"


def test_drops_that_are_not_reached_and_a_warm_up_of_the_whole_training_are_said():
    plan = {"learning_rate": 0.1, "epochs": 5, "steps_per_epoch": 10}
    schedule = SCHEDULES.get("MultiStepDecay")(**plan, milestones=[2, 4, 9], warmup_epoch=1)
    assert schedule.remarks() == ["milestones [4, 9] after 1 of warm-up are not reached in 5 epochs"]
    schedule = SCHEDULES.get("Cosine")(**plan, warmup_epoch=9)
    assert schedule.remarks() == ["warmup_epoch 9: all 5 epochs are warm-up, nothing follows it"]
    assert schedule(25) == pytest.approx(0.05)  # half way of five epochs
