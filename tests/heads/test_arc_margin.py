"""Laws of the ArcFace head, against PaddleClas's and insightface's own outputs and a plain NumPy version."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import paddle
import pytest

from ppfacerec.heads import ArcMargin, CosMargin, MarginHead, with_head_options
from ppfacerec.heads.margins import arcface
from ppfacerec.losses import CELoss

FIXTURE = dict(np.load(Path(__file__).parent / "fixtures" / "arcmargin.npz"))


def run_head(x, w, y, head=None, **options):
    """Logits, loss and gradients with s = 64, m = 0.5; loss and gradients in chunks, without the logits."""
    head = head or ArcMargin(*w.shape, margin=0.5, scale=64.0, chunk_size=16, **options)
    head.weight.set_value(np.ascontiguousarray(w.T))
    embedding = paddle.to_tensor(x, stop_gradient=False)
    scores = head(embedding, paddle.to_tensor(y))
    loss = CELoss()(scores, paddle.to_tensor(y))
    loss.backward()
    return scores.dense().numpy(), loss.item(), embedding.grad.numpy(), head.weight.grad.numpy().T


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def plain_arcface(cosine, margin, easy_margin):
    """PaddleClas's formula, one number at a time in float64."""
    values = []
    for c in cosine:
        shifted = c * math.cos(margin) - math.sqrt(max(1 - c * c, 0) + 1e-6) * math.sin(margin)
        if easy_margin:
            values.append(shifted if c > 0 else c)
        else:
            values.append(shifted if c > math.cos(math.pi - margin) else c - margin * math.sin(margin))
    return np.array(values)


def test_logits_and_gradients_equal_paddleclas():
    logits, _, grad_x, grad_w = run_head(FIXTURE["x"], FIXTURE["w"], FIXTURE["y"])
    # Near cos = +-1, where two of these targets are, sin(theta) makes 1e-7 of a cosine to 1e-6 and more.
    assert relative(logits, FIXTURE["logits"]) < 1e-5
    assert relative(grad_x, FIXTURE["grad_x"]) < 1e-5
    assert relative(grad_w, FIXTURE["grad_w"]) < 1e-5


def test_loss_equals_float64_logsumexp_where_paddles_own_is_wrong():
    _, loss, _, _ = run_head(FIXTURE["x"], FIXTURE["w"], FIXTURE["y"])
    z = FIXTURE["logits"].astype(np.float64)
    top = z.max(axis=1)
    expected = np.mean(np.log(np.exp(z - top[:, None]).sum(axis=1)) + top - z[np.arange(len(z)), FIXTURE["y"]])
    assert loss == pytest.approx(expected, rel=1e-6)
    assert expected - 40.502 > 3  # what Paddle's clipping CPU kernel gave for these logits


def test_straight_through_gradient_equals_insightface():
    logits, _, grad_x, grad_w = run_head(FIXTURE["x"], FIXTURE["w"], FIXTURE["y"], straight_through=True)
    past_pi = FIXTURE["y"] == 7  # two rows of which one is beyond pi - m, where insightface has no fallback
    assert relative(logits[~past_pi], FIXTURE["insightface_logits"][~past_pi]) < 1e-5
    assert relative(grad_x, FIXTURE["insightface_grad_x"]) < 1e-5
    assert relative(grad_w, FIXTURE["insightface_grad_w"]) < 1e-5


def test_cosface_equals_insightface():
    expected = dict(np.load(Path(__file__).parent / "fixtures" / "insightface_cosface.npz"))
    head = CosMargin(*FIXTURE["w"].shape, margin=0.4, chunk_size=16)
    # Not the loss: insightface clamps a sample's at -log(1e-30) = 69.07.
    logits, _, grad_x, grad_w = run_head(FIXTURE["x"], FIXTURE["w"], FIXTURE["y"], head)
    assert relative(logits, expected["logits"]) < 1e-6
    assert relative(grad_x, expected["grad_x"]) < 1e-5
    assert relative(grad_w, expected["grad_w"]) < 1e-5


@pytest.mark.parametrize("easy_margin", [False, True])
@pytest.mark.parametrize("margin", [0.0, 0.3, 0.5, 1.2])
def test_margin_equals_the_plain_version(margin, easy_margin):
    cosine = np.linspace(-1, 1, 201)
    ours = arcface(paddle.to_tensor(cosine), margin, easy_margin).numpy()
    np.testing.assert_allclose(ours, plain_arcface(cosine, margin, easy_margin), atol=1e-12)


def test_margin_gradient_equals_finite_differences():
    cosine = np.linspace(-0.95, 0.95, 40)
    x = paddle.to_tensor(cosine, stop_gradient=False)
    arcface(x, 0.5).sum().backward()
    step = 1e-6
    expected = (plain_arcface(cosine + step, 0.5, False) - plain_arcface(cosine - step, 0.5, False)) / (2 * step)
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-5)


def test_margin_never_rises_with_the_angle():
    values = arcface(paddle.to_tensor(np.cos(np.linspace(0, np.pi, 500))), 0.5).numpy()
    assert (np.diff(values) < 0).all()


def test_zero_embedding_has_finite_loss_and_gradient():
    x = FIXTURE["x"].copy()
    x[0] = 0
    for value in run_head(x, FIXTURE["w"], FIXTURE["y"]):
        assert np.isfinite(value).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_embedding_on_its_centre_or_opposite_has_finite_loss_and_gradient(sign):
    x = FIXTURE["x"].copy()
    x[0] = sign * FIXTURE["w"][:, FIXTURE["y"][0]]
    for value in run_head(x, FIXTURE["w"], FIXTURE["y"]):
        assert np.isfinite(value).all()


def test_logits_do_not_depend_on_the_embeddings_length():
    short, _, _, _ = run_head(FIXTURE["x"], FIXTURE["w"], FIXTURE["y"])
    long, _, _, _ = run_head(1000 * FIXTURE["x"], FIXTURE["w"], FIXTURE["y"])
    np.testing.assert_allclose(short, long, atol=1e-4)


def test_weight_is_classes_as_rows_and_paddleclas_shape_in_files():
    head = ArcMargin(128, 50)
    assert {k: list(v.shape) for k, v in head.state_dict().items()} == {"weight": [50, 128]}
    assert head.class_rows.saved_shape == (128, 50)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="class_num: expected an integer of at least 1, found 0."):
        ArcMargin(128, 0)
    with pytest.raises(ValueError, match="margin: expected an angle in radians from 0 to below pi, found 28."):
        ArcMargin(128, 10, margin=28)
    with pytest.raises(ValueError, match="scale: expected a positive number, found -1."):
        ArcMargin(128, 10, scale=-1)
    with pytest.raises(ValueError, match="margin: expected an angle in radians from 0 to below pi, found 28"):
        ArcMargin(128, 10, margin=np.float32(28))  # no Python float


def test_a_margin_of_another_shape_is_refused():
    """One number for all samples would be broadcast, and train something else without a word."""

    class MeanMargin(ArcMargin):
        def margin(self, cosine, norm):
            return cosine.mean()

    head = MeanMargin(4, 3)
    with pytest.raises(ValueError, match=r"MeanMargin.margin returned the shape \[\], expected \[2\]: one number per"):
        CELoss()(head(paddle.ones([2, 4]), paddle.to_tensor([0, 1])), paddle.to_tensor([0, 1]))


def test_a_head_without_the_options_is_refused_where_it_is_written():
    with pytest.raises(
        ValueError, match=r"NoOptions.__init__ needs a parameter `options`, passed on to MarginHead's\."
    ):

        @with_head_options
        class NoOptions(MarginHead):
            def __init__(self, embedding_size, class_num):
                super().__init__(embedding_size, class_num)
