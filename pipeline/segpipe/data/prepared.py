"""The images and label maps of a split as stage prepare keeps them: on one grid, or each at its own size."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from segpipe.core import files
from segpipe.core.errors import DataError
from segpipe.data.dataset import Index

Bytes = NDArray[np.uint8]


class Ragged:
    """Arrays of any shape, one behind the other in a flat one; item i is a view of its part.

    Raises:
        DataError: the flat array has another size than the shapes say.
    """

    def __init__(self, flat: Bytes, shapes: Sequence[tuple[int, ...]]) -> None:
        self.flat, self.shapes = flat, list(shapes)
        self.ends = [0, *accumulate(math.prod(shape) for shape in self.shapes)]
        if flat.shape != (self.ends[-1],):
            raise DataError(f"an array holds {flat.shape} bytes, its index says {self.ends[-1]}; run `segpipe prepare`")

    def __len__(self) -> int:
        return len(self.shapes)

    def __iter__(self) -> Iterator[Bytes]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, position: SupportsIndex) -> Bytes:
        i = range(len(self))[operator.index(position)]
        return self.flat[self.ends[i] : self.ends[i + 1]].reshape(self.shapes[i])

    def __setitem__(self, position: int, values: Bytes) -> None:
        self[position][...] = values


Stack = Bytes | Ragged  # (N, H, W) and so on, or N arrays


def stored(prepared: Path, index: Index, split: str, kind: str, raters: int | None = None) -> Stack:
    """`images` (H, W, 3), `labels` (H, W) or, of several `raters`, `annotators` (A, H, W) of a split."""
    array = files.read_array(prepared / f"{split}_{kind}.npy")
    if not index.native:
        return array
    sizes = [(row.geometry.padded_height, row.geometry.padded_width) for row in index.splits[split]]
    return Ragged(array, [shape_of(kind, size, raters) for size in sizes])


def shape_of(kind: str, size: tuple[int, int], raters: int | None = None) -> tuple[int, ...]:
    """Of what is kept of an image of a size (height, width)."""
    if kind == "annotators":
        return (raters or 1, *size)
    return (*size, 3) if kind == "images" else size


def flush(stack: Stack) -> None:
    """Write what the memory map of a stack holds."""
    array = stack.flat if isinstance(stack, Ragged) else stack
    array.flush()  # type: ignore[attr-defined]


def alike(stack: Stack, positions: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    """Runs of the positions, at most `most` long, whose arrays have one shape."""
    first = 0
    while first < len(positions):
        end, shape = first + 1, stack[positions[first]].shape
        while end < min(len(positions), first + most) and stack[positions[end]].shape == shape:
            end += 1
        yield positions[first:end]
        first = end


def gather(stack: Stack, positions: Sequence[int]) -> Bytes:
    """(n, ...) the arrays at positions, which have one shape."""
    return stack[positions] if isinstance(stack, np.ndarray) else np.stack([stack[i] for i in positions])
