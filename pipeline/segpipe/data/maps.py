"""Maps of unequal size in one file: a flat array and the shape of each map."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.core.files import read_json, write_json


def write_maps(path: Path, maps: Iterable[NDArray[Any]], dtype: Any) -> None:
    """Write maps one after the other to `path`.bin, their shapes to `path`.json; memory stays flat."""
    shapes = []
    with open(path.with_suffix(".bin"), "wb") as stream:
        for item in maps:
            stream.write(np.ascontiguousarray(item, dtype=dtype).tobytes())
            shapes.append(list(item.shape))
    write_json(path.with_suffix(".json"), {"dtype": np.dtype(dtype).name, "shapes": shapes})


class Maps(Sequence[NDArray[Any]]):
    """The maps of a file, memory-mapped; item i has its own shape."""

    def __init__(self, path: Path) -> None:
        header = read_json(path.with_suffix(".json"))
        self.shapes = [tuple(shape) for shape in header["shapes"]]
        self.offsets = np.concatenate([[0], np.cumsum([int(np.prod(shape)) for shape in self.shapes])])
        binary = path.with_suffix(".bin")
        dtype = np.dtype(header["dtype"])
        if not binary.is_file() or binary.stat().st_size != self.offsets[-1] * dtype.itemsize:
            raise DataError(f"{binary} is missing or cut short; delete its folder and run the stage again")
        self.flat = np.memmap(binary, dtype, mode="r") if self.offsets[-1] else np.zeros(0, dtype)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: Any) -> Any:
        start, stop = self.offsets[index], self.offsets[index + 1]
        return np.asarray(self.flat[start:stop]).reshape(self.shapes[index])
