"""Margins: functions of the target cosine, the only logit that a margin softmax changes.

For a sample of class y, margin softmax replaces cos(theta_y) by margin(cos(theta_y)) and keeps all other cosines, so
a margin is a differentiable function of a vector of N cosines, independent of the number of classes.
"""

import math
from collections.abc import Callable
from typing import Any

import paddle

# PaddleClas's constant: keeps the derivative of sin(theta) = sqrt(1 - cos^2) finite at cos = +-1.
_SINE_FLOOR = 1e-6


def sine(cosine: paddle.Tensor) -> paddle.Tensor:
    """Return sin(theta) given cos(theta); always above 0, so that its derivative stays finite."""
    return paddle.sqrt(paddle.clip(1.0 - cosine * cosine, min=0.0) + _SINE_FLOOR)


def angle(cosine: paddle.Tensor) -> paddle.Tensor:
    """Return theta in radians given cos(theta); unlike acos with a finite derivative at +-1."""
    return paddle.atan2(sine(cosine), cosine)


def arcface(
    cosine: paddle.Tensor,
    margin: float | paddle.Tensor = 0.5,
    easy_margin: bool = False,
    straight_through: bool = False,
) -> paddle.Tensor:
    """Additive angular margin, cos(theta + m); Deng et al., "ArcFace" (arXiv:1801.07698), eq. 3.

    cos(theta + m) decreases only up to theta = pi - m. Beyond it the function continues as cos(theta) - m sin(m),
    which also decreases (PaddleClas's rule); with `easy_margin` the margin is applied only where cos(theta) > 0.

    Args:
        cosine: target cosines (N,), float32.
        margin: m in radians, a scalar or one per sample (N,).
        easy_margin: leave cosines <= 0 unchanged.
        straight_through: use 1 as the derivative d margin(cos) / d cos, as insightface's arcface_torch does.

    Returns:
        (N,) cosines with the margin.
    """
    if straight_through:
        return with_unit_derivative(lambda c: arcface(c, margin, easy_margin), cosine)
    functions: Any = paddle if isinstance(margin, paddle.Tensor) else math
    cos, sin = functions.cos(margin), functions.sin(margin)
    shifted = cosine * cos - sine(cosine) * sin
    if easy_margin:
        return paddle.where(cosine > 0, shifted, cosine)
    return paddle.where(cosine > -cos, shifted, cosine - sin * margin)


def with_unit_derivative(function: Callable[[paddle.Tensor], paddle.Tensor], cosine: paddle.Tensor) -> paddle.Tensor:
    """Apply the function with a derivative of 1."""
    with paddle.no_grad():
        shift = function(cosine) - cosine
    return cosine + shift


def cosface(cosine: paddle.Tensor, margin: float = 0.35) -> paddle.Tensor:
    """Additive cosine margin, cos(theta) - m; Wang et al., "CosFace" (arXiv:1801.09414), eq. 4."""
    return cosine - margin


def combined(cosine: paddle.Tensor, m1: float = 1.0, m2: float = 0.0, m3: float = 0.0) -> paddle.Tensor:
    """cos(m1 theta + m2) - m3; "ArcFace" (arXiv:1801.07698), eq. 4.

    Where phi = m1 theta + m2 exceeds pi, cos(phi) would rise again; it continues as (-1)^k cos(phi) - 2k with
    k = floor(phi / pi), the continuous, decreasing extension of "SphereFace" (arXiv:1704.08063), eq. 7.

    Args:
        cosine: target cosines (N,).
        m1: factor on the angle (SphereFace).
        m2: added to the angle, in radians (ArcFace).
        m3: subtracted from the cosine (CosFace).
    """
    if m1 == 1 and m2 == 0:  # without the angle, which is rounded
        return cosine - m3
    phi = m1 * angle(cosine) + m2
    k = paddle.floor(phi.detach() / math.pi)
    sign = 1.0 - 2.0 * (k % 2)
    return sign * paddle.cos(phi) - 2.0 * k - m3


def sphereface(cosine: paddle.Tensor, margin: float = 4.0) -> paddle.Tensor:
    """Multiplicative angular margin, psi(theta) = (-1)^k cos(m theta) - 2k; "SphereFace" (arXiv:1704.08063), eq. 7."""
    return combined(cosine, m1=margin)


def adaface(cosine: paddle.Tensor, quality: paddle.Tensor, margin: float = 0.4) -> paddle.Tensor:
    """cos(theta - m q) - (m + m q), with image quality q; Kim et al., "AdaFace" (arXiv:2204.00964), eq. 8.

    Args:
        cosine: target cosines (N,).
        quality: q (N,) in [-1, 1], h times the z-score of the embedding norm, without gradient.
        margin: m.
    """
    edge = 1e-3  # the paper's code keeps the angle this far inside [0, pi]
    shifted = paddle.clip(angle(cosine) - margin * quality, edge, math.pi - edge)
    return paddle.cos(shifted) - (margin + margin * quality)


def magface_margin(norm: paddle.Tensor, norms: tuple[float, float], margins: tuple[float, float]) -> paddle.Tensor:
    """m(a), linear in the embedding's norm a; Meng et al., "MagFace" (arXiv:2103.06627), section 3.2.

    Args:
        norm: a (N,), within `norms`.
        norms: (l_a, u_a), norms between which the margin grows.
        margins: (l_m, u_m), margins in radians at those norms.
    """
    slope = (margins[1] - margins[0]) / (norms[1] - norms[0])
    return margins[0] + slope * (norm - norms[0])


def magface_regularizer(norm: paddle.Tensor, largest_norm: float) -> paddle.Tensor:
    """g(a) = 1/a + a / u_a^2, minimal at a = u_a; "MagFace" (arXiv:2103.06627), eq. 3 and appendix."""
    return 1.0 / norm + norm / largest_norm**2


def curricular_negatives(
    cosine: paddle.Tensor, hardest: paddle.Tensor, t: paddle.Tensor
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """cos (t + cos) for hard negatives, those above cos(theta_y + m); "CurricularFace" (arXiv:2004.00288), eq. 5.

    Args:
        cosine: negatives (n, N), one column per sample.
        hardest: cos(theta_y + m) (n, N), the same in every row.
        t: the curriculum's parameter, a scalar.

    Returns:
        The reweighted cosines and their derivative, both (n, N).
    """
    hard = (cosine > hardest).astype(cosine.dtype)
    easy = 1.0 - hard
    return cosine * (easy + hard * (t + cosine)), easy + hard * (t + 2.0 * cosine)


def filtered_negatives(cosine: paddle.Tensor, threshold: float) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Set negatives above a threshold, which may be the same person, to 0; insightface's inter-class filtering.

    An, Deng et al., "Killing Two Birds with One Stone" (arXiv:2203.15565), section 3.4.

    Returns:
        The cosines and their derivative (0 or 1), both (n, N).
    """
    kept = (cosine <= threshold).astype(cosine.dtype)
    return cosine * kept, kept
