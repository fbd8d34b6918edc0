"""Laws of the losses."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from ppfacerec.heads import ArcMargin, CurricularMargin
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


def test_label_smoothing_equals_the_plain_formula():
    rng = np.random.default_rng(2)
    z, y = (rng.standard_normal((6, 7)) * 20).astype(np.float32), rng.integers(0, 7, 6)
    log_p = z - np.log(np.exp(z.astype(np.float64)).sum(axis=1, keepdims=True))
    target = 0.9 * np.eye(7)[y] + 0.1 / 7
    expected = -(target * log_p).sum(axis=1).mean()
    loss = CELoss(epsilon=0.1)
    assert loss(paddle.to_tensor(z), paddle.to_tensor(y)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_label_smoothing_of_a_margin_head_equals_that_of_its_logits(chunk_size):
    paddle.seed(0)
    head = ArcMargin(embedding_size=8, class_num=10, margin=0.3, scale=16, chunk_size=chunk_size)
    loss, labels = CELoss(epsilon=0.1), paddle.to_tensor([1, 9, 4])
    gradients = []
    for as_logits in (False, True):
        embedding = paddle.to_tensor(np.random.default_rng(3).standard_normal((3, 8)), "float32", stop_gradient=False)
        scores = head(embedding, labels)
        value = loss(scores.dense() if as_logits else scores, labels)
        head.clear_gradients()
        value.backward()
        gradients.append((value.item(), embedding.grad.numpy(), head.weight.grad.numpy()))
    for lazy, dense in zip(*gradients):
        np.testing.assert_allclose(lazy, dense, rtol=1e-4, atol=1e-6)


def test_label_smoothing_is_refused_where_not_all_logits_are_plain():
    head = CurricularMargin(embedding_size=8, class_num=10)
    with pytest.raises(ValueError, match=r"CELoss\.epsilon: label smoothing needs every class's plain logit"):
        CELoss(epsilon=0.1)(head(paddle.randn([3, 8]), paddle.to_tensor([1, 9, 4])), paddle.to_tensor([1, 9, 4]))
