"""Arrays that somebody else wrote with NumPy: read whole, or refused in one line; nothing pickled is ever executed."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.data.archives import BROKEN

ARRAYS = (".npy", ".npz")
_LARGEST = 2**32  # bytes of an array in an archive
_BROKEN = (*BROKEN, KeyError, MemoryError)  # KeyError: a part is missing; MemoryError: a header lies about sizes


def read_array(path: Path) -> NDArray[Any]:
    """The array in a .npy, or the only one in a .npz.

    Raises:
        DataError: it is missing or damaged, holds objects, or several arrays.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; write it with numpy.save")
    try:
        with open(path, "rb") as stream:
            if path.suffix.lower() == ".npy":
                return np.asarray(np.load(stream, allow_pickle=False))
            with zipfile.ZipFile(stream) as archive:
                size = sum(part.file_size for part in archive.infolist())
            if size > _LARGEST:
                raise DataError(f"{path} unpacks to {size} bytes, wanted at most {_LARGEST}; store label maps")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as stored:
                if len(stored.files) != 1:
                    raise DataError(f"{path} holds arrays {', '.join(stored.files[:4])}, wanted one")
                return np.asarray(stored[stored.files[0]])
    except DataError:
        raise  # it is a ValueError too
    except _BROKEN:  # NumPy's own words tell to unpickle it
        raise DataError(f"{path} is not a readable array; write it with numpy.save") from None


def read_array_of_ids(path: Path) -> NDArray[Any]:
    """Whole numbers (H, W), uint8 where they are.

    Raises:
        DataError: as `read_array`, or an array of another kind.
    """
    array = read_array(path)
    if array.ndim != 2 or array.dtype.kind not in "iub":
        raise DataError(f"{path} is {array.dtype} {array.shape}, wanted whole numbers (height, width)")
    return array.astype(np.uint8 if array.dtype in (np.uint8, bool) else np.int64)
