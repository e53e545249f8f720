"""Arrays that grow on disk, whose place is taken before they are filled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from segpipe.core.errors import DataError


def new_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> Any:
    """A new array, memory-mapped from an .npy file, whose place on the disk is taken now.

    Raises:
        DataError: there is no space; later a full disk would end the process with a signal.
    """
    partial = path.with_suffix(".new")
    found = np.lib.format.open_memmap(partial, "w+", dtype, shape)
    try:
        with open(partial, "r+b") as stream:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, partial.stat().st_size)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror}; {partial.stat().st_size} bytes are needed: free space"
        ) from None
    os.replace(partial, path)
    return found
