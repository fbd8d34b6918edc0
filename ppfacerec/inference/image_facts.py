"""Facts about each image, measured in processes side by side."""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ppfacerec.core.log import progress_bar
from ppfacerec.core.opencv import import_cv2
from ppfacerec.data.loading.parallel import in_processes
from ppfacerec.data.transforms.alignment import eye_contrast
from ppfacerec.data.transforms.images import decode_rgb

_THUMBNAIL = 12  # pixels a side
MANY_UNALIGNED = 0.15  # 1 % in LFW and MS1M; 28 % at 0.6 times the scale, 56 % with shifts of up to 24 pixels
_GREY_DIFFERENCE = 3  # of the channels on average; JPEG leaves a little colour in grey pictures


class ImageFacts(NamedTuple):
    """What one image is like; the rest is meaningless where there is a `problem`."""

    problem: str = ""
    digest: bytes = b""
    size: tuple[int, int] = (0, 0)  # width, height
    is_grey: bool = False
    thumbnail: np.ndarray = np.zeros(_THUMBNAIL**2, np.float32)  # grey, mean 0, norm 1
    eye_contrast: float = 0.0


class Images(NamedTuple):
    """Some encoded images: how many there are, the bytes of each, and how to name it."""

    total: int
    read: Callable[[int], bytes]
    where: Callable[[int], str]


class _Measure:
    def __init__(self, images: Images) -> None:
        self._images = images

    def __call__(self, index: int) -> ImageFacts:
        try:
            data = self._images.read(index)
            image = decode_rgb(data, self._images.where(index))
        except (ValueError, OSError) as error:
            return ImageFacts(str(error))
        cv2 = import_cv2()
        difference = np.abs(image[:, :, 0].astype(np.int16) - image[:, :, 2]).mean()
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return ImageFacts(
            "",
            hashlib.blake2b(data, digest_size=16).digest(),
            (image.shape[1], image.shape[0]),
            bool(difference < _GREY_DIFFERENCE),
            _thumbnail(grey),
            eye_contrast(image),
        )


def measure(images: Images, indices: Sequence[int], num_processes: int, what: str) -> list[ImageFacts]:
    """Measure the images `indices`."""
    found = in_processes(_Measure(images), indices, num_processes)
    return list(progress_bar(found, len(indices), what, "image"))


def similar_pairs(first: np.ndarray, second: np.ndarray, least: float, same: bool = False) -> list[tuple[int, int]]:
    """Positions of rows of `first` (N, D) and `second` (M, D), of norm 1, whose product is at least `least`.

    Args:
        same: the two are one array; each pair once, and no row with itself.
    """
    pairs: list[tuple[int, int]] = []
    for begin in range(0, len(first), 512):
        near = first[begin : begin + 512] @ second.T
        rows, columns = np.nonzero(near >= least)
        pairs += [(int(r) + begin, int(c)) for r, c in zip(rows, columns) if not same or r + begin < c]
    return pairs


def _thumbnail(grey: np.ndarray) -> np.ndarray:
    cv2 = import_cv2()
    small = cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-6)
