"""Random transforms of training images, uint8 RGB (H, W, 3), each with the sample's own random generator.

Images stay uint8, so that a batch takes a quarter of the bytes on its way to the device and OpenCV does the work.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ppfacerec.core.opencv import import_cv2
from ppfacerec.core.ranges import FROM_0_TO_1, is_number

INTERPOLATION = {"nearest": 0, "bilinear": 1, "bicubic": 2, "area": 3, "lanczos": 4}  # OpenCV's constants
_GREY = 128  # normalised to about 0 by (x / 255 - 0.5) / 0.5


class RandomTransform:
    """Base class of random transforms, which evaluation does not accept.

    A subclass has `prob` and `apply`, or its own `__call__`.

    Args:
        prob: probability of applying the transform.
    """

    is_random = True
    prob: float

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.apply(image, rng) if rng.random() < self.prob else image

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError


class CropImage:
    """Crop the centre (PaddleClas's name).

    Args:
        size: (width, height), or one number for both.

    Raises:
        ValueError: an image is smaller than `size`.
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.width, self.height = (size, size) if isinstance(size, int) else size

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[:2]
        if width < self.width or height < self.height:
            raise ValueError(
                f"CropImage of {self.width} x {self.height} does not fit into an image of {width} x {height}; put "
                "ResizeImage before it."
            )
        top, left = (height - self.height) // 2, (width - self.width) // 2
        return image[top : top + self.height, left : left + self.width]


class RandCropImage(RandomTransform):
    """Crop a random part and resize it (PaddleClas's name; Szegedy et al., arXiv:1409.4842, section 6).

    Args:
        size: (width, height) of the result, or one number for both.
        scale: range of the kept share of the area; None: 0.08 to 1. For aligned faces 0.8 or more is usual.
        ratio: range of the part's width / height; None: 3/4 to 4/3.
        interpolation: nearest, bilinear, bicubic, area or lanczos.
        backend: PaddleClas's key; always OpenCV.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] | None = None,
        ratio: Sequence[float] | None = None,
        interpolation: Literal["nearest", "bilinear", "bicubic", "area", "lanczos"] = "bilinear",
        backend: Literal["cv2"] = "cv2",
    ) -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.scale, self.ratio = _range("scale", scale or (0.08, 1.0)), _range("ratio", ratio or (3 / 4, 4 / 3))
        self.interpolation = INTERPOLATION[interpolation]

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        top, left, height, width = _random_part(image, self.scale, self.ratio, rng)
        part = image[top : top + height, left : left + width]
        return import_cv2().resize(part, self.size, interpolation=self.interpolation)


class RandCropPad(RandomTransform):
    """Keep a random part in place and make the rest black (AdaFace, arXiv:2204.00964, section 4.1: "cropping").

    Args:
        scale: range of the kept share of the area.
        ratio: range of the part's width / height.
    """

    def __init__(
        self, prob: float = 0.2, scale: Sequence[float] = (0.2, 1.0), ratio: Sequence[float] = (3 / 4, 4 / 3)
    ) -> None:
        self.prob, self.scale, self.ratio = probability(prob), _range("scale", scale), _range("ratio", ratio)

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        top, left, height, width = _random_part(image, self.scale, self.ratio, rng)
        padded = np.zeros_like(image)
        padded[top : top + height, left : left + width] = image[top : top + height, left : left + width]
        return padded


class RandLowResolution(RandomTransform):
    """Downscale the image and upscale it again (AdaFace, arXiv:2204.00964, section 4.1: "rescaling").

    Both steps use a random one of the five interpolations, since real images may have been resized with any of them.

    Args:
        scale: range of the factor on the sides.
    """

    def __init__(self, prob: float = 0.2, scale: Sequence[float] = (0.2, 1.0)) -> None:
        self.prob, self.scale = probability(prob), _range("scale", scale, most=1)

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        resize = import_cv2().resize
        height, width = image.shape[:2]
        scale = rng.uniform(*self.scale)
        down, up = (int(k) for k in rng.integers(0, len(INTERPOLATION), 2))
        small = resize(image, (max(1, int(width * scale)), max(1, int(height * scale))), interpolation=down)
        return resize(small, (width, height), interpolation=up)


class RandPhotometric(RandomTransform):
    """Change brightness, contrast and saturation in a random order (AdaFace, arXiv:2204.00964: "photometric").

    Args:
        brightness: b: all values are multiplied by a factor from 1 - b to 1 + b.
        contrast: the same for the distance from the image's mean grey.
        saturation: the same for the distance from the pixel's grey.
    """

    def __init__(
        self, prob: float = 0.2, brightness: float = 0.5, contrast: float = 0.5, saturation: float = 0.5
    ) -> None:
        self.prob = probability(prob)
        self.strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        for name, strength in self.strengths.items():
            probability(strength, name)

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        cv2 = import_cv2()
        names = list(self.strengths)
        for name in (names[i] for i in rng.permutation(len(names))):
            factor = 1 + self.strengths[name] * rng.uniform(-1, 1)
            if name == "saturation":
                image = cv2.addWeighted(image, factor, _grey(image), 1 - factor, 0)
            else:
                fixed = _grey(image).mean() if name == "contrast" else 0.0
                levels = np.arange(256) * factor + fixed * (1 - factor)
                image = cv2.LUT(image, np.clip(levels + 0.5, 0, 255).astype(np.uint8))
        return image


class RandBlur(RandomTransform):
    """Gaussian blur (SimCLR, arXiv:2002.05709, appendix A: sigma 0.1 to 2).

    Args:
        sigma: range of the standard deviation in pixels.
    """

    def __init__(self, prob: float = 0.1, sigma: Sequence[float] = (0.1, 2.0)) -> None:
        self.prob, self.sigma = probability(prob), _range("sigma", sigma)

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return import_cv2().GaussianBlur(image, (0, 0), rng.uniform(*self.sigma))


class RandJPEG(RandomTransform):
    """Compress again as JPEG (a corruption of Hendrycks and Dietterich, arXiv:1903.12261).

    Args:
        quality: range of libjpeg's quality (1 to 100).
    """

    def __init__(self, prob: float = 0.1, quality: Sequence[int] = (30, 90)) -> None:
        self.prob, self.quality = probability(prob), tuple(quality)
        if len(quality) != 2 or not 1 <= quality[0] <= quality[1] <= 100:
            raise ValueError(f"quality: expected two numbers from 1 to 100, ascending, found {list(quality)}.")

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        cv2 = import_cv2()
        quality = int(rng.integers(self.quality[0], self.quality[1] + 1))
        encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.ascontiguousarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[:, :, ::-1])


class RandGrey(RandomTransform):
    """Convert to greyscale (SimCLR, arXiv:2002.05709, appendix A)."""

    def __init__(self, prob: float = 0.1) -> None:
        self.prob = probability(prob)

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return _grey(image)


class RandomErasing(RandomTransform):
    """Cover a random rectangle (Zhong et al., arXiv:1708.04896, algorithm 1; PaddleClas's name and keys).

    Args:
        EPSILON: probability of applying the transform.
        sl, sh: range of the covered share of the area.
        r1: the rectangle's height / width is from r1 to 1 / r1.
        attempt: draws before the image is left unchanged.
        mode: fill of grey ("const"), one random colour ("rand") or noise ("pixel").
    """

    def __init__(
        self,
        EPSILON: float = 0.5,
        *,
        sl: float = 0.02,
        sh: float = 0.4,
        r1: float = 0.3,
        attempt: int = 100,
        mode: Literal["const", "rand", "pixel"] = "const",
    ) -> None:
        self.prob, self.area, self.attempt, self.mode = probability(EPSILON, "EPSILON"), (sl, sh), attempt, mode
        if not 0 < sl <= sh < 1:
            raise ValueError(f"sl: expected 0 < sl <= sh < 1, found {sl} and {sh}.")
        if not 0 < r1 <= 1:
            raise ValueError(f"r1: expected a number above 0 and up to 1, found {r1}.")
        self.ratio = (r1, 1 / r1)

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rows, columns = image.shape[:2]
        for _ in range(self.attempt):
            area, ratio = rng.uniform(*self.area) * rows * columns, rng.uniform(*self.ratio)
            height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < height < rows and 0 < width < columns:
                top, left = rng.integers(0, rows - height + 1), rng.integers(0, columns - width + 1)
                image = image.copy()
                image[top : top + height, left : left + width] = self._cover((height, width, 3), rng)
                return image
        return image

    def _cover(self, shape: tuple[int, int, int], rng: np.random.Generator) -> int | np.ndarray:
        if self.mode == "const":
            return _GREY
        return rng.integers(0, 256, shape if self.mode == "pixel" else 3, np.uint8)


def _random_part(
    image: np.ndarray, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a part with a random area and aspect ratio (log-uniform)."""
    rows, columns = image.shape[:2]
    area = rng.uniform(*scale) * rows * columns
    aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    height = min(rows, max(1, round(math.sqrt(area / aspect))))
    width = min(columns, max(1, round(math.sqrt(area * aspect))))
    return int(rng.integers(0, rows - height + 1)), int(rng.integers(0, columns - width + 1)), height, width


def _grey(image: np.ndarray) -> np.ndarray:
    """Return ITU-R BT.601 luma in all three channels."""
    cv2 = import_cv2()
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def probability(value: float, name: str = "prob") -> float:
    if not is_number(value, 0, 1):
        raise ValueError(f"{name}: expected {FROM_0_TO_1.words}, found {value!r}.")
    return value


def _range(name: str, values: Sequence[float], most: float = math.inf) -> tuple[float, float]:
    if len(values) != 2 or not 0 < values[0] <= values[1] <= most:
        limit = "" if most == math.inf else f", at most {most:g}"
        raise ValueError(f"{name}: expected two positive numbers, ascending{limit}, found {list(values)}.")
    return values[0], values[1]
