"""Opening an image file that may be anything: known formats alone, bounded before it is decoded, whole or refused, as
far as the format tells: a JPEG has no checksum, and what is cut out of its middle shows as grey.
"""

from __future__ import annotations

import gzip
import io
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from segpipe.core.errors import DataError
from segpipe.core.files import read_bytes
from segpipe.core.opencv import cv2

# Pillow would also open PostScript, through Ghostscript, and forty formats that nobody labels in.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
MAX_PIXELS = 100_000_000  # about 1 GB while it is decoded: colours take 4 bytes in Pillow, 3 as an array, twice
_MAX_BYTES = 8 * MAX_PIXELS  # of a file: four channels of 16 bits
_SUBFILE, _REDUCED, _MASK = 254, 1, 4  # of TIFF: pages that are thumbnails or masks of others
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_MOST_PAGES = 1000
_ORIENTATION = 0x0112  # of EXIF


@dataclass(frozen=True)
class Decoded:
    """A decoded picture. image: as Pillow has it; stored: how the file stores its pixels, in Pillow's words.

    deep: (H, W, 3 or 4) RGB of 16 bits a channel, which Pillow would cut to 8, or None. orientation: EXIF's,
    0 where there is none or it cannot be read.
    """

    image: Image.Image
    stored: str
    deep: NDArray[np.uint16] | None
    orientation: int


def decode(path: Path, page: int = 0) -> Decoded:
    """The picture in a file; of a file with several pages the one asked for, from 1.

    Raises:
        DataError: missing, of another format, damaged, too large, or of several pages where none is asked for.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = _content(path)
            with _opened(content) as image:
                _choose(image, page, path)
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise DataError(
                        f"{path} claims {width} x {height} pixels, more than {MAX_PIXELS}; cut it into tiles"
                    )
                stored = _stored(image)
                if ";16" in stored and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
                    raise ValueError("16 bits in which 0 is white; save it with 0 as black")
                _load(image, content)
                return Decoded(image, stored, _deep(path, content, stored, page), _orientation(image))
    except DataError:
        raise
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise DataError(f"{path} is not a readable image, wanted one of {known}; replace or remove it") from None
    except Exception as error:  # decoders raise many types on corrupt input
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DataError(f"{path} is not a readable image ({reason}); replace or remove it") from None


def size_of(path: Path, page: int = 0) -> tuple[int, int]:
    """(height, width) that a file's header says, without decoding it; (1, 1) where `decode` would refuse the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.suffix == ".gz":
                return decode(path, page).image.size[::-1]
            with Image.open(path, formats=FORMATS) as image:
                _choose(image, page, path)
                width, height = image.size
                return (height, width) if width * height <= MAX_PIXELS else (1, 1)
    except Exception:  # of corrupt files many kinds are raised; decoding says what is wrong
        return 1, 1


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 0)
    except Exception:  # of what is no EXIF many kinds are raised; the pixels are none the worse
        return 0
    return found if isinstance(found, int) else 0


def _content(path: Path) -> bytes:
    """The file's bytes; of a gzip what is in it, up to what an image may hold."""
    if path.exists() and path.stat().st_size > _MAX_BYTES:
        raise DataError(f"{path} holds more than {_MAX_BYTES} bytes; cut it into tiles")
    content = read_bytes(path)
    if path.suffix != ".gz":
        return content
    with gzip.open(io.BytesIO(content)) as stream:
        unpacked = bytearray()
        while block := stream.read(2**20):
            unpacked += block
            if len(unpacked) > _MAX_BYTES:
                raise DataError(f"{path} holds more than {_MAX_BYTES} bytes; cut it into tiles")
    return bytes(unpacked)


def _opened(content: bytes) -> ImageFile.ImageFile:
    """The opened image; of a PNG the checksums hold, which decoding alone does not look at."""
    at, kind = 8, b"" if content.startswith(b"\x89PNG\r\n\x1a\n") else b"IEND"
    while at + 12 <= len(content) and kind != b"IEND":  # what follows is no part of it
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        kind = content[at + 4 : at + 8]
        if zlib.crc32(content[at + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            raise ValueError(f"the checksum of chunk {kind!r} does not hold")
        at = end + 4
    return Image.open(io.BytesIO(content), formats=FORMATS)


def _choose(image: ImageFile.ImageFile, page: int, path: Path) -> None:
    """Turn to the page that is asked for."""
    pages = _pages(image)
    if len(pages) == 1:
        return
    if not page:
        raise DataError(
            f"{path} holds {len(pages)} pages or frames, wanted one; save each as its own file, or choose one "
            "with page = 1 in the card"
        )
    if page > len(pages):
        raise DataError(f"{path} holds {len(pages)} pages, the card asks for page {page}; correct the card")
    image.seek(pages[page - 1])


def _pages(image: ImageFile.ImageFile) -> list[int]:
    """The frames that are pictures of their own; a JPEG's further ones are views of the same."""
    if image.format == "MPO":
        return [0]
    if image.format != "TIFF":
        return list(range(getattr(image, "n_frames", 1)))
    own = []
    for frame in range(_MOST_PAGES + 1):
        try:
            image.seek(frame)
        except EOFError:
            break
        kind = image.tag_v2.get(_SUBFILE, 0)  # type: ignore[attr-defined]  # of TIFF
        if not kind & (_REDUCED | _MASK):
            own.append(frame)
    image.seek(own[0] if own else 0)
    return own or [0]


def _stored(image: ImageFile.ImageFile) -> str:
    """How the file stores its pixels, in Pillow's words, before they are decoded."""
    if not image.tile:
        return str(image.mode)
    codec, _, _, arguments = image.tile[0]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    if image.format == "PPM" and image.mode == "1":
        return "1;I"  # a bit of 1 is black
    if image.format == "PPM" and image.mode == "RGB" and isinstance(arguments, tuple) and arguments[-1] == 65535:
        return "RGB;16B"
    if image.format == "PPM" and codec != "raw":
        most = arguments[-1] if isinstance(arguments, tuple) else 255
        return str(image.mode) if most in (1, 255, 65535) else f"PNM with values to {most}"
    return first if isinstance(first, str) and ";" in first else str(image.mode)


def _load(image: ImageFile.ImageFile, content: bytes) -> None:
    """Decode. Of a PNG that ends early Pillow tells nothing and leaves the last row as it was: where that row still
    holds an unlikely value, and in rare kinds of PNG, the bytes of all rows are counted.
    """
    row = (0, image.height - 1, image.width, image.height)
    unlikely = 1 if image.mode == "1" else (173, 59, 211, 97)[: len(image.getbands())]
    marked = image.format == "PNG" and not image.mode.startswith("I") and not image.info.get("interlace")
    if marked:
        image.load_prepare()
        image.im.paste(unlikely, row)
    image.load()
    doubtful = (np.asarray(image.crop(row)) == unlikely).all() if marked else image.format == "PNG"
    if doubtful and _inflated(content, _wanted(content)) < _wanted(content):
        raise ValueError("its last rows are missing")


def _chunks(content: bytes, wanted: bytes) -> list[bytes]:
    """The chunks of a kind, of a PNG whose checksums hold."""
    at, found, kind = 8, [], b""
    while at + 12 <= len(content) and kind != b"IEND":
        size, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        if kind == wanted:
            found.append(content[at + 8 : at + 8 + size])
        at += size + 12
    return found


def _inflated(content: bytes, enough: int) -> int:
    """Bytes of a PNG's pixels, counted without keeping them until there are enough."""
    machine, total = zlib.decompressobj(), 0
    for chunk in _chunks(content, b"IDAT"):
        for at in range(0, len(chunk), 2**16):
            left = chunk[at : at + 2**16]
            while left and total < enough:
                total += len(machine.decompress(left, 2**20))
                left = machine.unconsumed_tail
    return total


def _wanted(content: bytes) -> int:
    """Bytes that a PNG's rows take with their filters, of every pass where it is interlaced (PNG, section 8.2)."""
    header = _chunks(content, b"IHDR")[0]
    width, height = (int.from_bytes(header[i : i + 4], "big") for i in (0, 4))
    depth, kind, interlaced = header[8], header[9], header[12]
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    total = 0
    for x, y, step_x, step_y in passes if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // step_x), -(-(height - y) // step_y)
        total += max(0, rows) * (1 + (columns * bits + 7) // 8) if columns > 0 else 0
    return total


def _deep(path: Path, content: bytes, stored: str, page: int) -> NDArray[np.uint16] | None:
    """Colours of 16 bits a channel, through OpenCV: Pillow has no mode for them."""
    if ";16" not in stored or stored.startswith("I;16"):
        return None
    if page > 1:
        raise DataError(f"{path} holds 16 bits a channel on page {page}; save the pages as files of their own")
    found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint16 or found.ndim != 3 or found.shape[2] not in (3, 4):
        raise DataError(f"{path} stores its pixels as '{stored}', which is not read right; save it with 8 bits")
    order = [2, 1, 0, 3][: found.shape[2]]  # OpenCV's is blue, green, red
    return np.ascontiguousarray(found[..., order], np.uint16)
