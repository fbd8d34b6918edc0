"""Face verification by insightface's protocol (``eval/verification.py``), using only sorting and counting.

A pair is accepted as the same person if the squared L2 distance of its embeddings is below a threshold, which is chosen
on nine of ten contiguous folds and evaluated on the tenth. NumPy only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppfacerec.metrics.pair_embeddings import check_pairs, pair_distances
from ppfacerec.metrics.plausibility import doubts
from ppfacerec.metrics.roc import FARS, OperatingPoint, Roc, exact_roc

FAR_TARGET = 1e-3  # for `val`
_FAR_FACTOR = 10  # a measured FAR above this many times the target is a different operating point
ACCURACY_THRESHOLDS = np.arange(0, 4, 0.01)
VAL_THRESHOLDS = np.arange(0, 4, 0.001)


@dataclass(frozen=True, eq=False)
class VerificationResult:
    """Result of `evaluate`. None means "n/a": too few pairs."""

    num_pairs: int
    distances: np.ndarray  # (N,) squared L2 of each pair
    is_same: np.ndarray  # (N,) bool
    tpr: np.ndarray  # (400,) at ACCURACY_THRESHOLDS, mean over the folds
    fpr: np.ndarray  # (400,)
    accuracy: np.ndarray  # (num_folds,)
    accuracy_mean: float
    accuracy_std: float  # of the population (divided by num_folds)
    best_thresholds: np.ndarray  # (num_folds,) squared L2
    val: float | None  # TAR at FAR 1e-3 by insightface's interpolation; None if a fold lacks a kind of pair
    val_std: float | None
    far: float | None  # FAR of the thresholds of `val` on the held-out folds
    roc: Roc | None  # exact, over all pairs; None if all pairs are of one kind
    auc: float | None
    eer: float | None
    doubts: tuple[str, ...] = ()  # reasons to doubt these numbers, one sentence each
    xnorm: float | None = None  # mean norm of the embeddings before normalisation, if known

    @property
    def threshold(self) -> float:
        """Mean over the folds of the best squared L2 threshold."""
        return float(np.mean(self.best_thresholds))

    @property
    def points(self) -> dict[float, OperatingPoint | None]:
        """The exact operating point at FAR 1e-1 ... 1e-6; None with too few pairs."""
        return {far: self.roc.at_far(far) if self.roc else None for far in FARS}

    @property
    def tar_at_far(self) -> dict[float, float | None]:
        """The true accept rate at each of `points`."""
        return {far: point.tar if point else None for far, point in self.points.items()}

    @property
    def tar_at_target(self) -> float | None:
        """`val`, or None with too few pairs for a FAR of 1e-3 or a measured FAR far from it (a collapsed network has a
        `val` of 1 at a FAR of 1)."""
        if self.tar_at_far[FAR_TARGET] is None or self.far is None or self.far > _FAR_FACTOR * FAR_TARGET:
            return None
        return self.val

    @property
    def cosine_threshold(self) -> float:
        """`threshold` as a cosine: for unit vectors ``|a - b|^2 = 2 - 2 cos(a, b)``."""
        return 1 - self.threshold / 2


def evaluate(embeddings: np.ndarray, is_same: Sequence[bool] | np.ndarray, num_folds: int = 10) -> VerificationResult:
    """Score pairs of embeddings.

    The embeddings are not normalised here; do that first (`sum_flip`). Distances are computed in their own dtype,
    float32 or float64, and compared with unrounded float64 thresholds, as in insightface's code under NumPy 2 (NumPy 1
    rounded the thresholds to float32). insightface itself passes float64, as `sum_flip` returns.

    Args:
        embeddings: [2N, D], finite; rows 2i and 2i + 1 are pair i.
        is_same: [N] booleans or 0/1.
        num_folds: contiguous folds; the first N % num_folds have one pair more (scikit-learn's KFold, not shuffled).

    Raises:
        ValueError: odd number of rows, wrong number of labels, NaN, fewer pairs than folds.
    """
    embeddings, labels = check_pairs(embeddings, is_same, num_folds)
    distances = pair_distances(embeddings)
    folds = np.array_split(np.arange(len(labels)), num_folds)
    fold_of = np.repeat(np.arange(num_folds), [len(fold) for fold in folds])
    tpr, fpr, accuracy, best_thresholds = _accuracy(distances, labels, fold_of)
    val, val_std, far = _tar_at_interpolated_far(distances, labels, fold_of)
    roc = exact_roc(distances, labels) if labels.any() and not labels.all() else None
    return VerificationResult(
        num_pairs=len(labels),
        distances=distances,
        is_same=labels,
        tpr=tpr,
        fpr=fpr,
        accuracy=accuracy,
        accuracy_mean=float(np.mean(accuracy)),
        accuracy_std=float(np.std(accuracy)),
        best_thresholds=best_thresholds,
        val=val,
        val_std=val_std,
        far=far,
        roc=roc,
        auc=roc.auc() if roc else None,
        eer=roc.eer() if roc else None,
        doubts=doubts(embeddings, distances, labels, num_folds),
    )


class FaceAccOnFiveDatasets:
    """Verification accuracy by insightface's protocol, on any number of sets (the name is PaddleClas's).

    Args:
        num_folds: number of contiguous cross-validation folds, for sets that do not prescribe it.
    """

    def __init__(self, num_folds: int = 10) -> None:
        self.num_folds = num_folds

    def __call__(self, embeddings: np.ndarray, is_same: np.ndarray, num_folds: int | None = None) -> VerificationResult:
        """Score one set; see ``evaluate``. `num_folds` is the set's own, as in the first line of pairs.txt."""
        return evaluate(embeddings, is_same, num_folds or self.num_folds)


def _accuracy(
    distances: np.ndarray, labels: np.ndarray, fold_of: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return tpr, fpr (means over the folds), accuracy and best threshold of every fold."""
    num_same, num_different = _count_folds(labels, fold_of)[:, None], _count_folds(~labels, fold_of)[:, None]
    accepted = _count_below(distances, labels, fold_of, ACCURACY_THRESHOLDS)  # (num_folds, 400)
    false_accepted = _count_below(distances, ~labels, fold_of, ACCURACY_THRESHOLDS)
    correct = accepted + num_different - false_accepted
    best = np.argmax(correct.sum(axis=0) - correct, axis=1)  # the first maximum on the other folds
    fold_sizes = (num_same + num_different)[:, 0]
    return (
        np.mean(accepted / np.maximum(num_same, 1), axis=0),
        np.mean(false_accepted / np.maximum(num_different, 1), axis=0),
        correct[np.arange(len(best)), best] / fold_sizes,
        ACCURACY_THRESHOLDS[best],
    )


def _tar_at_interpolated_far(
    distances: np.ndarray, labels: np.ndarray, fold_of: np.ndarray
) -> tuple[float | None, float | None, float | None]:
    """Return mean and std of TAR, and mean FAR, at thresholds interpolated for FAR_TARGET on the other folds."""
    num_same, num_different = _count_folds(labels, fold_of), _count_folds(~labels, fold_of)
    if not (num_same.all() and num_different.all()):
        return None, None, None
    false_accepted = _count_below(distances, ~labels, fold_of, VAL_THRESHOLDS)  # (num_folds, 4000)
    train_far = (false_accepted.sum(axis=0) - false_accepted) / (num_different.sum() - num_different)[:, None]
    thresholds = np.array([_interpolate_threshold(far, VAL_THRESHOLDS, FAR_TARGET) for far in train_far])
    accepted = distances < thresholds[fold_of]
    val = _count_folds(accepted & labels, fold_of) / num_same
    far = _count_folds(accepted & ~labels, fold_of) / num_different
    return float(np.mean(val)), float(np.std(val)), float(np.mean(far))


def _interpolate_threshold(far: np.ndarray, thresholds: np.ndarray, target: float) -> float:
    """Return the threshold where `far` reaches `target`, as SciPy 1.8's ``interp1d(far, thresholds, kind="slinear")``.

    FAR is a step function with many equal values, which later SciPy rejects. SciPy 1.8 fits a B-spline: the line
    from the last point at or below the target to the first point above it; 0 if the top step is flat at the target.
    """
    if far[-1] < target:
        return 0.0
    high = min(int(np.searchsorted(far, target, side="right")), len(far) - 1)
    width = far[high] - far[high - 1]
    if width == 0:
        return 0.0
    weight = 1.0 / width  # SciPy's order of operations: the last digit depends on it
    below, above = weight * (far[high] - target), weight * (target - far[high - 1])
    return float(thresholds[high - 1] * below + thresholds[high] * above)


def _count_below(distances: np.ndarray, chosen: np.ndarray, fold_of: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Count the chosen pairs of each fold with a distance below each threshold, [num_folds, T]."""
    num_folds, num_bins = int(fold_of[-1]) + 1, len(thresholds) + 1
    bins = np.searchsorted(thresholds, distances[chosen], side="right")  # below thresholds[k] exactly where k >= bin
    table = np.bincount(fold_of[chosen] * num_bins + bins, minlength=num_folds * num_bins)
    return np.cumsum(table.reshape(num_folds, num_bins), axis=1)[:, :-1]


def _count_folds(chosen: np.ndarray, fold_of: np.ndarray) -> np.ndarray:
    """Count the chosen pairs of each fold, [num_folds]."""
    return np.bincount(fold_of[chosen], minlength=int(fold_of[-1]) + 1)
