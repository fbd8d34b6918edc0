"""Embeddings of pairs (rows 2i and 2i + 1 are pair i): checks, normalisation, flip sum, distances."""

from collections.abc import Sequence

import numpy as np


def pair_distances(embeddings: np.ndarray) -> np.ndarray:
    """Return the squared L2 distances between rows 2i and 2i + 1: [2N, D] -> [N]."""
    return np.sum(np.square(embeddings[0::2] - embeddings[1::2]), axis=1)


def normalize(embeddings: np.ndarray) -> np.ndarray:
    """Return rows of norm 1 in float64, as insightface does with scikit-learn; a zero row stays zero.

    Raises:
        ValueError: finite numbers whose squares overflow, above 1e154: such a row would become zero.
    """
    embeddings = np.asarray(embeddings, dtype=np.float64)
    norms = row_lengths(embeddings)
    overflown = np.flatnonzero(np.isinf(norms))
    overflown = overflown[np.isfinite(embeddings[overflown]).all(axis=1)]
    if len(overflown):
        largest = np.abs(embeddings[overflown[0]]).max()
        raise ValueError(
            f"embeddings: the length of {len(overflown)} of {len(embeddings)} rows overflows, first of row "
            f"{overflown[0]} (largest number {largest:.3g}). Expected numbers below 1e150; the network diverged."
        )
    return embeddings / np.where(norms == 0, 1, norms)[:, None]


def row_lengths(embeddings: np.ndarray) -> np.ndarray:
    """Return the L2 norm of each row in float64: [N, D] -> [N]."""
    embeddings = np.asarray(embeddings, dtype=np.float64)
    return np.sqrt(np.einsum("ij,ij->i", embeddings, embeddings))


def sum_flip(embeddings: np.ndarray, flipped: np.ndarray, feature_normalize: bool = False) -> np.ndarray:
    """Return the normalised sum of the embeddings of images and of their mirror images, float64 [N, D].

    Args:
        embeddings: [N, D], of the images.
        flipped: [N, D], of the horizontally flipped images.
        feature_normalize: normalise both before the sum (PaddleClas's option; insightface does not).
    """
    if feature_normalize:
        return normalize(normalize(embeddings) + normalize(flipped))
    return normalize(np.asarray(embeddings, dtype=np.float64) + flipped)


def check_unit_rows(name: str, embeddings: np.ndarray) -> np.ndarray:
    """Return embeddings (D,) or (N, D) as float32, or raise a ValueError if their norms are not 1."""
    array = np.asarray(embeddings)
    if array.dtype.kind != "f" or array.ndim not in (1, 2):
        raise ValueError(
            f"{name}: expected embeddings, rows of float numbers, found {array.dtype} {list(array.shape)}."
        )
    with np.errstate(over="ignore"):
        rows = array.astype(np.float32)
        lengths = np.linalg.norm(rows, axis=-1)
    if not (np.abs(lengths - 1) < 1e-3).all():  # false for NaN and overflow
        raise ValueError(
            f"{name}: expected finite embeddings of length 1, found lengths from {np.min(lengths):.4g} to "
            f"{np.max(lengths):.4g}. `FaceModel.embed` returns these; divide others by their lengths."
        )
    return rows


def check_pairs(
    embeddings: np.ndarray, is_same: Sequence[bool] | np.ndarray, num_folds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings as float32 or wider and labels as bool, or raise the ValueErrors of `verification.evaluate`."""
    embeddings, labels = np.asarray(embeddings), np.asarray(is_same)
    if embeddings.ndim != 2 or embeddings.dtype.kind not in "fiu":
        found = f"shape {list(embeddings.shape)} and dtype {embeddings.dtype}"
        raise ValueError(f"embeddings has {found}, expected real numbers of shape [2 * pairs, embedding_size].")
    if len(embeddings) % 2:
        raise ValueError(
            f"embeddings has {len(embeddings)} rows, expected an even number: rows 2i and 2i + 1 are pair i. "
            "Pass both images of every pair."
        )
    if labels.ndim != 1 or labels.dtype.kind not in "biu" or not np.isin(labels, (0, 1)).all():
        found = f"shape {list(labels.shape)} and dtype {labels.dtype}"
        raise ValueError(f"is_same has {found}, expected one True or False (or 1 or 0) per pair.")
    if len(labels) * 2 != len(embeddings):
        raise ValueError(
            f"is_same has {len(labels)} labels for {len(embeddings) // 2} pairs ({len(embeddings)} rows), expected one "
            "label per pair."
        )
    if num_folds < 2 or len(labels) < num_folds:
        raise ValueError(
            f"{len(labels)} pairs cannot be split into {num_folds} folds: the threshold is chosen on all folds but one "
            "and judged on that one. Pass at least as many pairs as folds, and at least 2 folds."
        )
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        raise ValueError(
            f"embeddings holds NaN or infinity in {len(bad)} of {len(embeddings)} rows, first in row {bad[0]} "
            f"(pair {bad[0] // 2}). The model diverged or overflowed: check its weights, and evaluate in float32."
        )
    is_float = embeddings.dtype.kind == "f" and embeddings.dtype.itemsize >= 4
    return embeddings if is_float else embeddings.astype(np.float64), labels.astype(bool)
