"""Classes over processes: who has which, and the messages that make one sum of the parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import paddle

from ppfacerec.core import distributed


@dataclass(frozen=True)
class ClassShard:
    """The classes of one process, a contiguous part; the first ranks have one more where it does not divide."""

    class_num: int  # classes in all
    rank: int = 0  # the part; 0 of 1 where every process has all classes
    world_size: int = 1

    @property
    def counts(self) -> list[int]:
        """Classes of each part."""
        each, rest = divmod(self.class_num, self.world_size)
        return [each + (rank < rest) for rank in range(self.world_size)]

    @property
    def start(self) -> int:
        return sum(self.counts[: self.rank])

    @property
    def size(self) -> int:
        return self.counts[self.rank]

    def positions(self, labels: np.ndarray) -> np.ndarray:
        """Where the classes stand in this part; -1: elsewhere."""
        here = labels - self.start
        return np.where((here >= 0) & (here < self.size), here, -1)

    def batch(self, num_samples: int) -> BatchGroup:
        """The messages of one batch, of which this process has `num_samples`."""
        if self.world_size == 1:
            return BatchGroup()
        return ShardedBatch(distributed.gather_integer(num_samples), self.rank)


class BatchGroup:
    """The processes that share the classes, for one batch. Here it is one: all classes, all its samples."""

    weight_share = 1.0

    def gather(self, rows: paddle.Tensor) -> paddle.Tensor:
        """Rows of all processes in the order of ranks (N, ...)."""
        return rows

    def own(self, rows: paddle.Tensor) -> paddle.Tensor:
        """This process's part of what ``gather`` returns."""
        return rows

    def sum(self, values: paddle.Tensor) -> paddle.Tensor:
        return values

    def max(self, values: paddle.Tensor) -> paddle.Tensor:
        return values


class ShardedBatch(BatchGroup):
    """The samples of all ranks meet the classes of each; `counts` are the samples of each rank, which may differ."""

    def __init__(self, counts: Sequence[int], rank: int) -> None:
        self._counts, self._first = counts, sum(counts[:rank])
        self._last = self._first + counts[rank]
        # The backbone's gradients are averaged over the ranks after the backward. A shard's are not, although every
        # rank's loss is in them; so they are divided here.
        self.weight_share = 1.0 / len(counts)

    def gather(self, rows: paddle.Tensor) -> paddle.Tensor:
        return distributed.gather_tensors(rows, self._counts)

    def own(self, rows: paddle.Tensor) -> paddle.Tensor:
        return rows[self._first : self._last]

    def sum(self, values: paddle.Tensor) -> paddle.Tensor:
        return distributed.sum_tensor(values.clone())

    def max(self, values: paddle.Tensor) -> paddle.Tensor:
        return distributed.max_tensor(values.clone())
