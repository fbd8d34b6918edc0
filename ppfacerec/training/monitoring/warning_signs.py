"""Warning signs of a failing training, detected from plain numbers; `health.py` measures them.

A condition returns None while all is well, else a sentence with the numbers, the likely causes and what to try. A false
warning is worse than a late one: thresholds are far outside the range of healthy runs and must be passed for a while.
"""

import math
from collections import deque
from collections.abc import Sequence
from statistics import median

_MIN_WINDOW = 200  # batches, below which noise dominates
_BLOCKS = 10  # per window
_LEAST_GAIN = 0.01  # relative fall of the mean loss in a tenth of a run that learns
_TINY_RATE = 0.01  # of the highest learning rate: below it, a constant loss is expected
_SOME_CHECKS, _SOME_BATCHES = 3, 50  # how long embeddings must look collapsed
_COLLAPSED_COSINE = 0.99
_COLLAPSED_DIMENSIONS = 1.1
_SATURATED_LOSS = 1e-6  # float32 cannot distinguish the probability from 1
_NO_GRADIENT = 1e-12
_GROWTH, _GROWTH_STEPS = 3.0, 500  # in healthy runs the median weight norm grows by some per cent
_COOL_DOWN = 1000  # optimizer steps between two reports of an intermittent condition


class LossStuck:
    """The loss does not fall, and is no better than that of a network that ignores its input.

    Such a network reaches ln(classes), the entropy of a uniform guess; a margin only increases it. A constant loss
    below that is a plateau after some learning, which needs no warning.

    Args:
        num_batches: length of the whole training; the window is a tenth of it.
        chance: loss of random guessing.
    """

    def __init__(self, num_batches: int, chance: float) -> None:
        self.window = max(_MIN_WINDOW, num_batches // 10)
        self._chance, self._size = chance, -(-self.window // _BLOCKS)
        self._blocks: deque[tuple[float, bool]] = deque(maxlen=_BLOCKS)  # mean loss, whether the rate allowed learning
        self._sum, self._count = 0.0, 0

    def add(self, loss: float, relative_rate: float) -> None:
        """Add a batch's loss, and its learning rate relative to the schedule's highest."""
        self._sum, self._count = self._sum + loss, self._count + 1
        if self._count == self._size:
            self._blocks.append((self._sum / self._size, relative_rate >= _TINY_RATE))
            self._sum, self._count = 0.0, 0

    def __call__(self, rate: float) -> str | None:
        if len(self._blocks) < _BLOCKS or not all(could_learn for _, could_learn in self._blocks):
            return None
        means = [mean for mean, _ in self._blocks]
        half = _BLOCKS // 2
        before, now = sum(means[:half]) / half, sum(means[half:]) / half
        if not (now > self._chance and now >= (1 - _LEAST_GAIN) * before):  # NaN without cross-entropy
            return None
        return (
            f"The loss does not fall: {before:.4g}, then {now:.4g}, the means of the halves of the last "
            f"{_BLOCKS * self._size} batches, with learning rate {rate:.3g}. Guessing would give {self._chance:.4g}. "
            "Likely: the learning rate is far too high (try a tenth, or a longer warm-up) or far too low; margin and "
            "scale are too large to start with (try margin 0.1 to 0.3, scale 16 to 32, or pretrained weights); the "
            "labels do not belong to the images (ppfacerec doctor, ppfacerec show-batch)."
        )


class Collapsed:
    """All images get the same embedding, or embeddings on a line.

    A final batch norm hides a collapse from the mean cosine, because it scales up any remaining differences; these
    then have hardly more than one dimension.
    """

    def __init__(self) -> None:
        self._checks, self._first = 0, 0

    def __call__(self, batch: int, cosine: float, dimensions: float, norm: float) -> str | None:
        """Check a batch of training.

        Args:
            batch: its number.
            cosine: mean of the embeddings' pairs.
            dimensions: of their differences, see ``effective_dimensions``.
            norm: mean length.
        """
        if norm > 0 and cosine < _COLLAPSED_COSINE and dimensions > _COLLAPSED_DIMENSIONS:
            self._checks = 0
            return None
        if self._checks == 0:
            self._first = batch
        self._checks += 1
        if self._checks < _SOME_CHECKS or batch - self._first < _SOME_BATCHES:
            return None
        return (
            f"The embeddings have collapsed: mean cosine of the pairs of a batch {cosine:.4f} (1: all the same), "
            f"effective dimensions {dimensions:.2f}, mean norm {norm:.3g}. Faces cannot be distinguished. Likely: the "
            "learning rate is too high (go back to a checkpoint from before and try a tenth), all images are the same "
            "(ppfacerec show-batch), or weights that are 0. Waiting does not help."
        )


class Growing:
    """The weights grow severalfold within few steps: each step is larger than the weights themselves.

    Most weights precede a batch norm, which hides their scale, so that the loss need not show it. But the larger the
    weights, the less a step changes them, and the initial weights are lost at once.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[int, list[float]]] = deque()

    def __call__(self, step: int, norms: Sequence[float], rate: float) -> str | None:
        """Check the norms of some weights, always the same, after `step` optimizer steps."""
        while self._seen and step - self._seen[0][0] > _GROWTH_STEPS:
            self._seen.popleft()
        self._seen.append((step, list(norms)))
        first, before = self._seen[0]
        factors = [now / then for now, then in zip(norms, before) if then > 0]
        if not factors or median(factors) < _GROWTH:
            return None
        return (
            f"The backbone's weights have grown {median(factors):.3g}-fold within {step - first} optimizer steps, with "
            f"learning rate {rate:.3g}. Likely: it is far too high, and the initial weights are lost, though the loss "
            "may fall, slowly, as batch norms hide the size of weights. Start again with a tenth."
        )


def saturated(loss: float, gradient_norm: float | None) -> str | None:
    """The gradient vanishes: all targets' probabilities are 1 to float precision, or all cosines are at their limit.

    Args:
        loss: mean cross-entropy since the last check.
        gradient_norm: of all the backbone's parameters; None if unknown.
    """
    if loss < _SATURATED_LOSS:
        return (
            f"The logits are saturated: the mean loss is {loss:.3g}, every target's probability 1 to float precision. "
            "Nothing more is learned. Likely: the training set is too easy for the head (one class, or very few "
            "images); try a larger margin (a larger scale does not help), or stop: it is memorised."
        )
    if gradient_norm is not None and gradient_norm < _NO_GRADIENT:
        return (
            f"The logits are saturated: the loss is {loss:.4g}, but the backbone's gradients are 0. Likely: cosines at "
            "exactly 1 or -1, where the head has no slope, or an activation that is 0 for all images; go back to a "
            "checkpoint from before and try a tenth of the learning rate."
        )
    return None


def zero_rate(rate: float, step: int, until: int, num_steps: int) -> str | None:
    """The learning rate is 0 in more than the first step of a warm-up.

    Args:
        rate: at step `step`.
        until: next step with another rate, or num_steps.
        num_steps: of the whole training.
    """
    if rate != 0 or until <= step + 1:
        return None
    return (
        f"The learning rate is 0 from optimizer step {step} to {until - 1} of {num_steps}: these steps change no "
        "weight (but batch norms keep averaging). Likely: Optimizer.lr ends before Global.epochs does, or has a 0 "
        "among its values. Set eta_min, end_lr or values to what you mean, or shorten Global.epochs."
    )


def too_many_skipped(count: int, limit: int | None, loss_scale: str) -> str | None:
    """Mixed precision skipped `count` optimizer steps in a row because of non-finite gradients."""
    if limit is None or count < limit:
        return None
    return (
        f"{count} optimizer steps in a row were skipped (Global.max_bad_steps: {limit}): their gradients were not "
        f"finite in mixed precision, and the loss scale is {loss_scale} now. The weights are as they were before. "
        "Likely: a network or learning rate that float16 has no range for; try AMP.dtype: bfloat16, AMP.level: "
        "O1, a tenth of the learning rate, or Optimizer.clip_norm."
    )


class Alarm:
    """Report a condition when it begins, not while it lasts, and not again within `_COOL_DOWN` optimizer steps."""

    def __init__(self) -> None:
        self._is_on, self._last = False, -math.inf

    def __call__(self, message: str | None, step: int) -> bool:
        """Process a condition's message at this optimizer step; return whether to report it."""
        begins = message is not None and not self._is_on
        self._is_on = message is not None
        if not begins or step - self._last < _COOL_DOWN:
            return False
        self._last = step
        return True
