"""How tensors stand in files: whole and as PaddleClas has them, whatever the number of processes.

One tensor is special, ``head.weight``. In a process it is (rows, D), the rows of this process's classes; in a file it
is (D, rows of all classes). Everything that belongs to it (its average, the optimizer's moments) changes likewise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from ppfacerec import distributed
from ppfacerec.engine.head_shards import ShardedArray
from ppfacerec.heads import MarginHead
from ppfacerec.recognizer import HEAD_WEIGHT, FaceRecognizer


def saved_shapes(recognizer: FaceRecognizer) -> dict[str, tuple[int, ...]]:
    """Shapes by name, as files have them."""
    shapes = {name: tuple(tensor.shape) for name, tensor in recognizer.state_dict().items()}
    if isinstance(recognizer.head, MarginHead):
        shapes[HEAD_WEIGHT] = recognizer.head.saved_shape
    return shapes


def to_saved(recognizer: FaceRecognizer, name: str, tensor: paddle.Tensor) -> np.ndarray:
    """The array that a file has of a tensor called `name`. All processes call it; rank 0 gets the whole array."""
    head = recognizer.head
    if name != HEAD_WEIGHT or not isinstance(head, MarginHead) or tensor.shape != head.weight.shape:
        return tensor.numpy()
    counts = [count * head.num_sub_centers for count in head.shard.counts]
    rows = tensor.numpy() if head.shard.world_size == 1 else distributed.collect_rows(tensor, counts)
    return rows.T  # a view: files keep its order in memory, and so does whoever reads them


def from_saved(recognizer: FaceRecognizer, name: str, array: Any) -> np.ndarray:
    """This process's part of a file's array, in the process's layout."""
    head = recognizer.head
    if name != HEAD_WEIGHT or not isinstance(head, MarginHead) or tuple(array.shape) != head.saved_shape:
        return array
    first = head.shard.start * head.num_sub_centers
    last = first + head.shard.size * head.num_sub_centers
    if isinstance(array, ShardedArray):
        return array.rows(first, last)
    return np.ascontiguousarray(array[:, first:last].T)


def saved_arrays(recognizer: FaceRecognizer, tensors: Mapping[str, paddle.Tensor]) -> dict[str, np.ndarray]:
    """``to_saved`` of tensors by name."""
    return {name: to_saved(recognizer, name, tensor) for name, tensor in tensors.items()}
