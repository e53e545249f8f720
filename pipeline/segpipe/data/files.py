"""Reading images and masks: strict, bounded, and faithful to the class ids that a mask stores."""

from __future__ import annotations

import gzip
import io
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from segpipe.core.errors import DataError

MAX_PIXELS = 150_000_000  # a header that claims more is refused before anything is decoded
_ORIENTATION = 0x0112  # of EXIF
_STORED = "stored as"
_STRETCHED = {"L;2": 85, "L;4": 17}  # what Pillow multiplies ids of fewer bits by
_AS_THEY_ARE = ("L", "P", "1", "P;1", "P;2", "P;4", "I", "I;16", "I;16B", "I;16N", "1;8")
_ID_MODES = ("P", "1", "L", "I;16", "I;16B", "I")


class ColorMask(DataError):
    """A mask in colour where class ids were wanted."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image as (H, W, 3) RGB uint8; the pixels as stored, without applying EXIF rotation.

    Raises:
        DataError: missing, truncated, corrupt, too large, or of a depth that 8 bits cannot hold.
    """
    return read_image_and_facts(path)[0]


@dataclass(frozen=True)
class Facts:
    """What a file says of an image besides its colours; orientation: EXIF's, 0 where there is none."""

    orientation: int
    transparent: bool


def read_image_and_facts(path: Path) -> tuple[NDArray[np.uint8], Facts]:
    """As `read_image`, and what else the file says."""
    image = _open(path)
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{path} has {image.mode} pixels, wanted 8 bits a channel; convert it first")
    transparent = "A" in image.getbands() and bool(np.asarray(image.getchannel("A")).min() < 255)
    orientation = image.getexif().get(_ORIENTATION, 0)
    known = Facts(orientation if isinstance(orientation, int) else 0, transparent)
    return np.array(image if image.mode == "RGB" else image.convert("RGB")), known


def is_jpeg(path: Path) -> bool:
    """Whether a file begins as a JPEG, whatever its name says."""
    with open(path, "rb") as stream:
        return stream.read(3) == b"\xff\xd8\xff"


def read_colors(path: Path) -> NDArray[np.uint8]:
    """A mask as (H, W, 3) colours; a palette is looked up, an alpha channel must be opaque.

    Raises:
        DataError: missing, corrupt, of more than 8 bits, or partly transparent.
    """
    mask = _open(path)
    if mask.mode.startswith(("I", "F")):
        raise DataError(f"{path} has {mask.mode} pixels, wanted colours of 8 bits a channel")
    if "A" in mask.getbands() and np.asarray(mask.getchannel("A")).min() < 255:
        raise DataError(f"{path} is partly transparent; save the mask without an alpha channel")
    return np.array(mask.convert("RGB"))


def read_grey(path: Path) -> NDArray[np.uint8]:
    """A mask as (H, W) grey values of 8 bits; palettes are looked up, 1 bit becomes 0 and 255.

    Raises:
        DataError: missing, corrupt, of more than 8 bits, or in colour.
    """
    mask = _open(path)
    if mask.mode.startswith(("I", "F")):
        raise DataError(f"{path} has {mask.mode} pixels, wanted 8 bits; convert the mask first")
    colors = np.asarray(mask.convert("RGB"))
    if (colors != colors[..., :1]).any():
        raise DataError(f"{path} is in colour, wanted a grey mask; name its colours in the card")
    return np.array(colors[..., 0])


def read_ids(path: Path) -> NDArray[Any]:
    """The class ids of a mask: palette indices, 1-bit, 8-bit or 16-bit grey values; (H, W), uint8 where they fit.

    OpenCV would turn palette indices into luminance, 1-bit into 0/255 and 16-bit into 8-bit; Pillow stretches 2 and
    4 bits to 8, which is undone here.

    Raises:
        ColorMask: a colour image, whose ids are not stored in the pixels.
        DataError: missing or corrupt.
    """
    mask = _open(path)
    if mask.mode not in _ID_MODES:
        raise ColorMask(
            f"{path} is a {mask.mode} colour image, wanted a mask whose pixels are class ids (palette or grey); "
            "convert its colours to ids first"
        )
    ids = np.array(mask)
    stored = mask.info[_STORED]
    if stored in _STRETCHED:
        ids //= _STRETCHED[stored]
    elif stored not in _AS_THEY_ARE:
        raise DataError(
            f"{path} stores grey values as '{stored}', which decoders rescale or invert, so its ids are not certain; "
            "save the mask as PNG"
        )
    return ids if ids.dtype == np.uint8 else ids.astype(np.uint8 if ids.dtype == bool else np.int64)


def _open(path: Path) -> Image.Image:
    """A fully decoded PIL image; every failure becomes one DataError with the path."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _stream(path) as stream, _checked(stream) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise DataError(
                        f"{path} claims {width} x {height} pixels, more than {MAX_PIXELS}; cut it into tiles"
                    )
                stored = _stored(image)
                image.load()  # what is returned no longer needs the file
                image.info[_STORED] = stored
                return image
    except FileNotFoundError:
        raise DataError(f"{path} is missing; check the list or folder that names it") from None
    except PermissionError:
        raise DataError(f"{path} cannot be read: permission denied; change its mode or owner") from None
    except DataError:
        raise
    except Exception as error:  # decoders raise many types on corrupt input
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DataError(f"{path} is not a readable image ({reason}); replace or remove it") from None


def _checked(stream: BinaryIO) -> ImageFile.ImageFile:
    """The opened image; of a PNG the checksums hold, which decoding alone does not look at."""
    if stream.read(8) == b"\x89PNG\r\n\x1a\n":
        content = stream.read()
        at, kind = 0, b""
        while at + 12 <= len(content) and kind != b"IEND":  # what follows is no part of it
            end = at + 8 + int.from_bytes(content[at : at + 4], "big")
            kind = content[at + 4 : at + 8]
            if zlib.crc32(content[at + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
                raise ValueError(f"the checksum of chunk {kind!r} does not hold")
            at = end + 4
    stream.seek(0)
    return Image.open(stream)


def _stored(image: ImageFile.ImageFile) -> str:
    """How the file stores its pixels, in Pillow's words, before they are decoded."""
    if not image.tile:
        return str(image.mode)
    codec, _, _, arguments = image.tile[0]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    if image.format == "PPM" and codec != "raw":
        most = arguments[-1] if isinstance(arguments, tuple) else 255
        return str(image.mode) if most in (1, 255, 65535) else f"PNM with values to {most}"
    return first if isinstance(first, str) and ";" in first else str(image.mode)


def _stream(path: Path) -> Any:
    """The file's bytes; of a gzip what is in it, up to what an image may hold."""
    if path.suffix != ".gz":
        return open(path, "rb")
    with gzip.open(path) as stream:
        content = stream.read(4 * MAX_PIXELS + 1)
    if len(content) > 4 * MAX_PIXELS:
        raise DataError(f"{path} unpacks to more than {4 * MAX_PIXELS} bytes; cut it into tiles")
    return io.BytesIO(content)


def png_bytes(array: NDArray[np.uint8], palette: list[tuple[int, ...]] | None = None) -> bytes:
    """`array` ((H, W) ids or (H, W, 3) RGB) as PNG; a palette makes ids visible and keeps them."""
    image = Image.fromarray(array)
    if palette is not None:
        image.putpalette([channel for color in palette for channel in color])
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()
