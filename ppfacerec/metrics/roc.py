"""The exact ROC curve of face pairs: every distinct distance is a threshold, without a grid."""

from dataclasses import dataclass

import numpy as np

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class OperatingPoint:
    """Rates of a verifier that accepts pairs whose squared distance is below `threshold`."""

    threshold: float
    tar: float
    far: float


@dataclass(frozen=True, eq=False)
class Roc:
    """Exact ROC. Pairs with ``distance < thresholds[k]`` are accepted, which gives ``fpr[k]`` and ``tpr[k]``.

    `thresholds` are the K distinct distances in ascending order and infinity, so the curve goes from (0, 0) to (1, 1).
    All three arrays are [K + 1].
    """

    fpr: np.ndarray
    tpr: np.ndarray
    thresholds: np.ndarray
    num_same: int
    num_different: int

    def at_far(self, target: float) -> OperatingPoint | None:
        """Return the most permissive threshold with a false accept rate of at most `target`.

        None with fewer than 1 / target pairs of different people.
        """
        allowed = allowed_false_accepts(target, self.num_different)
        if allowed < 1:
            return None
        false_accepts = np.rint(self.fpr * self.num_different)
        k = int(np.searchsorted(false_accepts, allowed, side="right")) - 1
        return OperatingPoint(float(self.thresholds[k]), float(self.tpr[k]), float(self.fpr[k]))

    def auc(self) -> float:
        """Area under the curve: the probability that a same pair is nearer than a different one, ties counted half."""
        return float(np.sum(np.diff(self.fpr) * (self.tpr[1:] + self.tpr[:-1])) / 2)

    def eer(self) -> float:
        """Equal error rate, where FAR = 1 - TAR, interpolated linearly between the two neighbouring points."""
        gap = self.fpr - (1 - self.tpr)  # rises from -1 to 1
        k = int(np.argmax(gap >= 0))
        share = -gap[k - 1] / (gap[k] - gap[k - 1])
        return float(self.fpr[k - 1] + share * (self.fpr[k] - self.fpr[k - 1]))


def far_name(far: float) -> str:
    """``0.001`` -> ``"1e-3"``, ``0.0014`` -> ``"0.0014"``."""
    rounded = f"{far:.0e}"
    return (rounded if float(rounded) == far else f"{far:g}").replace("e-0", "e-")


def one_in(rate: float) -> str:
    """``0.001`` -> ``"1 in 1,000"``."""
    return f"1 in {max(round(1 / rate), 1):,}"


def allowed_false_accepts(far: float, num_different: int) -> int:
    """Return the number of false accepts that `far` allows among `num_different` pairs of different people."""
    return int(np.floor(far * num_different + 1e-9))  # 0.29 * 100 is 28.999999999999996


def exact_roc(distances: np.ndarray, is_same: np.ndarray) -> Roc:
    """Return the ROC of `distances` [N] with labels `is_same` [N]; both kinds of pairs must be present."""
    thresholds, place = np.unique(distances.astype(np.float64), return_inverse=True)
    same_below, different_below = (
        np.r_[0, np.cumsum(np.bincount(place[kind], minlength=len(thresholds)))] for kind in (is_same, ~is_same)
    )
    num_same, num_different = int(same_below[-1]), int(different_below[-1])
    return Roc(
        fpr=different_below / num_different,
        tpr=same_below / num_same,
        thresholds=np.r_[thresholds, np.inf],
        num_same=num_same,
        num_different=num_different,
    )
