"""Image transforms under PaddleClas's names, on uint8 RGB images (H, W, 3).

A transform gets the image and the sample's own random generator, so that an augmentation depends on (seed, epoch,
sample) alone. NormalizeImage is the exception: it is applied to the whole batch on the device.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from ppfacerec.core.opencv import import_cv2
from ppfacerec.core.registry import Registry, Spec
from ppfacerec.data.transforms import augmentations
from ppfacerec.data.transforms.augmentations import INTERPOLATION, RandomTransform, probability
from ppfacerec.data.transforms.images import decode_rgb

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class DecodeImage:
    """Decode JPEG, PNG, ... bytes with OpenCV.

    Args:
        to_rgb: RGB if True, OpenCV's BGR if False (for a network trained on BGR).
        channel_first: only False; the batch is transposed on the device.
        backend: only "cv2".
    """

    is_needed = True

    def __init__(
        self, to_rgb: bool = True, channel_first: Literal[False] = False, backend: Literal["cv2"] = "cv2"
    ) -> None:
        self.to_rgb = to_rgb

    def decode(self, data: bytes, where: object) -> np.ndarray:
        """Return (H, W, 3) uint8; `where` names the image in the ValueError if it does not decode."""
        image = decode_rgb(data, where)
        return image if self.to_rgb else np.ascontiguousarray(image[:, :, ::-1])


class RandFlipImage(RandomTransform):
    """Flip the image.

    Args:
        flip_code: OpenCV's code: 1 left-right, 0 upside down, -1 both.
    """

    def __init__(self, flip_code: Literal[1, 0, -1] = 1, prob: float = 0.5) -> None:
        self.flip_code, self.prob = flip_code, probability(prob)

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return import_cv2().flip(image, self.flip_code)


class ResizeImage:
    """Resize to a fixed size; an image of that size is not changed.

    Args:
        size: (width, height), or one number for both.
        interpolation: nearest, bilinear, bicubic, area or lanczos.
        return_numpy, backend: PaddleClas's keys; images are arrays and OpenCV resizes them in any case.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        interpolation: Literal["nearest", "bilinear", "bicubic", "area", "lanczos"] = "bilinear",
        return_numpy: bool = True,
        backend: Literal["cv2"] = "cv2",
    ) -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.interpolation = INTERPOLATION[interpolation]

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if (image.shape[1], image.shape[0]) == self.size:
            return image
        return import_cv2().resize(image, self.size, interpolation=self.interpolation)


class NormalizeImage:
    """Normalise by (x * scale - mean) / std, applied to the batch on the device.

    Args:
        scale: factor on the uint8 values, usually 1/255.
        mean, std: three numbers each, in the order of the channels.
        order: "hwc" or "chw", PaddleClas's key; it makes no difference here.
    """

    is_needed = True

    def __init__(
        self,
        scale: float = 1.0 / 255.0,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        order: Literal["hwc", "chw", ""] = "hwc",
    ) -> None:
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean, std: expected three means and three positive stds, found {mean} and {std}.")
        self.scale, self.mean, self.std = scale, tuple(mean), tuple(std)


class ToCHWImage:
    """PaddleClas's key for HWC -> CHW; the batch is transposed on the device in any case."""

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return image


TRANSFORMS = Registry(
    "transform", DecodeImage, RandFlipImage, ResizeImage, NormalizeImage, ToCHWImage, augmentations.CropImage,
    augmentations.RandCropImage, augmentations.RandCropPad, augmentations.RandLowResolution,
    augmentations.RandPhotometric, augmentations.RandBlur, augmentations.RandJPEG, augmentations.RandGrey,
    augmentations.RandomErasing,
)  # fmt: skip


class Pipeline:
    """Transforms of one data set in their order, from encoded bytes to a uint8 image.

    Args:
        specs: `transform_ops` of the YAML, or transforms.

    Attributes:
        normalize: the NormalizeImage of the list, to be applied on the device.
    """

    def __init__(self, specs: Sequence[Spec | Transform | DecodeImage | NormalizeImage]) -> None:
        built = [TRANSFORMS.build(spec) if isinstance(spec, Spec) else spec for spec in specs]
        self._decode: DecodeImage = next(t for t in built if isinstance(t, DecodeImage))
        self.normalize: NormalizeImage = next(t for t in built if isinstance(t, NormalizeImage))
        self._image_ops: list[Transform] = [t for t in built if not isinstance(t, (DecodeImage, NormalizeImage))]

    def __call__(self, data: bytes, where: object, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return the transformed image (H, W, 3) uint8; without random transforms (evaluation) `rng` is not needed."""
        image = self._decode.decode(data, where)
        for op in self._image_ops:
            image = op(image, rng)  # type: ignore[arg-type]
        return image
