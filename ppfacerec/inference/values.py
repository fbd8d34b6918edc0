"""Checks of what the functions for users are given; the command line asks the same ones."""

import numpy as np


def check_count(name: str, value: int) -> int:
    """Return a whole number of at least 1, else raise a ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name}: expected a whole number of at least 1, found {value!r}.")
    return int(value)


def check_unit_rows(name: str, embeddings: np.ndarray) -> np.ndarray:
    """Return embeddings (D,) or (N, D) as float32, or raise a ValueError where they are not of length 1."""
    array = np.asarray(embeddings)
    if array.dtype.kind != "f" or array.ndim not in (1, 2):
        raise ValueError(
            f"{name}: expected embeddings, rows of float numbers, found {array.dtype} {list(array.shape)}."
        )
    with np.errstate(over="ignore"):
        rows = array.astype(np.float32)
        lengths = np.linalg.norm(rows, axis=-1)
    if not (np.abs(lengths - 1) < 1e-3).all():  # NaN and what overflows are not
        raise ValueError(
            f"{name}: expected finite embeddings of length 1, found lengths from {np.min(lengths):.4g} to "
            f"{np.max(lengths):.4g}. `FaceModel.embed` gives such; divide others by their lengths."
        )
    return rows
