"""Batches of images from sample indices; runs in the worker processes."""

import traceback
from typing import NamedTuple

import numpy as np

from ppfacerec.core.image_size import IMAGE_SHAPE
from ppfacerec.data.datasets.base import TrainDataset
from ppfacerec.data.loading.bad_images import BadImage, BadImages
from ppfacerec.data.transforms.basic import Pipeline


class Made(NamedTuple):
    """The samples of a finished batch, and those that could not be used."""

    indices: np.ndarray
    bad: list[BadImage]


class SampleGenerators:
    """Random generators for each sample of each epoch, which depend on (seed, epoch, index) alone.

    Philox (Salmon et al., Parallel random numbers: as easy as 1, 2, 3; SC 2011) has a key, here seed and epoch, and a
    counter, one word of which is the index: one generator is set to any sample in 3 us. A new generator for each would
    take a third of the time of decoding an image.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Philox(key=np.array([seed % (1 << 64), 0], np.uint64))
        self._generator = np.random.Generator(self._bits)
        self._fresh = self._bits.state

    def of(self, epoch: int, index: int) -> np.random.Generator:
        """Return the generator at the start of a sample's stream; the object is the same for all samples."""
        self._fresh["state"]["key"][1] = epoch
        self._fresh["state"]["counter"][1] = index
        self._bits.state = self._fresh
        return self._generator


class BatchMaker:
    """Reads, decodes and transforms the samples of a batch; `seed` is that of the augmentation."""

    def __init__(self, dataset: TrainDataset, pipeline: Pipeline, bad_images: BadImages, seed: int) -> None:
        self._dataset, self._pipeline, self._bad_images = dataset, pipeline, bad_images
        self._generators = SampleGenerators(seed)

    def make(self, epoch: int, indices: np.ndarray, out: np.ndarray) -> Made:
        """Write the images of the samples `indices` (N,) to `out` (N, 112, 112, 3) uint8.

        Raises:
            ValueError: a sample is bad; the message has its file and line.
        """
        bad = list[BadImage]()
        used = [self._fill(image, epoch, wanted, bad) for image, wanted in zip(out, indices.tolist())]
        return Made(np.array(used), bad)

    def _fill(self, out: np.ndarray, epoch: int, wanted: int, bad: list[BadImage]) -> int:
        """Write the image of sample `wanted`, or of the next good one, to `out`; return the index of that sample.

        A replacement uses the random numbers of `wanted`: with its own, an epoch could have the same pixels twice.
        """
        for tried in range(min(self._bad_images.max_bad_images + 1, len(self._dataset))):
            index = (wanted + tried) % len(self._dataset)
            try:
                out[...] = self._image(index, self._generators.of(epoch, wanted))
                return index
            except ValueError as error:
                if not self._bad_images.skip:
                    raise
                bad.append(BadImage(index, str(error)))
        raise ValueError(self._bad_images.too_many(bad[-1].reason))

    def _image(self, index: int, rng: np.random.Generator) -> np.ndarray:
        where = _Where(self._dataset, index)
        try:
            data = self._dataset.read(index)
            if not isinstance(data, (bytes, bytearray)):
                what = "the bytes of an encoded image (cv2.imencode(...)[1].tobytes())"
                raise TypeError(f"read returned a {type(data).__name__}, expected {what}.")
            image = self._pipeline(data, where, rng)
        except OSError as error:
            raise ValueError(f"{where}: cannot be read ({error}).") from error
        except ValueError:
            raise
        except Exception as error:  # in a plugin's data set or transform: add the sample's name
            raise RuntimeError(f"{where}: {type(error).__name__}: {error}\n{traceback.format_exc()}") from error
        if image.shape != IMAGE_SHAPE:
            raise ValueError(
                f"{where}: the image is {image.shape[1]} x {image.shape[0]}, the backbones take 112 x 112. "
                "Add ResizeImage: {size: [112, 112]} to transform_ops, or align the faces first."
            )
        return image


class _Where:
    """Lazy name of a sample: building it takes a tenth of the time of decoding an image."""

    def __init__(self, dataset: TrainDataset, index: int) -> None:
        self._dataset, self._index = dataset, index

    def __str__(self) -> str:
        return self._dataset.where(self._index)
