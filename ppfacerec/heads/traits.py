"""The interface that training uses besides a head's scores, with defaults for a plain layer."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import nn

from ppfacerec.core import distributed
from ppfacerec.heads.sampling import ActiveRows
from ppfacerec.heads.sharding import ClassShard


@dataclass(frozen=True)
class ClassRows:
    """Layout of a weight with rows for each class, in processes and in files.

    A process holds (rows of its classes, D), so that the rows of a chunk or a sample are contiguous; files hold
    (D, rows of all classes), as in PaddleClas. State of the weight (average, moments) has the same layout.
    """

    shard: ClassShard  # the classes of this process
    num_sub_centers: int  # K, rows per class
    embedding_size: int  # D

    @property
    def saved_shape(self) -> tuple[int, int]:
        """Shape in a file, with the classes of all processes."""
        return self.embedding_size, self.shard.class_num * self.num_sub_centers

    @property
    def shape(self) -> tuple[int, int]:
        """Shape in this process."""
        return self.shard.size * self.num_sub_centers, self.embedding_size

    @property
    def range(self) -> tuple[int, int]:
        """This process's rows among all rows: the first, and one past the last."""
        first = self.shard.start * self.num_sub_centers
        return first, first + self.shard.size * self.num_sub_centers

    def collect(self, tensor: paddle.Tensor) -> np.ndarray:
        """Return the array to save; a collective call, and only rank 0 receives all rows."""
        counts = [count * self.num_sub_centers for count in self.shard.counts]
        rows = tensor.numpy() if self.shard.world_size == 1 else distributed.collect_rows(tensor, counts)
        return rows.T  # a view: files and readers keep its order in memory


class HeadTraits:
    """The interface of a head besides ``head(embedding, labels) -> scores``.

    ``MarginHead`` overrides it; ``traits_of`` gives a plain layer these defaults: every process holds all of its
    tensors, every step trains all of them, and they are saved unchanged.
    """

    class_num: int | None = None  # identities; None if unknown
    num_sub_centers: int = 1  # centres per class
    sample_rate: float = 1.0  # fraction of the classes computed per step
    class_rows: ClassRows | None = None  # layout of ``head.weight``, if it has rows for each class
    active: ActiveRows | None = None  # rows of ``head.weight`` that a step trains, if not all

    def prepare(self, num_samples: int, matmul_dtype: str | None = None) -> None:
        """Prepare for training; called before the optimizer is created.

        Args:
            num_samples: samples per optimizer step, over all processes and accumulated batches.
            matmul_dtype: dtype of the products that may be in half precision under AMP.
        """

    def begin_step(self, seed: int, step: int) -> None:
        """Set the next optimizer step, on which random draws depend."""

    def guessing_loss(self) -> float:
        """Return the cross-entropy of guessing without the image; infinite if unknown."""
        return math.inf

    def centre_cosines(
        self, embedding: np.ndarray, labels: np.ndarray, most_centres: int
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return cosines of embeddings (N, D) to their own centre and to about `most_centres` others, or None."""
        return None


class _PlainHead(HeadTraits):
    """Default traits, with the layer's class_num."""

    def __init__(self, layer: Any) -> None:
        class_num = getattr(layer, "class_num", None)
        self.class_num = class_num if isinstance(class_num, int) else None


def traits_of(head: nn.Layer | None) -> HeadTraits:
    """Return the traits of a head; the defaults for a plain layer or None."""
    return head if isinstance(head, HeadTraits) else _PlainHead(head)
