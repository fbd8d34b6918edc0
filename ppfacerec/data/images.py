"""Encoded image files to pixels."""

from __future__ import annotations

import functools

import numpy as np

from ppfacerec.data.image_size import image_size
from ppfacerec.data.opencv import MAX_PIXELS, PIXEL_LIMIT, counts_pixels, import_cv2

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF")  # JPEG, PNG, BMP, WebP
_TOO_LARGE = f" (more than {MAX_PIXELS:,} pixels; the environment's {PIXEL_LIMIT} sets another limit)"
_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"


def decode_rgb(data: bytes, where: object) -> np.ndarray:
    """Decode a JPEG, PNG, ... to uint8 RGB, [height, width, 3].

    Args:
        data: the contents of the image file.
        where: what the image is called in messages, such as "lfw.bin, entry 17"; its ``str`` is taken.

    Raises:
        ValueError: the bytes are none of the four formats that are read, do not decode, have too many pixels, or are a
            JPEG without its end, of which older OpenCVs make a picture that is grey below.
    """
    cv2 = import_cv2()
    if data and not data.startswith(_SIGNATURES):  # OpenCV has decoders for many formats more, and bugs in them
        raise ValueError(_cannot_decode(data, where, ""))
    if data and not counts_pixels():
        width, height = image_size(data) or (0, 0)
        if width * height > MAX_PIXELS:
            raise ValueError(_cannot_decode(data, where, _TOO_LARGE))
    if data[:3] == _JPEG and data.rfind(_JPEG_END) < 0:
        raise ValueError(_cannot_decode(data, where, " (the JPEG is cut off)"))
    try:
        if _decodes_to_rgb():  # one pass over the pixels less
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
        else:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
            image = image if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    except cv2.error as error:  # such as an image with more pixels than OpenCV's limit
        reason = _TOO_LARGE if "MAX_IMAGE_PIXELS" in str(error) else f" ({str(error).strip()})"
        raise ValueError(_cannot_decode(data, where, reason)) from error
    if image is None:
        raise ValueError(_cannot_decode(data, where, ""))
    return image


@functools.cache
def _decodes_to_rgb() -> bool:
    """Whether this OpenCV (4.10 and newer) gives RGB without a second pass over the pixels."""
    return hasattr(import_cv2(), "IMREAD_COLOR_RGB")


def resize_short_side(image: np.ndarray, size: int = 112) -> np.ndarray:
    """Resize [H, W, 3] so that the short side has `size` pixels, then cut out the central square.

    The resize is insightface's for images of another size (``load_bin``: MXNet's ``resize_short``, which is OpenCV's
    bicubic, the long side rounded down). insightface goes no further, so an image that is not square ends it with an
    error; the central square is ours.
    """
    cv2 = import_cv2()
    height, width = image.shape[:2]
    if min(height, width) != size:
        resized = (size, size * height // width) if height > width else (size * width // height, size)
        image = cv2.resize(image, resized, interpolation=cv2.INTER_CUBIC)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def _cannot_decode(data: bytes, where: object, reason: str) -> str:
    return (
        f"{where} does not decode as an image{reason}: {len(data)} bytes that start with {bytes(data[:8])!r}. "
        "Expected the bytes of a JPEG, PNG, BMP or WebP file. Replace or remove this image, or get the file again."
    )
