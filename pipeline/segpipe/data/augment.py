"""Augmentation: one affine warp of image and labels, one colour table; random by counter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import ConfigError
from segpipe.core.opencv import cv2
from segpipe.core.seeding import generator

VOID = 255
TRIES = 10  # crops drawn before one class may fill too much of it
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image; the neutral values switch a part off.

    scale: range of the zoom; above 1 a random crop results, below 1 void padding.
    flip, flip_vertical: probability of a mirror image.
    rotation: by up to so many degrees.
    color: brightness and contrast change by up to this share, each channel by a quarter of it.
    blur: probability of a Gaussian blur of 0.3 to 2 pixels.
    cutout: a black rectangle with sides of up to this share of the image's; its labels stay.
    crop: height and width of what is cut out; None: the size of the image.
    max_class: largest share of one class in the crop; up to 10 are drawn to find one.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    flip_vertical: float = 0.0
    rotation: float = 0.0
    color: float = 0.0
    blur: float = 0.0
    cutout: float = 0.0
    crop: tuple[int, int] | None = None
    max_class: float = 1.0

    def check(self, sizes: Sequence[tuple[int, int]]) -> None:
        """ConfigError when no image of these sizes (height, width) is as large as the crop, or they need one."""
        largest = [max(size[side] for size in sizes) for side in (0, 1)]
        if self.crop is not None and (self.crop[0] > largest[0] or self.crop[1] > largest[1]):
            raise ConfigError(
                f"train.augment.crop is {list(self.crop)}, the largest prepared image is {largest}; make it smaller, "
                "or prepare.height and prepare.width larger"
            )
        if self.crop is None and len(sizes) > 1:
            smallest = [min(size[side] for size in sizes) for side in (0, 1)]
            raise ConfigError(
                f"prepared images differ in size, from {smallest} to {largest}, and a batch needs one size; set "
                "train.augment.crop, or prepare.height and prepare.width"
            )

    def __call__(
        self, image: Bytes, labels: Bytes, key: tuple[int, ...], *, factor: float = 1.0
    ) -> tuple[Bytes, Bytes, Bytes]:
        """Changed copies of image (H, W, 3) and label maps (A, H, W).

        Args:
            key: decides, for example (seed, epoch, sample).
            factor: of the size of the result.

        Returns:
            The image with all changes, with those of its geometry alone, and the label maps.
        """
        random = generator(*key)
        zoom, offset_y, offset_x, mirror = random.uniform(*self.scale), *random.random(3)
        gain, shift = random.uniform(-self.color, self.color, 2)
        tint = random.uniform(-self.color / 4, self.color / 4, 3)
        angle = random.uniform(-self.rotation, self.rotation) if self.rotation else 0.0
        turned = bool(self.flip_vertical) and random.random() < self.flip_vertical
        mirrored = bool(mirror < self.flip)
        height, width = self.crop or labels.shape[1:]
        size = max(1, round(height * factor)), max(1, round(width * factor))
        offset = offset_y, offset_x
        for _ in range(TRIES):
            matrix = _matrix(labels.shape[1:], size, zoom * factor, offset, angle, mirrored, turned)
            ids = _warp_labels(labels, matrix, size)
            if self.max_class >= 1 or _largest_share(ids[0]) <= self.max_class:
                break
            offset = random.random(), random.random()
        weak = _warp(image, matrix, size)
        return self._colors(weak, gain, shift, tint, random), weak, ids

    def _colors(self, image: Bytes, gain: float, shift: float, tint: Any, random: np.random.Generator) -> Bytes:
        """Colour, blur and cutout."""
        pixels: Any = image
        if self.color:
            levels = np.arange(256)[:, None] / 255
            table = (levels - 0.5) * (1 + gain) + 0.5 + shift + tint
            pixels = cv2.LUT(pixels, np.round(np.clip(table, 0, 1) * 255).astype(np.uint8)[None])
        if self.blur and random.random() < self.blur:
            pixels = cv2.GaussianBlur(pixels, (0, 0), random.uniform(0.3, 2))
        if self.cutout:
            height, width = (round(side * random.uniform(0, self.cutout)) for side in image.shape[:2])
            top, left = (
                int(random.integers(0, side + 1)) for side in (image.shape[0] - height, image.shape[1] - width)
            )
            pixels = pixels.copy()
            pixels[top : top + height, left : left + width] = 0
        return np.asarray(pixels)


def _matrix(
    given: tuple[int, ...], size: tuple[int, int], zoom: float, offset: tuple[float, float], angle: float,
    mirrored: bool, turned: bool,
) -> NDArray[np.float64]:  # fmt: skip
    """2 x 3, from pixels of the image (x, y) to pixels of the result: turn, zoom, cut, mirror."""
    (height, width), (new_height, new_width) = given, size
    matrix = np.array(
        [[zoom, 0, (new_width - zoom * width) * offset[1]], [0, zoom, (new_height - zoom * height) * offset[0]]]
    )
    if angle:
        turn = np.vstack([cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0), [0, 0, 1]])
        matrix = matrix @ turn
    for axis, wanted, side in ((0, mirrored, new_width), (1, turned, new_height)):
        if wanted:
            matrix[axis] = -matrix[axis]
            matrix[axis, 2] += side - 1
    return matrix


def _is_identity(matrix: NDArray[np.float64], given: tuple[int, ...], size: tuple[int, int]) -> bool:
    return tuple(given) == size and bool((matrix == np.eye(2, 3)).all())


def _warp(image: Bytes, matrix: NDArray[np.float64], size: tuple[int, int]) -> Bytes:
    if _is_identity(matrix, image.shape[:2], size):
        return image
    warped = cv2.warpAffine(image, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(warped)


def _warp_labels(labels: Bytes, matrix: NDArray[np.float64], size: tuple[int, int]) -> Bytes:
    if _is_identity(matrix, labels.shape[1:], size):
        return labels
    options: Any = {"flags": cv2.INTER_NEAREST, "borderMode": cv2.BORDER_CONSTANT, "borderValue": VOID}
    return np.stack([cv2.warpAffine(ids, matrix, size[::-1], **options) for ids in labels])


def _largest_share(ids: Bytes) -> float:
    """Of the most frequent class among the pixels that are not void; 1 where all are."""
    counts = np.bincount(ids.ravel(), minlength=256)[:VOID]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0
