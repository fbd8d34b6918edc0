"""OpenCV, imported on first use and kept to one thread: workers already run side by side."""

import functools
import os
import sys
from types import ModuleType

from ppfacerec.core.system_libraries import library_hint

# A PNG of some kilobytes may unfold to gigabytes; OpenCV's own limit is 2^30 pixels, 3 GiB. This one is 192 MiB.
MAX_PIXELS = 1 << 26
PIXEL_LIMIT = "OPENCV_IO_MAX_IMAGE_PIXELS"  # OpenCV's own setting, which it reads when it is imported


@functools.cache
def counts_pixels() -> bool:
    """Whether OpenCV has our limit or one of the user's; a program that imported it before us may have left it without.

    Asked for the first time before cv2 is imported here.
    """
    return PIXEL_LIMIT in os.environ or "cv2" not in sys.modules


@functools.cache
def import_cv2() -> ModuleType:
    """Return the module cv2.

    Raises:
        ImportError: OpenCV is missing or does not start; the message says what to install.
    """
    counts_pixels()
    os.environ.setdefault(PIXEL_LIMIT, str(MAX_PIXELS))
    try:
        import cv2
    except (ImportError, OSError) as error:
        raise ImportError(
            f"OpenCV does not start: {library_hint(error) or error}. Or run `pip uninstall -y opencv-python "
            "opencv-python-headless`, then `pip install opencv-python-headless`, which needs no graphics libraries."
        ) from error
    cv2.setNumThreads(1)
    return cv2
