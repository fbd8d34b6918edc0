"""Margins: functions of the target cosine, the only logit that a margin softmax changes.

For a sample of class y, margin softmax replaces cos(theta_y) by margin(cos(theta_y)) and leaves all other cosines
alone, so a margin is a differentiable function of a vector of N cosines, whatever the number of classes.
"""

from __future__ import annotations

import math

import paddle

# PaddleClas's constant: keeps the derivative of sin(theta) = sqrt(1 - cos^2) finite at cos = +-1.
_SINE_FLOOR = 1e-6


def arcface(
    cosine: paddle.Tensor, margin: float = 0.5, easy_margin: bool = False, straight_through: bool = False
) -> paddle.Tensor:
    """Additive angular margin, cos(theta + m); Deng et al., "ArcFace" (arXiv:1801.07698), eq. 3.

    cos(theta + m) falls only up to theta = pi - m. Beyond that point the function goes on as cos(theta) - m sin(m),
    which is monotonic too (PaddleClas's rule); with `easy_margin` the margin is applied only where cos(theta) > 0.

    Args:
        cosine: target cosines (N,), float32.
        margin: m in radians.
        easy_margin: leave cosines <= 0 as they are.
        straight_through: take 1 as the derivative d margin(cos) / d cos, as insightface's arcface_torch does.

    Returns:
        (N,) cosines with the margin.
    """
    if straight_through:
        with paddle.no_grad():
            shift = arcface(cosine, margin, easy_margin) - cosine
        return cosine + shift
    sine = paddle.sqrt(paddle.clip(1.0 - cosine * cosine, min=0.0) + _SINE_FLOOR)
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    if easy_margin:
        return paddle.where(cosine > 0, shifted, cosine)
    return paddle.where(cosine > math.cos(math.pi - margin), shifted, cosine - math.sin(margin) * margin)
