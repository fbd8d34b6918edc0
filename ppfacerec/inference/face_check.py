"""Do images of 112 x 112 look like aligned RGB faces? Asked of every image that is embedded; said once a call."""

import numpy as np

from ppfacerec.core.log import logger
from ppfacerec.data.transforms.alignment import eye_contrast
from ppfacerec.inference.image_facts import MANY_UNALIGNED

_FACE = (slice(30, 100), slice(30, 82))  # rows and columns that are skin for the most part


class FaceCheck:
    """Counts the images whose eyes are not where an aligned face has them, and those whose skin is blue.

    Of LFW's images 2 % count as unaligned (upside down 87 %, sideways 66 %) and none as blue (CFP's profiles: 6 % and
    0.6 %).
    """

    def __init__(self) -> None:
        self._total = 0
        self._unaligned: list[str] = []
        self._blue: list[str] = []

    def add(self, image: np.ndarray, name: str) -> None:
        """Look at one image, uint8 RGB (112, 112, 3)."""
        self._total += 1
        if eye_contrast(image) <= 0:
            self._unaligned.append(name)
        red, _, blue = image[_FACE].mean(axis=(0, 1))
        if blue > red + 3:  # grey pictures have a little colour by JPEG
            self._blue.append(name)

    def warn(self) -> None:
        """Say it where more images are so than in sets of aligned faces."""
        for names, what in (
            (self._unaligned, "the places of the eyes are not darker than what is around them; are they aligned faces? "
             "See `ppfacerec align`: others give wrong answers"),
            (self._blue, "the skin is blue; are red and blue swapped? Give RGB: image[..., ::-1] of OpenCV's"),
        ):  # fmt: skip
            if len(names) > MANY_UNALIGNED * self._total:
                logger.warning("In %d of %d images %s. First: %s", len(names), self._total, what, names[0])
