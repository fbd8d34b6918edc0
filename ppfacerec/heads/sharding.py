"""Sharding of the classes over processes, and the collectives that combine the shards' partial sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import paddle

from ppfacerec.core import distributed


@dataclass(frozen=True)
class ClassShard:
    """The contiguous classes of one process; the first ranks have one more if they do not divide evenly."""

    class_num: int  # over all processes
    rank: int = 0  # 0 with world_size 1 if every process has all classes
    world_size: int = 1

    @property
    def counts(self) -> list[int]:
        """Number of classes in each shard."""
        each, rest = divmod(self.class_num, self.world_size)
        return [each + (rank < rest) for rank in range(self.world_size)]

    @property
    def start(self) -> int:
        return sum(self.counts[: self.rank])

    @property
    def size(self) -> int:
        return self.counts[self.rank]

    def positions(self, labels: np.ndarray) -> np.ndarray:
        """Index of each class in this shard; -1: in another one."""
        here = labels - self.start
        return np.where((here >= 0) & (here < self.size), here, -1)

    def batch(self, num_samples: int) -> BatchGroup:
        """Return the collectives of one batch, of which this process has `num_samples`."""
        if self.world_size == 1:
            return BatchGroup()
        return ShardedBatch(distributed.gather_integer(num_samples), self.rank)


class BatchGroup:
    """The processes that share the classes, for one batch; this base class is for a single process."""

    weight_share = 1.0

    def gather(self, rows: paddle.Tensor) -> paddle.Tensor:
        """Return the rows of all processes in rank order (N, ...)."""
        return rows

    def own(self, rows: paddle.Tensor) -> paddle.Tensor:
        """Return this process's part of what ``gather`` returns."""
        return rows

    def sum(self, values: paddle.Tensor) -> paddle.Tensor:
        return values

    def max(self, values: paddle.Tensor) -> paddle.Tensor:
        return values


class ShardedBatch(BatchGroup):
    """Each rank compares the samples of all ranks with its classes; `counts`, samples per rank, may differ."""

    def __init__(self, counts: Sequence[int], rank: int) -> None:
        self._counts, self._first = counts, sum(counts[:rank])
        self._last = self._first + counts[rank]
        # The backbone's gradients are averaged over the ranks after the backward pass. A shard's are not, although
        # they sum every rank's loss, so they are divided here.
        self.weight_share = 1.0 / len(counts)

    def gather(self, rows: paddle.Tensor) -> paddle.Tensor:
        return distributed.gather_tensors(rows, self._counts)

    def own(self, rows: paddle.Tensor) -> paddle.Tensor:
        return rows[self._first : self._last]

    def sum(self, values: paddle.Tensor) -> paddle.Tensor:
        return distributed.sum_tensor(values.clone())

    def max(self, values: paddle.Tensor) -> paddle.Tensor:
        return distributed.max_tensor(values.clone())
