"""Laws of the learning-rate schedules."""

from __future__ import annotations

import hashlib

import paddle
import pytest

from ppfacerec.optim import SCHEDULES

ARGUMENTS = {
    "Cosine": {"learning_rate": 0.1, "eta_min": 0.001},
    "Polynomial": {"learning_rate": 0.1, "end_lr": 0.001, "power": 2.0},
    "Linear": {"learning_rate": 0.1, "end_lr": 0.02},
    "Constant": {"learning_rate": 0.1},
    "ConstLR": {"learning_rate": 0.1},
    "Step": {"learning_rate": 0.1, "step_size": 3, "gamma": 0.5},
    "MultiStepDecay": {"learning_rate": 0.1, "milestones": [2, 5], "gamma": 0.1},
    "MultiStep": {"learning_rate": 0.1, "milestones": [2, 5], "gamma": 0.1},
    "Piecewise": {"decay_epochs": [2, 5], "values": [0.1, 0.05, 0.01]},
}
EPOCHS, STEPS = 8, 7


def make(name, **more):
    return SCHEDULES.get(name)(**ARGUMENTS[name], epochs=EPOCHS, steps_per_epoch=STEPS, **more)


def test_every_registered_schedule_is_tested():
    assert sorted(ARGUMENTS) == SCHEDULES.names()


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_warm_up_is_a_straight_line_and_then_the_schedule_begins_at_its_start(name):
    schedule, cold = make(name, warmup_epoch=2, warmup_start_lr=0.01), make(name)
    for step in range(2 * STEPS):
        assert schedule(step) == pytest.approx(0.01 + (0.1 - 0.01) * step / (2 * STEPS))
    assert schedule(2 * STEPS) == cold(0) == pytest.approx(0.1)


def test_cosine_equals_paddles_warm_up_over_cosine():
    ours = make("Cosine", warmup_epoch=1)
    cosine = paddle.optimizer.lr.CosineAnnealingDecay(0.1, T_max=(EPOCHS - 1) * STEPS, eta_min=0.001)
    theirs = paddle.optimizer.lr.LinearWarmup(cosine, warmup_steps=STEPS, start_lr=0.0, end_lr=0.1)
    for step in range(EPOCHS * STEPS):
        assert ours(step) == pytest.approx(theirs(), rel=1e-6, abs=1e-9), step
        theirs.step()


def test_polynomial_equals_paddles():
    theirs = paddle.optimizer.lr.PolynomialDecay(0.1, decay_steps=EPOCHS * STEPS, end_lr=0.001, power=2.0)
    ours = make("Polynomial")
    for step in range(EPOCHS * STEPS):
        assert ours(step) == pytest.approx(theirs(), rel=1e-6)
        theirs.step()


@pytest.mark.parametrize(("name", "end"), [("Cosine", 0.001), ("Polynomial", 0.001), ("Linear", 0.02)])
def test_decay_ends_at_its_minimum_and_stays_there(name, end):
    schedule = make(name, warmup_epoch=2)
    assert schedule(EPOCHS * STEPS) == schedule(10 * EPOCHS * STEPS) == pytest.approx(end)


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("Step", [0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025]),
        ("MultiStepDecay", [0.1, 0.1, 0.01, 0.01, 0.01, 0.001, 0.001, 0.001]),
        ("Piecewise", [0.1, 0.1, 0.05, 0.05, 0.05, 0.01, 0.01, 0.01]),
    ],
)
def test_steps_fall_at_the_beginning_of_their_epochs(name, rates):
    schedule = make(name)
    for epoch, rate in enumerate(rates):
        assert schedule(epoch * STEPS) == schedule(epoch * STEPS + STEPS - 1) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("Piecewise", {"values": [0.1]}, r"values: expected one more than decay_epochs has \(3\), found 1"),
        ("MultiStepDecay", {"milestones": [5, 2]}, r"milestones: expected increasing epochs of at least 1, found \[5, 2\]"),
        ("Step", {"step_size": 0}, "step_size: expected an integer of at least 1, found 0"),
        ("Cosine", {"learning_rate": 0}, "learning_rate: expected a positive number, found 0"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(name, wrong, message):
    with pytest.raises(ValueError, match=message):
        SCHEDULES.get(name)(**{**ARGUMENTS[name], **wrong}, epochs=EPOCHS, steps_per_epoch=STEPS)


# The first digits of SHA-256 of the rates below as they were in November 2026, by name of the curve.
BITS = {
    "Constant": "bf3c7731e6fb9c60", "Cosine": "c867402c01a4b293", "Linear": "eae997723461e5e1",
    "MultiStepDecay": "9b2c70417648705f", "Piecewise": "253da85b1d479da1", "Polynomial": "c2af8439da26cb06",
    "Step": "b168d4d495359ffa",
}  # fmt: skip


@pytest.mark.parametrize("name", BITS)
def test_rates_are_the_same_to_the_last_bit_as_ever(name):
    digest = hashlib.sha256()
    for warm_up in ({}, {"warmup_epoch": 2, "warmup_start_lr": 0.01}, {"warmup_epoch": 1.5}, {"warmup_epoch": 9}):
        schedule = make(name, **warm_up)
        digest.update(" ".join(float(schedule(step)).hex() for step in range(10 * STEPS)).encode())
    assert digest.hexdigest().startswith(BITS[name])
