"""Class sampling: each step computes all positives, and negatives drawn at random.

An et al., "Partial FC" (arXiv:2010.05222) and "Killing Two Birds with One Stone" (arXiv:2203.15565).
"""

from collections.abc import Sequence

import numpy as np
import paddle
from paddle import nn


def sample_classes(num_classes: int, rate: float, positives: np.ndarray, key: Sequence[int]) -> np.ndarray:
    """Choose max(rate x num_classes, positives) classes: the positives, and negatives drawn uniformly.

    Args:
        num_classes: the classes are 0 to num_classes - 1.
        rate: in (0, 1].
        positives: distinct and sorted.
        key: (seed, step, shard); the same key draws the same negatives.

    Returns:
        The sorted classes.
    """
    num_negatives = max(int(rate * num_classes) - len(positives), 0)
    rng = np.random.default_rng(list(key))
    others = np.sort(rng.choice(num_classes - len(positives), num_negatives, replace=False, shuffle=False))
    # `others` indexes the classes that are not positive; shift it past the positives in between.
    others += np.searchsorted(positives - np.arange(len(positives)), others, side="right")
    return np.sort(np.concatenate([positives, others]), kind="stable")  # two sorted runs, merged


class ActiveRows:
    """The rows of a large weight that one optimizer step trains, copied into a small parameter.

    The optimizer sees only the parameter, so momentum and decay cannot change the other rows.

    Args:
        weight: (classes x rows_per_class, D), not trained itself.
        rows_per_class: sub-centres.
        capacity: maximum number of classes per step.
    """

    def __init__(self, weight: paddle.Tensor, rows_per_class: int, capacity: int) -> None:
        self.weight, self._rows_per_class = weight, rows_per_class
        zeros = nn.initializer.Constant(0.0)
        shape = [capacity * rows_per_class, weight.shape[1]]
        self.parameter = paddle.create_parameter(shape, "float32", default_initializer=zeros)
        self._place = np.full(weight.shape[0] // rows_per_class, -1, np.int64)  # index of each class in the parameter
        self.classes = np.empty(0, np.int64)

    @property
    def rows(self) -> paddle.Tensor:
        """Indices of the weight's rows that the parameter holds."""
        return paddle.to_tensor(rows_of(self.classes, self._rows_per_class))

    @paddle.no_grad()
    def load(self, classes: np.ndarray) -> None:
        """Add classes; those already loaded keep their positions."""
        new = classes[self._place[classes] < 0]
        first, last = len(self.classes), len(self.classes) + len(new)
        K = self._rows_per_class
        if last * K > self.parameter.shape[0]:
            raise ValueError(
                f"{last} classes in one step, but there is room for {self.parameter.shape[0] // K}; call "
                "prepare(samples of all processes in one optimizer step) on the head before the optimizer is made."
            )
        self._place[new] = np.arange(first, last)
        self.classes = np.concatenate([self.classes, new])
        if len(new):
            own = paddle.gather(self.weight, paddle.to_tensor(rows_of(new, K)))
            self.parameter[first * K : last * K].copy_(own, False)

    def positions(self, classes: np.ndarray) -> np.ndarray:
        """Index of each class in the parameter; -1 if it is not loaded, or -1 itself."""
        return np.where(classes >= 0, self._place[classes], -1)

    @paddle.no_grad()
    def store(self) -> None:
        """Write the rows back after the step, and unload them."""
        rows = self.rows
        if rows.shape[0]:
            paddle.scatter_(self.weight, rows, self.parameter[: rows.shape[0]])
        self._place[self.classes] = -1
        self.classes = self.classes[:0]


def rows_of(classes: np.ndarray, rows_per_class: int) -> np.ndarray:
    """Return the row indices of `classes` in a weight (classes x rows_per_class, D)."""
    if rows_per_class == 1:
        return classes
    return (classes[:, None] * rows_per_class + np.arange(rows_per_class)).flatten()
