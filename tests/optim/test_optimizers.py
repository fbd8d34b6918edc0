"""Laws of the optimizers."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from ppfacerec.optim import OPTIMIZERS, parameter_groups

DECAY, RATE = 0.1, 0.5


def network() -> paddle.nn.Layer:
    paddle.seed(0)
    return paddle.nn.Sequential(paddle.nn.Linear(3, 4), paddle.nn.BatchNorm1D(4), paddle.nn.PReLU(4))


def step(name: str, one_dim_param_no_weight_decay: bool, gradient: float = 0.0, clip_norm=None):
    """One step with a constant gradient; parameters before and after."""
    net = network()
    optimizer = OPTIMIZERS.get(name)(
        groups=parameter_groups([net], DECAY, one_dim_param_no_weight_decay), clip_norm=clip_norm, weight_decay=DECAY
    )
    optimizer.set_lr(RATE)
    before = {k: v.numpy().copy() for k, v in net.named_parameters()}
    for parameter in net.parameters():
        if not parameter.stop_gradient:
            (parameter.sum() * gradient).backward()
    optimizer.step()
    return before, {k: v.numpy() for k, v in net.named_parameters()}


@pytest.mark.parametrize("name", ["AdamW", "Momentum", "SGD"])
def test_only_matrices_decay_when_one_dim_parameters_do_not(name):
    before, after = step(name, one_dim_param_no_weight_decay=True)
    np.testing.assert_allclose(after["0.weight"], before["0.weight"] * (1 - RATE * DECAY), rtol=1e-6)
    for key in before.keys() - {"0.weight"}:
        np.testing.assert_array_equal(after[key], before[key], err_msg=key)


@pytest.mark.parametrize("name", ["AdamW", "Momentum", "SGD"])
def test_all_trained_parameters_decay_otherwise(name):
    before, after = step(name, one_dim_param_no_weight_decay=False)
    for key in ("0.weight", "1.weight", "2._weight"):
        np.testing.assert_allclose(after[key], before[key] * (1 - RATE * DECAY), rtol=1e-6, err_msg=key)


def test_batch_norm_statistics_are_in_no_group():
    names = {p.name for group in parameter_groups([network()], DECAY, True) for p in group["params"]}
    assert len(names) == 5  # two of Linear, two of BatchNorm, one of PReLU


def test_adam_adds_its_decay_to_the_gradient():
    before, after = step("Adam", one_dim_param_no_weight_decay=True)
    # Adam's first step is the sign of the gradient, which here is the decay alone.
    np.testing.assert_allclose(after["0.weight"], before["0.weight"] - RATE * np.sign(before["0.weight"]), rtol=1e-4)
    np.testing.assert_array_equal(after["1.weight"], before["1.weight"])


def test_clip_norm_bounds_the_global_norm_of_the_step():
    before, after = step("SGD", True, gradient=100.0, clip_norm=1.0)
    moved = sum(((after[k] - before[k] * (1 - RATE * DECAY * (k == "0.weight"))) ** 2).sum() for k in before)
    assert np.sqrt(moved) == pytest.approx(RATE * 1.0, rel=1e-5)


def test_learning_rate_is_zero_until_it_is_set():
    net = network()
    optimizer = OPTIMIZERS.get("SGD")(groups=parameter_groups([net], 0.0, True))
    assert optimizer.get_lr() == 0


def test_parameters_with_a_word_of_no_weight_decay_name_do_not_decay():
    layer = nn.Sequential(("conv1", nn.Linear(3, 3)), ("fc", nn.Linear(3, 3)))
    decaying, others = parameter_groups([layer], 0.1, False, "conv1 fc.bias")
    assert [p is layer.fc.weight for p in decaying["params"]] == [True]
    assert len(others["params"]) == 3
    with pytest.raises(
        ValueError, match=r"no_weight_decay_name: no parameter name has 'norm' in it; one is conv1\.weight"
    ):
        parameter_groups([layer], 0.1, False, "norm")
