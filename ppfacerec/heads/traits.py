"""What training needs from a head besides its scores; the defaults suit a plain layer."""

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
    """How a weight with rows for each class lies in the processes and in files.

    A process holds (rows of its classes, D), because the rows of a chunk or a sample are contiguous then; files hold
    (D, rows of all classes), as PaddleClas has it. What belongs to the weight (average, moments) is stored likewise.
    """

    shard: ClassShard  # the classes of this process
    num_sub_centers: int  # K, rows a class
    embedding_size: int  # D

    @property
    def saved_shape(self) -> tuple[int, int]:
        """Shape in a file, of all processes' classes."""
        return self.embedding_size, self.shard.class_num * self.num_sub_centers

    @property
    def shape(self) -> tuple[int, int]:
        """Shape in this process."""
        return self.shard.size * self.num_sub_centers, self.embedding_size

    @property
    def range(self) -> tuple[int, int]:
        """The rows of this process among those of all: first, and one after the last."""
        first = self.shard.start * self.num_sub_centers
        return first, first + self.shard.size * self.num_sub_centers

    def collect(self, tensor: paddle.Tensor) -> np.ndarray:
        """The array for a file. All processes call it; rank 0 gets the whole."""
        counts = [count * self.num_sub_centers for count in self.shard.counts]
        rows = tensor.numpy() if self.shard.world_size == 1 else distributed.collect_rows(tensor, counts)
        return rows.T  # a view: files and readers keep its order in memory


class HeadTraits:
    """What a head can do besides ``head(embedding, labels) -> scores``.

    ``MarginHead`` overrides it; ``traits_of`` gives a plain layer these defaults: all of its tensors are in every
    process, all are trained at every step, and files have them as they are.
    """

    class_num: int | None = None  # identities; None where the head does not say
    num_sub_centers: int = 1  # centres a class
    sample_rate: float = 1.0  # part of the classes that a step computes
    class_rows: ClassRows | None = None  # the layout of ``head.weight``, where it has rows for each class
    active: ActiveRows | None = None  # the rows of ``head.weight`` that a step trains, where those are not all

    def prepare(self, num_samples: int, matmul_dtype: str | None = None) -> None:
        """Make ready for training, before the optimizer is made.

        Args:
            num_samples: of one optimizer step, of all processes and accumulated batches.
            matmul_dtype: of the products that may be in half precision under AMP.
        """

    def begin_step(self, seed: int, step: int) -> None:
        """Say which optimizer step follows, for whatever is drawn at random."""

    def guessing_loss(self) -> float:
        """Cross-entropy of a network that does not look at its images; infinite where that is not known."""
        return math.inf

    def centre_cosines(
        self, embedding: np.ndarray, labels: np.ndarray, most_centres: int
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """For histograms: cosines of embeddings (N, D) to their own centre, and to about `count` others, or None."""
        return None


class _PlainHead(HeadTraits):
    """The traits of a layer without any."""

    def __init__(self, layer: Any) -> None:
        class_num = getattr(layer, "class_num", None)
        self.class_num = class_num if isinstance(class_num, int) else None


def traits_of(head: nn.Layer | None) -> HeadTraits:
    """The traits of a head; the defaults for a plain layer, and where there is none."""
    return head if isinstance(head, HeadTraits) else _PlainHead(head)
