"""Compressed maps of images, of any sizes, in one file: each can be read alone."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.core.files import read_json, write_json
from segpipe.core.outputs import checked
from segpipe.data.packed import Kind, Packed


class MapWriter:
    """Writes maps one after the other to `path`.bin; to `path`.json, when it is closed, their shapes and ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kind: Kind = "labels"
        self.shapes: list[list[int]] = []
        self.ends: list[int] = []
        self.stream = path.with_suffix(".bin").open("wb")

    def __enter__(self) -> MapWriter:
        return self

    def add(self, item: Packed) -> None:
        """The next map; ValueError when it is of another kind than the others."""
        if self.shapes and item.kind != self.kind:
            raise ValueError(f"{self.path} holds {self.kind}, and {item.kind} were added")
        self.kind = item.kind
        self.stream.write(item.content)
        self.shapes.append(list(item.shape))
        self.ends.append(self.stream.tell())

    def __exit__(self, kind: object, *_: object) -> None:
        self.stream.close()
        if kind is None:
            header = {"kind": self.kind, "shapes": self.shapes, "ends": self.ends}
            write_json(self.path.with_suffix(".json"), header)


def write_maps(path: Path, maps: Iterable[Packed]) -> None:
    """All maps through a `MapWriter`; memory stays flat."""
    with MapWriter(path) as writer:
        for item in maps:
            writer.add(item)


class Maps(Sequence[NDArray[Any]]):
    """The maps of a file; item i is read and unpacked when it is asked for."""

    def __init__(self, path: Path) -> None:
        header, binary = read_json(path.with_suffix(".json")), path.with_suffix(".bin")
        if not _is_header(header):
            raise DataError(f"{path}.json is no header of maps; run the stage that writes it")
        self.kind: Kind = header["kind"]
        self.shapes = [tuple(shape) for shape in header["shapes"]]
        self.ends = [0, *header["ends"]]
        if checked(binary).stat().st_size != self.ends[-1]:
            raise DataError(f"{binary} is cut short; delete its folder and run the stage again")
        self.flat = np.memmap(binary, np.uint8, mode="r") if self.ends[-1] else np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: Any) -> Any:
        index = range(len(self))[operator.index(index)]
        content = self.flat[self.ends[index] : self.ends[index + 1]]
        return Packed(self.kind, content.tobytes(), self.shapes[index]).unpack()


def _is_header(header: Any) -> bool:
    """Whether a file's content says a kind, shapes and ends of maps."""
    if not isinstance(header, dict) or header.get("kind") not in get_args(Kind):
        return False
    shapes, ends = header.get("shapes"), header.get("ends")
    if not isinstance(shapes, list) or not isinstance(ends, list) or len(shapes) != len(ends):
        return False
    rank = 2 if header["kind"] == "labels" else 3
    sound = all(isinstance(s, list) and len(s) == rank and all(type(n) is int and n > 0 for n in s) for s in shapes)
    return sound and all(type(end) is int for end in ends) and ends == sorted(ends) and min(ends, default=0) >= 0


def open_maps(path: Path) -> Maps:
    """The maps of a file, whose header is read once as long as the file stays what it is."""
    header = path.with_suffix(".json")
    return _opened(path.absolute(), header.stat().st_mtime_ns if header.is_file() else 0)


@lru_cache(maxsize=32)
def _opened(path: Path, changed: int) -> Maps:
    del changed
    return Maps(path)
