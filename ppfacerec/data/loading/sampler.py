"""Sampler of training batches: one global order for any world size."""

from collections.abc import Iterator

import numpy as np


class DistributedBatchSampler:
    """Batches of sample indices for training.

    An epoch's order is a permutation that depends on (seed, epoch). Each step of W ranks takes the next W * batch_size
    samples and each rank an equal part, so that a run resumed with another world size continues with the same samples,
    and a run resumed in mid-epoch skips exactly the samples already seen.

    Args:
        num_samples: size of the data set.
        batch_size: samples per rank and step.
        drop_last: drop the last, smaller step.
        shuffle: False keeps the order of the data set.
        seed: random seed of the permutation.
        rank, world_size: rank of this process and number of processes.

    Raises:
        ValueError: there are too few samples for one step.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        drop_last: bool = False,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.num_samples, self.batch_size, self.drop_last = num_samples, batch_size, drop_last
        self.shuffle, self.seed, self.rank, self.world_size = shuffle, seed, rank, world_size
        if not len(self):
            raise ValueError(
                f"{num_samples} samples make no batch of {batch_size} on each of {world_size} processes; "
                "use a smaller sampler.batch_size or drop_last: False."
            )

    @property
    def global_batch_size(self) -> int:
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """Steps per epoch. A remainder of fewer samples than ranks is dropped: every rank needs one in each step."""
        steps, rest = divmod(self.num_samples, self.global_batch_size)
        return steps + (not self.drop_last and rest >= self.world_size)

    def order(self, epoch: int) -> np.ndarray:
        """Return all sample indices in the order of `epoch`, the same on every rank."""
        if not self.shuffle:
            return np.arange(self.num_samples)
        return np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)

    def batches(self, epoch: int, start: int = 0) -> Iterator[np.ndarray]:
        """Yield this rank's batches of `epoch` from step `start` on."""
        order = self.order(epoch)
        for step in range(start, len(self)):
            together = order[step * self.global_batch_size : (step + 1) * self.global_batch_size]
            yield np.array_split(together, self.world_size)[self.rank]

    def step_size(self, step: int) -> int:
        """Return the number of samples of all ranks in `step`: the global batch, fewer in the last step."""
        return min(self.global_batch_size, self.num_samples - step * self.global_batch_size)
