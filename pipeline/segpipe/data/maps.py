"""Maps of unequal size in one file: a flat array and the shape of each map."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segpipe.core.errors import DataError
from segpipe.core.files import read_json, write_json
from segpipe.core.outputs import checked


class MapWriter:
    """Writes maps one after the other to `path`.bin, their shapes to `path`.json when it is closed."""

    def __init__(self, path: Path, dtype: DTypeLike) -> None:
        self.path, self.dtype = path, np.dtype(dtype)
        self.shapes: list[list[int]] = []
        self.stream = path.with_suffix(".bin").open("wb")

    def __enter__(self) -> MapWriter:
        return self

    def add(self, item: NDArray[Any]) -> None:
        """The next map."""
        self.stream.write(np.ascontiguousarray(item, dtype=self.dtype).tobytes())
        self.shapes.append(list(item.shape))

    def __exit__(self, kind: object, *_: object) -> None:
        self.stream.close()
        if kind is None:
            write_json(self.path.with_suffix(".json"), {"dtype": self.dtype.name, "shapes": self.shapes})


def write_maps(path: Path, maps: Iterable[NDArray[Any]], dtype: DTypeLike) -> None:
    """All maps through a `MapWriter`; memory stays flat."""
    with MapWriter(path, dtype) as writer:
        for item in maps:
            writer.add(item)


class Maps(Sequence[NDArray[Any]]):
    """The maps of a file, memory-mapped; item i has its own shape."""

    def __init__(self, path: Path) -> None:
        header = read_json(path.with_suffix(".json"))
        self.shapes = [tuple(shape) for shape in header["shapes"]]
        self.offsets = np.concatenate([[0], np.cumsum([int(np.prod(shape)) for shape in self.shapes])])
        binary = path.with_suffix(".bin")
        dtype = np.dtype(header["dtype"])
        if checked(binary).stat().st_size != self.offsets[-1] * dtype.itemsize:
            raise DataError(f"{binary} is cut short; delete its folder and run the stage again")
        self.flat = np.memmap(binary, dtype, mode="r") if self.offsets[-1] else np.zeros(0, dtype)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: Any) -> Any:
        start, stop = self.offsets[index], self.offsets[index + 1]
        return np.asarray(self.flat[start:stop]).reshape(self.shapes[index])


def open_maps(path: Path) -> Maps:
    """The maps of a file, whose header is read once as long as the file stays what it is."""
    header = path.with_suffix(".json")
    return _opened(path.absolute(), header.stat().st_mtime_ns if header.is_file() else 0)


@lru_cache(maxsize=32)
def _opened(path: Path, changed: int) -> Maps:
    del changed
    return Maps(path)
