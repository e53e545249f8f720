"""Reading images and masks: strict, bounded, and faithful to the class ids that a mask stores."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segpipe.core.errors import DataError
from segpipe.data.arrays import read_array_of_ids
from segpipe.data.decode import Decoded, decode
from segpipe.data.reading import CHOICES, PLAIN, Reading, to_8_bits

_STRETCHED = {"L;2": 85, "L;4": 17}  # what Pillow multiplies ids of fewer bits by
_AS_THEY_ARE = (
    "L", "P", "1", "P;1", "P;2", "P;4", "I", "I;16", "I;16B", "I;16N", "1;8", "I;16S", "I;16BS", "I;32S", "I;32BS",
)  # fmt: skip
_ID_MODES = ("P", "1", "L", "I;16", "I;16B", "I")


class ColorMask(DataError):
    """A mask in colour where class ids were wanted."""


def read_image(path: Path, reading: Reading = PLAIN) -> NDArray[np.uint8]:
    """An image as (H, W, 3) RGB uint8; the pixels as stored, without applying EXIF rotation.

    Raises:
        DataError: missing, truncated, corrupt, too large, of several pages, or of 16 bits without a `depth`.
    """
    return read_image_and_facts(path, reading)[0]


@dataclass(frozen=True)
class Facts:
    """What a file says of an image besides its colours; orientation: EXIF's, 0 where there is none."""

    orientation: int
    transparent: bool


def read_image_and_facts(path: Path, reading: Reading = PLAIN) -> tuple[NDArray[np.uint8], Facts]:
    """As `read_image`, and what else the file says."""
    found = decode(path, reading.page)
    image, known = found.image, Facts(found.orientation, _is_transparent(found.image))
    deep = _deep(path, found)
    if deep is not None:
        if not reading.depth:
            raise DataError(
                f"{path} has 16 bits per channel, wanted 8; set depth in the card, or --depth of `segpipe init`, to "
                f"convert it: {CHOICES}"
            )
        return to_8_bits(deep, reading.depth), known
    return np.array(_opaque(image)), known


def _opaque(image: Image.Image) -> Image.Image:
    """As RGB; a transparent colour is a colour."""
    image.info.pop("transparency", None)
    return image if image.mode == "RGB" else image.convert("RGB")


def _is_transparent(image: Image.Image) -> bool:
    """Whether a pixel shows what lies behind it, by an alpha channel or by a colour that is declared so."""
    if "A" in image.getbands():
        return bool(np.asarray(image.getchannel("A")).min(initial=255) < 255)
    if "transparency" not in image.info or image.mode not in ("P", "L", "RGB", "1"):
        return False
    return bool(np.asarray(image.convert("RGBA").getchannel("A")).min(initial=255) < 255)


def _deep(path: Path, found: Decoded) -> NDArray[np.uint16] | None:
    """The colours (H, W, 3) of an image of more than 8 bits; None of others."""
    if found.deep is not None:
        return found.deep[..., :3]
    if not found.image.mode.startswith(("I", "F")):
        return None
    grey = np.asarray(found.image)
    if grey.dtype.kind not in "iu" or grey.min(initial=0) < 0 or grey.max(initial=0) >= 2**16:
        raise DataError(f"{path} has {found.image.mode} pixels, wanted 8 or 16 bits per channel; convert it first")
    return np.repeat(grey.astype(np.uint16)[..., None], 3, -1)


def is_jpeg(path: Path) -> bool:
    """Whether a file begins as a JPEG, whatever its name says."""
    with open(path, "rb") as stream:
        return stream.read(3) == b"\xff\xd8\xff"


def read_colors(path: Path, reading: Reading = PLAIN) -> NDArray[np.uint8]:
    """A mask as (H, W, 3) colours; a palette is looked up, an alpha channel must be opaque.

    Raises:
        DataError: missing, corrupt, of several pages, of more than 8 bits, or partly transparent.
    """
    mask = _of_8_bits(path, reading)
    if _is_transparent(mask):
        raise DataError(f"{path} is partly transparent; save the mask without an alpha channel")
    return np.array(_opaque(mask))


def read_grey(path: Path, reading: Reading = PLAIN) -> NDArray[np.uint8]:
    """A mask as (H, W) grey values of 8 bits; palettes are looked up, 1 bit becomes 0 and 255.

    Raises:
        DataError: missing, corrupt, of several pages, of more than 8 bits, or in colour.
    """
    colors = np.asarray(_opaque(_of_8_bits(path, reading)))
    if (colors != colors[..., :1]).any():
        raise DataError(f"{path} is in colour, wanted a grey mask; name its colours in the card")
    return np.array(colors[..., 0])


def _of_8_bits(path: Path, reading: Reading) -> Image.Image:
    found = decode(path, reading.page)
    if found.deep is not None or found.image.mode.startswith(("I", "F")):
        raise DataError(f"{path} has {found.stored} pixels, wanted a mask of 8 bits per channel; convert it first")
    return found.image


def read_ids(path: Path, reading: Reading = PLAIN) -> NDArray[Any]:
    """The class ids of a mask: palette indices, grey values of 1 to 32 bits, or whole numbers in a .npy; (H, W), uint8
    where they fit.

    OpenCV would turn palette indices into luminance, 1-bit into 0/255 and 16-bit into 8-bit; Pillow stretches 2 and
    4 bits to 8, which is undone here.

    Raises:
        ColorMask: a colour image, whose ids are not stored in the pixels.
        DataError: missing, corrupt or of several pages.
    """
    if path.suffix.lower() == ".npy":
        return read_array_of_ids(path)
    found = decode(path, reading.page)
    mask, stored = found.image, found.stored
    if mask.mode not in _ID_MODES:
        raise ColorMask(
            f"{path} is a {mask.mode} colour image, wanted a mask whose pixels are class ids (palette or grey); "
            "convert its colours to ids first"
        )
    ids = np.array(mask)
    if stored in _STRETCHED:
        ids //= _STRETCHED[stored]
    elif stored not in _AS_THEY_ARE:
        raise DataError(
            f"{path} stores grey values as '{stored}', which decoders rescale or invert, so its ids are not certain; "
            "save the mask as PNG"
        )
    return ids if ids.dtype == np.uint8 else ids.astype(np.uint8 if ids.dtype == bool else np.int64)


def png_bytes(array: NDArray[np.uint8], palette: list[tuple[int, ...]] | None = None) -> bytes:
    """`array` ((H, W) ids or (H, W, 3) RGB) as PNG; a palette makes ids visible and keeps them."""
    image = Image.fromarray(array)
    if palette is not None:
        image.putpalette([channel for color in palette for channel in color])
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()
