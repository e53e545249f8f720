"""Reading images and masks: strict, bounded, and faithful to the class ids that a mask stores."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segpipe.core.errors import DataError

MAX_PIXELS = 150_000_000  # a header that claims more is refused before anything is decoded
_ID_MODES = ("P", "1", "L", "I;16", "I;16B", "I")


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image as (H, W, 3) RGB uint8; the pixels as stored, without applying EXIF rotation.

    Raises:
        DataError: missing, truncated, corrupt, too large, or of a depth that 8 bits cannot hold.
    """
    image = _open(path)
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{path} has {image.mode} pixels, wanted 8 bits a channel; convert it first")
    return np.array(image.convert("RGB"))


def read_ids(path: Path) -> NDArray[np.int64]:
    """The class ids of a mask as (H, W): palette indices, 1-bit, 8-bit or 16-bit grey values.

    OpenCV would turn palette indices into luminance, 1-bit into 0/255 and 16-bit into 8-bit.

    Raises:
        DataError: missing, corrupt, or a colour image, whose ids are not stored in the pixels.
    """
    mask = _open(path)
    if mask.mode not in _ID_MODES:
        raise DataError(
            f"{path} is a {mask.mode} colour image, wanted a mask whose pixels are class ids (palette or grey); "
            "convert its colours to ids first"
        )
    return np.asarray(mask).astype(np.int64)


def _open(path: Path) -> Any:
    """A fully decoded PIL image; every failure becomes one DataError with the path."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise DataError(
                        f"{path} claims {width} x {height} pixels, more than {MAX_PIXELS}; cut it into tiles"
                    )
                image.load()
                return image.copy()
    except FileNotFoundError:
        raise DataError(f"{path} is missing; check the list or folder that names it") from None
    except PermissionError:
        raise DataError(f"{path} cannot be read: permission denied; change its mode or owner") from None
    except DataError:
        raise
    except Exception as error:  # decoders raise many types on corrupt input
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DataError(f"{path} is not a readable image ({reason}); replace or remove it") from None


def png_bytes(array: NDArray[np.uint8], palette: list[tuple[int, ...]] | None = None) -> bytes:
    """`array` ((H, W) ids or (H, W, 3) RGB) as PNG; a palette makes ids visible and keeps them."""
    image = Image.fromarray(array)
    if palette is not None:
        image.putpalette([channel for color in palette for channel in color])
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()
