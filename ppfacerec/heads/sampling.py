"""A part of the classes for each step: all positives, and negatives drawn at random.

An et al., "Partial FC" (arXiv:2010.05222) and "Killing Two Birds with One Stone" (arXiv:2203.15565).
"""

from collections.abc import Sequence

import numpy as np
import paddle
from paddle import nn


def sample_classes(num_classes: int, rate: float, positives: np.ndarray, key: Sequence[int]) -> np.ndarray:
    """Choose max(rate x num_classes, positives) classes: the positives, and of the others each equally likely.

    Args:
        num_classes: to choose from, 0 to num_classes - 1.
        rate: in (0, 1].
        positives: distinct and sorted.
        key: (seed, step, part); the same key chooses the same negatives.

    Returns:
        The sorted classes.
    """
    num_negatives = max(int(rate * num_classes) - len(positives), 0)
    rng = np.random.default_rng(list(key))
    others = np.sort(rng.choice(num_classes - len(positives), num_negatives, replace=False, shuffle=False))
    # `others` counts the classes that are no positives; pass over the positives in between.
    others += np.searchsorted(positives - np.arange(len(positives)), others, side="right")
    return np.sort(np.concatenate([positives, others]), kind="stable")  # two sorted runs, merged


class ActiveRows:
    """The rows of a large weight that one optimizer step trains, in a small parameter of their own.

    The optimizer sees the parameter only, so momentum and decay cannot move the other rows.

    Args:
        weight: (classes x rows_per_class, D), which is no trained parameter itself.
        rows_per_class: sub-centres.
        capacity: classes of one step at most.
    """

    def __init__(self, weight: paddle.Tensor, rows_per_class: int, capacity: int) -> None:
        self.weight, self._rows_per_class = weight, rows_per_class
        zeros = nn.initializer.Constant(0.0)
        shape = [capacity * rows_per_class, weight.shape[1]]
        self.parameter = paddle.create_parameter(shape, "float32", default_initializer=zeros)
        self._place = np.full(weight.shape[0] // rows_per_class, -1, np.int64)  # of each class in the parameter
        self.classes = np.empty(0, np.int64)

    @property
    def rows(self) -> paddle.Tensor:
        """Which rows of the weight the parameter holds."""
        return paddle.to_tensor(rows_of(self.classes, self._rows_per_class))

    @paddle.no_grad()
    def load(self, classes: np.ndarray) -> None:
        """Add classes; those that are in keep their places."""
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
        """Where the classes stand in the parameter; -1 where they do not, or are -1 themselves."""
        return np.where(classes >= 0, self._place[classes], -1)

    @paddle.no_grad()
    def store(self) -> None:
        """Write the rows back after the step, and forget them."""
        rows = self.rows
        if rows.shape[0]:
            paddle.scatter_(self.weight, rows, self.parameter[: rows.shape[0]])
        self._place[self.classes] = -1
        self.classes = self.classes[:0]


def rows_of(classes: np.ndarray, rows_per_class: int) -> np.ndarray:
    """The rows of some classes in a weight (classes x rows_per_class, D)."""
    if rows_per_class == 1:
        return classes
    return (classes[:, None] * rows_per_class + np.arange(rows_per_class)).flatten()
