"""Every margin head as a plain slow NumPy version in float64, written from the papers' equations.

What training keeps constant (AdaFace's quality, CurricularFace's t and which negatives are hard) is worked out once, from
the point at which the gradient is wanted; the loss is then a function of embeddings and weight that can be differentiated
by finite differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SINE_FLOOR = 1e-6  # under the root of sin(theta) = sqrt(1 - cos^2), as in PaddleClas


def sine(c):
    return math.sqrt(max(1 - c * c, 0) + SINE_FLOOR)


def theta(c):
    return math.atan2(sine(c), c)


def arcface(c, m=0.5, easy=False):
    shifted = c * math.cos(m) - sine(c) * math.sin(m)
    if easy:
        return shifted if c > 0 else c
    return shifted if c > math.cos(math.pi - m) else c - m * math.sin(m)


def cosface(c, m=0.35):
    return c - m


def combined(c, m1, m2, m3):
    phi = m1 * theta(c) + m2
    k = math.floor(phi / math.pi)
    return (-1) ** k * math.cos(phi) - 2 * k - m3


def adaface(c, q, m=0.4):
    shifted = min(max(theta(c) - m * q, 1e-3), math.pi - 1e-3)
    return math.cos(shifted) - (m + m * q)


def magface(c, a, norms=(10, 110), margins=(0.45, 0.8)):
    a = min(max(a, norms[0]), norms[1])
    return arcface(c, (margins[1] - margins[0]) / (norms[1] - norms[0]) * (a - norms[0]) + margins[0])


def magface_penalty(norm, weight=35.0, norms=(10, 110)):
    a = np.clip(norm, *norms)
    return weight * np.mean(1 / a + a / norms[1] ** 2)


@dataclass
class Constants:
    """Of one batch: what is not differentiated."""

    quality: np.ndarray  # (B,) AdaFace
    t: float  # CurricularFace
    hardest: np.ndarray  # (B,) cos(theta_y + m)


@dataclass
class Plain:
    """A head's name, its arguments, and the same in NumPy."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    margin: Callable[[float, float, float], float] = lambda c, norm, quality: arcface(c)
    penalty: Callable[[np.ndarray], float] = lambda norm: 0.0

    @property
    def id(self) -> str:
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.arguments.items())])


HEADS = [
    Plain("ArcMargin"),
    Plain("ArcMargin", {"easy_margin": True}, lambda c, norm, q: arcface(c, easy=True)),
    Plain("CosMargin", {}, lambda c, norm, q: cosface(c)),
    Plain("SphereMargin", {}, lambda c, norm, q: combined(c, 1.35, 0, 0)),
    Plain("SphereMargin", {"margin": 4.0}, lambda c, norm, q: combined(c, 4, 0, 0)),
    Plain("CombinedMargin", {}, lambda c, norm, q: combined(c, 1, 0.3, 0.2)),
    Plain("CombinedMargin", {"m1": 1.2, "m2": 0.4, "m3": 0.1}, lambda c, norm, q: combined(c, 1.2, 0.4, 0.1)),
    Plain("AdaMargin", {}, lambda c, norm, q: adaface(c, q)),
    Plain("MagMargin", {}, lambda c, norm, q: magface(c, norm), magface_penalty),
    Plain("CurricularMargin"),
]


def all_cosines(x, w, sub_centers):
    """(B, C) of rows (C K, D); a class's cosine is its best centre's."""
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    centres = w / np.maximum(np.linalg.norm(w, axis=1, keepdims=True), 1e-12)
    return (unit @ centres.T).reshape(len(x), -1, sub_centers).max(axis=2)


def constants(x, w, y, sub_centers=1, mean=20.0, deviation=100.0, t=0.0) -> Constants:
    """After the running statistics have taken this batch in; `mean`, `deviation` and `t` are those before."""
    norm = np.clip(np.linalg.norm(x, axis=1), 1e-3, 100)
    mean, deviation = 0.01 * norm.mean() + 0.99 * mean, 0.01 * norm.std(ddof=1) + 0.99 * deviation
    quality = np.clip((norm - mean) / (deviation + 1e-3) * 0.333, -1, 1)
    target = all_cosines(x, w, sub_centers)[np.arange(len(y)), y]
    hardest = np.array([c * math.cos(0.5) - sine(c) * math.sin(0.5) for c in target])
    return Constants(quality, 0.01 * target.mean() + 0.99 * t, hardest)


def loss(plain: Plain, x, w, y, constant: Constants, scale=64.0, sub_centers=1, threshold=None, classes=None) -> float:
    """Mean cross-entropy plus the head's penalty; `classes` are those that a step has sampled."""
    cosine, norm = all_cosines(x, w, sub_centers), np.linalg.norm(x, axis=1)
    total = 0.0
    for i in range(len(x)):
        logits = []
        for j in range(cosine.shape[1]) if classes is None else classes:
            c = cosine[i, j]
            if j == y[i]:
                target = scale * plain.margin(c, norm[i], constant.quality[i])
                logits.append(target)
                continue
            if threshold is not None and c > threshold:
                c = 0.0
            if plain.name == "CurricularMargin" and c > constant.hardest[i]:
                c = c * (constant.t + c)
            logits.append(scale * c)
        top = max(logits)
        total += math.log(sum(math.exp(z - top) for z in logits)) + top - target
    return total / len(x) + plain.penalty(norm)


def slope(function: Callable[[np.ndarray], float], at: np.ndarray, direction: np.ndarray, step: float = 1e-5) -> float:
    """The directional derivative by central differences."""
    return (function(at + step * direction) - function(at - step * direction)) / (2 * step)
