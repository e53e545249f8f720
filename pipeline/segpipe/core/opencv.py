"""The one place that imports OpenCV, so that a missing system library is explained once."""

from __future__ import annotations

import os

from segpipe.core.errors import SegpipeError

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")

try:
    import cv2
except ImportError as error:
    raise SegpipeError(
        f"OpenCV cannot be imported ({error}); on a machine without a desktop either install its "
        "libraries (apt install libgl1 libglib2.0-0) or swap the package "
        "(pip uninstall opencv-python; pip install opencv-python-headless)"
    ) from None

__all__ = ["cv2"]
