"""OpenCV, imported on first use and kept to one thread: workers already run side by side."""

from __future__ import annotations

import functools
from types import ModuleType


@functools.cache
def import_cv2() -> ModuleType:
    """Return the module cv2.

    Raises:
        ImportError: OpenCV is missing or does not start; the message says what to install.
    """
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
