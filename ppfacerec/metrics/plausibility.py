"""Warnings about evaluation numbers that are meaningless or misleading."""

import numpy as np

COLLAPSED = 0.01  # squared L2: the smallest positive threshold tried for the accuracy


def doubts(embeddings: np.ndarray, distances: np.ndarray, is_same: np.ndarray, num_folds: int) -> tuple[str, ...]:
    """Return one sentence for each reason to doubt the results on these pairs.

    `embeddings` are (2N, D), `distances` (N,) squared L2, `is_same` (N,) bool.
    """
    found = []
    zero = np.flatnonzero(~embeddings.any(axis=1))
    if len(zero):
        found.append(
            f"{len(zero)} of {len(embeddings)} embeddings are zero, first in row {zero[0]} (pair {zero[0] // 2}): the "
            "network gives no information about these images."
        )
    if distances.max() < COLLAPSED:
        found.append(
            f"all embeddings are nearly equal (largest squared distance of a pair {distances.max():.2g}): the network "
            "has collapsed, or received the same image every time. No threshold is meaningful."
        )
    if is_same.any() and not is_same.all():
        single = [len(set(fold.tolist())) == 1 for fold in np.array_split(is_same, num_folds)]
        if any(single):
            found.append(
                f"{sum(single)} of {num_folds} folds hold pairs of one kind only, so accuracy and threshold are "
                "those of an unbalanced split. Set Metric.Eval FaceAccOnFiveDatasets.num_folds to the folds that the "
                "set was made with, or mix the kinds (`ppfacerec make-bin` does)."
            )
    return tuple(found)
