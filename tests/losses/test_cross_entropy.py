"""Laws of the losses."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from ppfacerec.losses import CELoss, WeightedSum


def float64_loss(z, y):
    z = z.astype(np.float64)
    top = z.max(axis=1)
    return np.mean(np.log(np.exp(z - top[:, None]).sum(axis=1)) + top - z[np.arange(len(z)), y])


@pytest.mark.parametrize("spread", [1, 64, 1000])
def test_loss_equals_float64_at_any_spread(spread):
    rng = np.random.default_rng(0)
    z = (rng.standard_normal((16, 100)) * spread).astype(np.float32)
    y = rng.integers(0, 100, 16)
    assert CELoss()(paddle.to_tensor(z), paddle.to_tensor(y)).item() == pytest.approx(float64_loss(z, y), rel=1e-5)


def test_gradient_is_softmax_minus_one_hot():
    rng = np.random.default_rng(1)
    z, y = (rng.standard_normal((4, 6)) * 30).astype(np.float32), np.array([0, 5, 2, 2])
    logits = paddle.to_tensor(z, stop_gradient=False)
    CELoss()(logits, paddle.to_tensor(y)).backward()
    p = np.exp(z - z.max(axis=1, keepdims=True).astype(np.float64))
    expected = (p / p.sum(axis=1, keepdims=True) - np.eye(6)[y]) / 4
    np.testing.assert_allclose(logits.grad.numpy(), expected, atol=1e-6)


def test_weighted_sum_reports_parts_unweighted():
    z, y = paddle.randn([3, 5]), paddle.to_tensor([0, 1, 2])
    values = WeightedSum({"CELoss": (CELoss(), 0.25)})(z, y)
    assert list(values) == ["CELoss", "loss"]
    assert values["loss"].item() == pytest.approx(0.25 * values["CELoss"].item())
