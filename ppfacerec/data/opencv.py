"""OpenCV, imported on first use and kept to one thread: workers already run side by side."""

from __future__ import annotations

import functools
import os
from types import ModuleType

# A PNG of some kilobytes may unfold to gigabytes; OpenCV's own limit is 2^30 pixels, 3 GiB. This one is 192 MiB.
MAX_PIXELS = 1 << 26


@functools.cache
def import_cv2() -> ModuleType:
    """Return the module cv2.

    Raises:
        ImportError: OpenCV is missing or does not start; the message says what to install.
    """
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))  # read when cv2 is imported
    try:
        import cv2
    except (ImportError, OSError) as error:
        raise ImportError(
            f"OpenCV does not start ({error}); it is needed to decode images. "
            "Run `pip uninstall opencv-python opencv-python-headless`, then `pip install opencv-python-headless`, "
            "which needs no graphics libraries; or keep opencv-python and run `apt-get install libgl1 libglib2.0-0`."
        ) from error
    cv2.setNumThreads(1)
    return cv2
