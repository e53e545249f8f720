"""GeoTIFF tiles: their bands, and where on earth their pixels are."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from segpipe.core.errors import DataError
from segpipe.core.opencv import cv2
from segpipe.data.decode import MAX_PIXELS
from segpipe.data.reading import to_8_bits

_WIDTH, _HEIGHT, _SCALE, _TIEPOINT, _MATRIX, _KEYS = 256, 257, 33550, 33922, 34264, 34735  # TIFF tags
_RASTER_TYPE, _POINT = 1025, 2  # of GeoTIFF: places are pixels' centres


def read_bands(path: Path) -> NDArray[np.uint8]:
    """The first three bands, (H, W, 3); 16 bits are stretched to 8 from the 2nd to the 98th percentile of each.

    Raises:
        DataError: missing, corrupt, too large, or of another depth.
    """
    _tags(path)
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
        found = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except (OSError, cv2.error) as error:
        raise DataError(f"{path} cannot be decoded ({str(error).splitlines()[0]}); replace it") from None
    if found is None:
        raise DataError(f"{path} is not a readable TIFF; replace or remove it")
    if found.dtype not in (np.uint8, np.uint16) or found.ndim != 3 or found.shape[2] < 3:
        raise DataError(f"{path} has pixels {found.shape} of {found.dtype}, wanted three bands of 8 or 16 bits")
    bands = np.asarray(found[..., 2::-1])  # OpenCV's order is blue, green, red
    return bands.astype(np.uint8) if bands.dtype == np.uint8 else to_8_bits(bands.astype(np.uint16), "percentile")


def pixels_of(points: ArrayLike, path: Path) -> NDArray[np.float64]:
    """Places (N, 2 or 3) in a tile's coordinates as x, y of its pixels, (0, 0) the corner of the first.

    Raises:
        DataError: the tile does not say where it is.
    """
    x, y = np.asarray(points, np.float64)[:, :2].T
    tags = _tags(path)
    if _SCALE in tags and _TIEPOINT in tags:
        (scale_x, scale_y), tie = tags[_SCALE][:2], tags[_TIEPOINT]
        return np.stack([tie[0] + (x - tie[3]) / scale_x, tie[1] + (tie[4] - y) / scale_y], 1) + _shift(tags)
    if _MATRIX in tags:
        a, b, _, c, d, e, _, f = tags[_MATRIX][:8]
        return np.linalg.solve(np.array([[a, b], [d, e]]), np.stack([x - c, y - f])).T + _shift(tags)
    raise DataError(f"{path} does not say where it is (tags ModelPixelScale and ModelTiepoint); get the GeoTIFF")


def _shift(tags: dict[int, tuple[float, ...]]) -> float:
    """Half a pixel where the tile's places are those of centres."""
    keys = tags.get(_KEYS, ())[4:]
    return 0.5 if (_RASTER_TYPE, _POINT) in zip(keys[::4], keys[3::4], strict=False) else 0.0


@lru_cache(maxsize=8)
def _tags(path: Path) -> dict[int, tuple[float, ...]]:
    """The numbers of a TIFF's first directory by tag; its size is checked."""
    try:
        with open(path, "rb") as stream:
            directory = ImageFileDirectory_v2(stream.read(8))
            stream.seek(directory.next)
            directory.load(stream)
            found = {}
            for tag in (_WIDTH, _HEIGHT, _SCALE, _TIEPOINT, _MATRIX, _KEYS):
                if tag in directory:
                    value = directory[tag]
                    found[tag] = tuple(map(float, value if isinstance(value, tuple) else (value,)))
            size = found[_WIDTH][0] * found[_HEIGHT][0]
    except FileNotFoundError:
        raise DataError(f"{path} is missing; check the list or folder that names it") from None
    except Exception as error:  # the reader raises many types on corrupt input
        raise DataError(f"{path} is not a readable TIFF ({type(error).__name__}); replace or remove it") from None
    if size > MAX_PIXELS:
        raise DataError(f"{path} claims {size:.0f} pixels, more than {MAX_PIXELS}; cut it into tiles")
    return found
