"""Painting with integers: hashes, smooth noise and shapes whose pixels are the same on any platform."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.seeding import mix

Ints = NDArray[np.int32]
Edge = NDArray[Any]  # whole numbers of any width
Mask = NDArray[np.bool_]
Color = tuple[int, int, int]


@dataclass
class Scene:
    """One picture before annotation: image (H, W, 3) uint8, labels and instances (H, W)."""

    id: str
    group: str
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    instances: NDArray[np.int16]
    classes: list[int]


@dataclass
class Draw:
    """Integers drawn one after the other from a key."""

    key: tuple[int, ...]
    count: int = 0

    def integer(self, low: int, high: int) -> int:
        """A whole number in low..high, both included."""
        self.count += 1
        return low + mix(*self.key, self.count) % (high - low + 1)

    def chance(self, percent: int) -> bool:
        """True with this probability."""
        return self.integer(0, 99) < percent

    def color(self, base: Color, spread: int) -> Color:
        """A colour within `spread` of `base` in each channel."""
        r, g, b = (min(255, max(0, c + self.integer(-spread, spread))) for c in base)
        return r, g, b


def hash_noise(height: int, width: int, key: int) -> Ints:
    """(height, width) independent integers in 0..255."""
    x = np.arange(height * width, dtype=np.uint64).reshape(height, width)
    x = (x + np.uint64(key % (1 << 63))) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x >> np.uint64(56)).astype(np.int32)


def smooth_noise(height: int, width: int, cell: int, key: int) -> Ints:
    """(height, width) integers in 0..255 that vary over `cell` pixels (bilinear, in integers)."""
    grid = hash_noise(height // cell + 2, width // cell + 2, key)
    y, x = np.arange(height, dtype=np.int32), np.arange(width, dtype=np.int32)
    gy, fy, gx, fx = y // cell, (y % cell)[:, None], x // cell, (x % cell)[None]
    top = grid[gy][:, gx] * (cell - fx) + grid[gy][:, gx + 1] * fx
    bottom = grid[gy + 1][:, gx] * (cell - fx) + grid[gy + 1][:, gx + 1] * fx
    return np.floor_divide(top * (cell - fy) + bottom * fy, cell * cell).astype(np.int32)


@dataclass
class Canvas:
    """Colour, class and instance of every pixel, painted back to front."""

    height: int
    width: int
    color: NDArray[np.int32] = field(init=False)
    label: NDArray[np.uint8] = field(init=False)
    instance: NDArray[np.int16] = field(init=False)
    classes: list[int] = field(default_factory=list)  # class of instance 1, 2, ...

    def __post_init__(self) -> None:
        self.color = np.zeros((self.height, self.width, 3), np.int32)
        self.label = np.zeros((self.height, self.width), np.uint8)
        self.instance = np.zeros((self.height, self.width), np.int16)

    def new_instance(self, class_id: int) -> int:
        """Number of a new thing; pass it to the shapes that make it up."""
        self.classes.append(class_id)
        return len(self.classes)

    def rectangle(self, top: int, left: int, bottom: int, right: int, **paint: Any) -> None:
        """Rows top..bottom-1, columns left..right-1, cut at the border."""
        rows, columns = slice(max(0, top), max(0, bottom)), slice(max(0, left), max(0, right))
        self._fill(rows, columns, None, **paint)

    def disc(self, y: int, x: int, radius: int, rough: int = 0, key: int = 0, **paint: Any) -> None:
        """A filled circle; `rough` (percent) frays its edge."""
        top, left = max(0, y - radius), max(0, x - radius)
        rows, columns = slice(top, max(0, y + radius + 1)), slice(left, max(0, x + radius + 1))
        yy, xx = np.mgrid[rows, columns][:, : self.height - top, : self.width - left]
        if yy.size == 0:
            return
        distance = (yy - y) ** 2 + (xx - x) ** 2
        limit: Any = radius * radius
        if rough:
            noise = smooth_noise(yy.shape[0], yy.shape[1], max(2, radius // 3), key)
            limit = limit * (100 - rough + 2 * rough * noise // 255) // 100
        self._fill(rows, columns, distance <= limit, **paint)

    def wedge(self, top: int, bottom: int, left: Edge, right: Edge, **paint: Any) -> None:
        """Rows top..bottom-1; row i spans columns left[i]..right[i]-1."""
        top, bottom = max(0, top), min(self.height, bottom)
        columns = np.arange(self.width)[None]
        inside = (columns >= left[: bottom - top, None]) & (columns < right[: bottom - top, None])
        self._fill(slice(top, bottom), slice(0, self.width), inside, **paint)

    def _fill(
        self,
        rows: slice,
        columns: slice,
        inside: Mask | None,
        *,
        color: Color,
        class_id: int,
        instance: int = 0,
        texture: int = 0,
        key: int = 0,
    ) -> None:
        """Paint one colour, varied by up to `texture` levels, with its class and instance."""
        label = self.label[rows, columns]
        if label.size == 0:
            return
        shade: Any = np.array(color, np.int32)
        if texture:
            shade = shade + ((hash_noise(label.shape[0], label.shape[1], key) * texture >> 8) - texture // 2)[..., None]
        if inside is None:
            self.color[rows, columns] = shade
            label[:] = class_id
            self.instance[rows, columns] = instance
        else:
            self.color[rows, columns][inside] = shade[inside] if texture else shade
            label[inside] = class_id
            self.instance[rows, columns][inside] = instance
