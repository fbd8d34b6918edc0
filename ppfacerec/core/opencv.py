"""OpenCV, imported on first use and limited to one thread, because workers already run in parallel."""

import functools
import os
import sys
from types import ModuleType

from ppfacerec.core.system_libraries import library_hint

# A PNG of some kilobytes may expand to gigabytes; OpenCV's own limit is 2^30 pixels, 3 GiB. This one is 192 MiB.
MAX_PIXELS = 1 << 26
PIXEL_LIMIT = "OPENCV_IO_MAX_IMAGE_PIXELS"  # OpenCV's setting, which it reads on import


@functools.cache
def counts_pixels() -> bool:
    """Whether OpenCV enforces our limit or the user's: it may have none if a program imported it before us.

    The first call must precede the import of cv2 here.
    """
    return PIXEL_LIMIT in os.environ or "cv2" not in sys.modules


@functools.cache
def import_cv2() -> ModuleType:
    """Return the module cv2; raise an ImportError that says what to install if it is missing or does not start."""
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
