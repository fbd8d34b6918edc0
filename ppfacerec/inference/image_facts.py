"""Measure facts about images in parallel processes, and check whether embedded images look like faces."""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from ppfacerec.core.log import logger, progress_bar
from ppfacerec.core.opencv import import_cv2
from ppfacerec.data.datasets.base import Images
from ppfacerec.data.loading.parallel import in_processes
from ppfacerec.data.transforms.alignment import eye_contrast
from ppfacerec.data.transforms.images import decode_rgb

_THUMBNAIL = 12  # pixels per side
MANY_UNALIGNED = 0.15  # 1 % in LFW and MS1M; 28 % at 0.6 times the scale, 56 % with shifts of up to 24 pixels
_FACE = (slice(30, 100), slice(30, 82))  # rows and columns that mostly show skin
_GREY_DIFFERENCE = 3  # mean over the channels; JPEG adds a little colour to grey pictures


class ImageFacts(NamedTuple):
    """Facts about one image; meaningless if there is a `problem`."""

    problem: str = ""
    digest: bytes = b""
    size: tuple[int, int] = (0, 0)  # width, height
    is_grey: bool = False
    thumbnail: np.ndarray = np.zeros(_THUMBNAIL**2, np.float32)  # grey, mean 0, norm 1
    eye_contrast: float = 0.0


def _facts(images: Images, index: int) -> ImageFacts:
    try:
        data = images.read(index)
        image = decode_rgb(data, images.where(index))
    except (ValueError, OSError) as error:
        return ImageFacts(str(error))
    cv2 = import_cv2()
    difference = np.abs(image[:, :, 0].astype(np.int16) - image[:, :, 2]).mean()
    grey, size = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (_THUMBNAIL, _THUMBNAIL)
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    return ImageFacts(
        digest=hashlib.blake2b(data, digest_size=16).digest(),
        size=(image.shape[1], image.shape[0]),
        is_grey=bool(difference < _GREY_DIFFERENCE),
        thumbnail=small / max(float(np.linalg.norm(small)), 1e-6),
        eye_contrast=eye_contrast(image),
    )


def measure(images: Images, indices: Sequence[int], num_processes: int, what: str) -> list[ImageFacts]:
    """Measure the images `indices`."""
    found = in_processes(partial(_facts, images), indices, num_processes)
    return list(progress_bar(found, len(indices), what, "image"))


def similar_pairs(first: np.ndarray, second: np.ndarray, least: float, same: bool = False) -> list[tuple[int, int]]:
    """Return positions of rows of `first` (N, D) and `second` (M, D), of norm 1, with a product of at least `least`.

    With `same` the two are one array: each pair once, and no row with itself.
    """
    pairs: list[tuple[int, int]] = []
    for begin in range(0, len(first), 512):
        near = first[begin : begin + 512] @ second.T
        rows, columns = np.nonzero(near >= least)
        pairs += [(int(r) + begin, int(c)) for r, c in zip(rows, columns) if not same or r + begin < c]
    return pairs


class FaceCheck:
    """Count images of 112 x 112 whose eyes are not where an aligned face has them, and those with blue skin.

    In LFW 2 % count as unaligned (upside down 87 %, sideways 66 %) and none as blue (CFP's profiles: 6 % and 0.6 %).
    """

    def __init__(self) -> None:
        self._total = 0
        self._unaligned: list[str] = []
        self._blue: list[str] = []

    def add(self, image: np.ndarray, name: str) -> None:
        """Check one image, uint8 RGB (112, 112, 3)."""
        self._total += 1
        if eye_contrast(image) <= 0:
            self._unaligned.append(name)
        red, _, blue = image[_FACE].mean(axis=(0, 1))
        if blue > red + 3:  # JPEG adds a little colour to grey pictures
            self._blue.append(name)

    def warn(self) -> None:
        """Log a warning if there are more such images than in sets of aligned faces."""
        for names, what in (
            (self._unaligned, "the eye positions are not darker than their surroundings; are they aligned faces? "
             "See `ppfacerec align`: unaligned faces give wrong answers"),
            (self._blue, "the skin is blue; are red and blue swapped? Give RGB: image[..., ::-1] of OpenCV's"),
        ):  # fmt: skip
            if len(names) > MANY_UNALIGNED * self._total:
                logger.warning("In %d of %d images %s. First: %s", len(names), self._total, what, names[0])
