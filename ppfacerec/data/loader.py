"""Batches of training images: sampled, read, decoded and augmented, whole batches a worker call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Union

import numpy as np
import paddle

from ppfacerec.data.datasets import TrainDataset
from ppfacerec.data.sampler import DistributedBatchSampler
from ppfacerec.data.transforms import Pipeline


class Batch(NamedTuple):
    """One step's samples of this rank, on the device."""

    images: paddle.Tensor  # (N, 112, 112, 3) uint8
    labels: paddle.Tensor  # (N,) int64
    indices: np.ndarray  # (N,) positions in the data set


class _EpochBatches(paddle.io.Dataset):
    """The batches of one epoch; runs in the workers. An error travels back as text: Paddle's own way loses it."""

    def __init__(
        self, dataset: TrainDataset, pipeline: Pipeline, batches: Sequence[np.ndarray], seed: int, epoch: int
    ) -> None:
        super().__init__()
        self._dataset, self._pipeline, self._batches = dataset, pipeline, batches
        self._seed, self._epoch = seed, epoch

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        indices = self._batches[step]
        try:
            images = np.stack([self._image(int(i)) for i in indices])
            failure = b""
        except ValueError as error:
            images, failure = np.zeros((len(indices), 1, 1, 3), np.uint8), str(error).encode()
        labels = self._dataset.labels[indices].astype(np.int64)
        return images, labels, indices.astype(np.int64), np.frombuffer(failure or b" ", np.uint8)

    def _image(self, index: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, self._epoch, index])
        where = self._dataset.where(index)
        image = self._pipeline(self._dataset.read(index), where, rng)
        if image.shape != (112, 112, 3):
            raise ValueError(
                f"{where}: the image is {image.shape[1]} x {image.shape[0]}, the backbones take 112 x 112. "
                "Add ResizeImage: {size: [112, 112]} to transform_ops, or align the faces first."
            )
        return image


class TrainLoader:
    """Iterates over a training set, an epoch at a time.

    The augmentation of a sample depends on (seed, epoch, index) alone, never on the worker that made it.

    Args:
        dataset: the samples.
        pipeline: bytes to image.
        sampler: the order.
        num_workers: processes that prepare batches; 0 prepares them in this one.
        use_shared_memory: how workers hand over their batches.
        seed: of the augmentation.
    """

    def __init__(
        self,
        dataset: TrainDataset,
        pipeline: Pipeline,
        sampler: DistributedBatchSampler,
        num_workers: int = 0,
        use_shared_memory: bool = True,
        seed: int = 0,
    ) -> None:
        self.dataset, self.pipeline, self.sampler = dataset, pipeline, sampler
        self._num_workers, self._use_shared_memory, self._seed = num_workers, use_shared_memory, seed

    def __len__(self) -> int:
        return len(self.sampler)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of `epoch` from step `start` on.

        Raises:
            ValueError: a sample cannot be read or decoded; the message has its file and line.
        """
        batches = _EpochBatches(self.dataset, self.pipeline, self.sampler.batches(epoch, start), self._seed, epoch)
        for images, labels, indices, failure in self._fetch(batches):
            message = bytes(np.asarray(failure)).decode().strip()
            if message:
                raise ValueError(message)
            yield Batch(_to_device(images), _to_device(labels), np.asarray(indices))

    def _fetch(self, batches: _EpochBatches) -> Iterator[Sequence[np.ndarray]]:
        if self._num_workers == 0:
            return (batches[step] for step in range(len(batches)))
        return iter(
            paddle.io.DataLoader(
                batches,
                batch_size=None,
                num_workers=self._num_workers,
                use_shared_memory=self._use_shared_memory,
                return_list=True,
            )
        )


def _to_device(values: Union[np.ndarray, paddle.Tensor]) -> paddle.Tensor:
    """Workers hand over tensors that are on the device already."""
    return values if isinstance(values, paddle.Tensor) else paddle.to_tensor(values)
