"""Layout of tensors in files: whole and as in PaddleClas, for any world size.

Only a ``head.weight`` with rows for each class (``ClassRows``), its average and its optimizer state need conversion.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from ppfacerec.recognizer import HEAD_WEIGHT, FaceRecognizer
from ppfacerec.training.checkpoints.files.head_shards import ShardedArray


def saved_shapes(recognizer: FaceRecognizer) -> dict[str, tuple[int, ...]]:
    """Return the shapes in files by name."""
    shapes = {name: tuple(tensor.shape) for name, tensor in recognizer.state_dict().items()}
    if recognizer.traits.class_rows is not None:
        shapes[HEAD_WEIGHT] = recognizer.traits.class_rows.saved_shape
    return shapes


def to_saved(recognizer: FaceRecognizer, name: str, tensor: paddle.Tensor) -> np.ndarray:
    """Return the array that files contain for the tensor `name`. All ranks call it; rank 0 gets the whole array."""
    rows = recognizer.traits.class_rows
    if name != HEAD_WEIGHT or rows is None or tuple(tensor.shape) != rows.shape:
        return tensor.numpy()
    return rows.collect(tensor)


def from_saved(recognizer: FaceRecognizer, name: str, array: Any) -> np.ndarray:
    """Return this rank's part of a file's array, in the rank's layout."""
    rows = recognizer.traits.class_rows
    if name != HEAD_WEIGHT or rows is None or tuple(array.shape) != rows.saved_shape:
        return array
    first, last = rows.range
    if isinstance(array, ShardedArray):
        return array.rows(first, last)
    return np.ascontiguousarray(array[:, first:last].T)


def saved_arrays(recognizer: FaceRecognizer, tensors: Mapping[str, paddle.Tensor]) -> dict[str, np.ndarray]:
    """Apply ``to_saved`` to tensors by name."""
    return {name: to_saved(recognizer, name, tensor) for name, tensor in tensors.items()}
