"""Laws of the margins: values and derivatives of the papers' equations, in float64."""

from __future__ import annotations

import math

import numpy as np
import paddle
import plain_heads as plain
import pytest

from ppfacerec.heads import margins

COSINES = np.linspace(-0.98, 0.98, 99)
QUALITY = np.linspace(-1, 1, 99)
NORMS = np.linspace(1, 130, 99)

MARGINS = {
    "arcface": (lambda c: margins.arcface(c, 0.5), lambda c, i: plain.arcface(c, 0.5)),
    "arcface, easy": (lambda c: margins.arcface(c, 0.5, easy_margin=True), lambda c, i: plain.arcface(c, 0.5, True)),
    "cosface": (lambda c: margins.cosface(c, 0.4), lambda c, i: plain.cosface(c, 0.4)),
    "sphereface": (lambda c: margins.sphereface(c, 4.0), lambda c, i: plain.combined(c, 4, 0, 0)),
    "combined": (lambda c: margins.combined(c, 1.1, 0.4, 0.2), lambda c, i: plain.combined(c, 1.1, 0.4, 0.2)),
    "adaface": (
        lambda c: margins.adaface(c, paddle.to_tensor(QUALITY), 0.4),
        lambda c, i: plain.adaface(c, QUALITY[i], 0.4),
    ),
    "magface": (
        lambda c: margins.arcface(
            c, margins.magface_margin(paddle.clip(paddle.to_tensor(NORMS), 10.0, 110.0), (10.0, 110.0), (0.45, 0.8))
        ),
        lambda c, i: plain.magface(c, NORMS[i]),
    ),
}


def plain_values(function, cosines):
    return np.array([function(c, i) for i, c in enumerate(cosines)])


@pytest.mark.parametrize("name", MARGINS)
def test_values_equal_the_plain_version(name):
    ours, expected = MARGINS[name]
    values = ours(paddle.to_tensor(COSINES)).numpy()
    np.testing.assert_allclose(values, plain_values(expected, COSINES), atol=1e-7)  # Paddle 2.6 rounds scalars


@pytest.mark.parametrize("name", MARGINS)
def test_derivatives_equal_finite_differences(name):
    ours, function = MARGINS[name]
    cosine, step = paddle.to_tensor(COSINES, stop_gradient=False), 1e-7
    ours(cosine).sum().backward()
    higher, lower = plain_values(function, COSINES + step), plain_values(function, COSINES - step)
    smooth = np.abs(higher - lower) < 1e-4  # PaddleClas's fallback of ArcFace jumps where it begins
    assert smooth.sum() >= len(COSINES) - 1
    np.testing.assert_allclose(
        cosine.grad.numpy()[smooth], ((higher - lower) / (2 * step))[smooth], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("name", MARGINS)
@pytest.mark.parametrize("cosine", [-1.0, 1.0])
def test_derivative_is_finite_at_the_ends(name, cosine):
    ours, _ = MARGINS[name]
    for dtype in ("float32", "float64"):
        x = paddle.full([99], cosine, dtype)
        x.stop_gradient = False
        if name in ("adaface", "magface") and dtype == "float32":
            continue  # the table's qualities and norms are float64
        ours(x).sum().backward()
        assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("name", ["arcface", "cosface", "sphereface", "combined"])
def test_margin_never_rises_with_the_angle(name):
    values = MARGINS[name][0](paddle.to_tensor(np.cos(np.linspace(0.01, np.pi - 0.01, 500)))).numpy()
    assert (np.diff(values) < 0).all()


def test_combined_has_the_others_as_special_cases():
    c = paddle.to_tensor(np.linspace(0.0, 0.98, 50))  # where ArcFace has not passed pi
    np.testing.assert_allclose(margins.combined(c, 1.0, 0.5, 0.0).numpy(), margins.arcface(c, 0.5).numpy(), atol=2e-6)
    np.testing.assert_allclose(margins.combined(c, 1.0, 0.0, 0.4).numpy(), margins.cosface(c, 0.4).numpy())
    np.testing.assert_allclose(margins.combined(c, 3.0).numpy(), margins.sphereface(c, 3.0).numpy())


def test_sphereface_of_a_whole_number_is_the_papers_polynomial():
    """cos(4 theta) = 8 c^4 - 8 c^2 + 1, on the interval k = 0."""
    c = np.linspace(math.cos(math.pi / 4) + 0.01, 0.98, 20)
    ours = margins.sphereface(paddle.to_tensor(c), 4.0).numpy()
    np.testing.assert_allclose(ours, 8 * c**4 - 8 * c**2 + 1, atol=2e-5)


def test_unit_derivative_keeps_the_values():
    c = paddle.to_tensor(COSINES, stop_gradient=False)
    values = margins.arcface(c, 0.5, straight_through=True)
    values.sum().backward()
    np.testing.assert_array_equal(c.grad.numpy(), 1.0)
    np.testing.assert_allclose(values.numpy(), margins.arcface(paddle.to_tensor(COSINES), 0.5).numpy(), atol=1e-15)


def test_magfaces_margin_grows_from_bound_to_bound_and_its_regularizer_is_least_at_the_largest_norm():
    norms = paddle.to_tensor([10.0, 60.0, 110.0])
    np.testing.assert_allclose(margins.magface_margin(norms, (10.0, 110.0), (0.45, 0.8)).numpy(), [0.45, 0.625, 0.8])
    values = margins.magface_regularizer(paddle.to_tensor(np.linspace(10, 110, 50)), 110.0).numpy()
    assert (np.diff(values) < 0).all()
    np.testing.assert_allclose(values[-1], 2 / 110)


@pytest.mark.parametrize("t", [0.0, 0.4])
def test_curricular_negatives_equal_the_plain_version_and_their_slope_is_the_derivative(t):
    cosine = np.random.default_rng(0).uniform(-1, 1, (7, 5))
    hardest = np.broadcast_to(np.random.default_rng(1).uniform(-1, 1, (1, 5)), (7, 5))

    def function(c):
        return np.where(c > hardest, c * (t + c), c)

    value, slope = margins.curricular_negatives(*(paddle.to_tensor(v) for v in (cosine, hardest, np.array(t))))
    np.testing.assert_allclose(value.numpy(), function(cosine), atol=1e-14)
    np.testing.assert_allclose(slope.numpy(), (function(cosine + 1e-7) - function(cosine - 1e-7)) / 2e-7, atol=1e-6)


def test_filtered_negatives_are_0_above_the_threshold():
    value, slope = margins.filtered_negatives(paddle.to_tensor([-0.5, 0.3, 0.4, 0.9]), 0.4)
    np.testing.assert_allclose(value.numpy(), np.array([-0.5, 0.3, 0.4, 0], "float32"))
    np.testing.assert_array_equal(slope.numpy(), [1, 1, 1, 0])
