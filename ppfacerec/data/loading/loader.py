"""Loader of training batches; each worker call reads, decodes and augments a whole batch."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import paddle

from ppfacerec.core.image_size import IMAGE_SHAPE
from ppfacerec.data.datasets.base import TrainDataset
from ppfacerec.data.loading.bad_images import BadImages
from ppfacerec.data.loading.batch_maker import BatchMaker, Made
from ppfacerec.data.loading.sampler import DistributedBatchSampler
from ppfacerec.data.loading.workers import Task, WorkerPool
from ppfacerec.data.transforms.basic import Pipeline


class Batch(NamedTuple):
    """One step's samples of this rank, on the device."""

    images: paddle.Tensor  # (N, 112, 112, 3) uint8
    labels: paddle.Tensor  # (N,) int64
    indices: np.ndarray  # (N,) positions in the data set


class TrainLoader:
    """Iterates over a training set, one epoch at a time.

    The augmentation of a sample depends on (seed, epoch, index) alone, not on the worker.

    Args:
        num_workers: processes that prepare batches; 0 prepares them in the main process.
        persistent_workers: keep the processes from epoch to epoch.
        prefetch_factor: batches that each process may prepare ahead.
    """

    def __init__(
        self,
        dataset: TrainDataset,
        pipeline: Pipeline,
        sampler: DistributedBatchSampler,
        num_workers: int = 0,
        *,
        seed: int = 0,
        bad_images: BadImages | None = None,
        persistent_workers: bool = True,
        prefetch_factor: int = 2,
    ) -> None:
        self.dataset, self.pipeline, self.sampler = dataset, pipeline, sampler
        self.bad_images = BadImages() if bad_images is None else bad_images  # an empty one is false
        self._maker = BatchMaker(dataset, pipeline, self.bad_images, seed)
        self._num_workers, self._prefetch_factor = num_workers, prefetch_factor
        self._persistent_workers = persistent_workers
        self._pool: WorkerPool | None = None

    def __len__(self) -> int:
        return len(self.sampler)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of `epoch` from step `start` on.

        Raises:
            ValueError: a sample is bad, with its file and line, or a worker died.
        """
        tasks = (Task(epoch, indices) for indices in self.sampler.batches(epoch, start))
        for images, made in self._made(tasks):
            self.bad_images.note(made.bad)
            labels = self.dataset.labels[made.indices].astype(np.int64)
            yield Batch(paddle.to_tensor(images), paddle.to_tensor(labels), made.indices)

    def close(self) -> None:
        """End the worker processes; the next epoch starts new ones."""
        if self._pool:
            self._pool.close()
            self._pool = None

    def _made(self, tasks: Iterator[Task]) -> Iterator[tuple[np.ndarray, Made]]:
        if self._num_workers == 0:
            images = np.empty((self.sampler.batch_size, *IMAGE_SHAPE), np.uint8)
            for epoch, indices in tasks:
                yield images[: len(indices)], self._maker.make(epoch, indices, images)
            return
        if self._pool is None or not self._pool.close.still_active():
            self._pool = WorkerPool(self._maker, self._num_workers, self.sampler.batch_size, self._prefetch_factor)
        yield from self._pool.run(tasks)
        if not self._persistent_workers:
            self.close()
