"""Augmentation: one affine warp of image and labels, one colour table; random by counter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.seeding import generator
from segpipe.core.vision import cv2

VOID = 255


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image; the neutral values switch a part off.

    scale: range of the zoom; above 1 a random crop results, below 1 void padding.
    flip: probability of a mirror image. color: brightness and contrast change by up to this share.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    color: float = 0.0

    def __call__(
        self, image: NDArray[np.uint8], labels: NDArray[np.uint8], key: tuple[int, ...]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A changed copy of image (H, W, 3) and labels (H, W); `key` decides, for example (seed, epoch, sample)."""
        random = generator(*key)
        zoom, offset_y, offset_x, mirror = random.uniform(*self.scale), *random.random(3)
        gain, shift = random.uniform(-self.color, self.color, 2)
        tint = random.uniform(-self.color / 4, self.color / 4, 3)
        height, width = labels.shape
        pixels: Any = image
        ids: Any = labels
        if zoom != 1 or mirror < self.flip:
            matrix = np.array(
                [[zoom, 0, (width - zoom * width) * offset_x], [0, zoom, (height - zoom * height) * offset_y]]
            )
            if mirror < self.flip:
                matrix[0] = -matrix[0]
                matrix[0, 2] += width - 1
            size = (width, height)
            pixels = cv2.warpAffine(pixels, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
            ids = cv2.warpAffine(
                ids, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=VOID
            )
        if self.color:
            levels = np.arange(256)[:, None] / 255
            table = (levels - 0.5) * (1 + gain) + 0.5 + shift + tint
            pixels = cv2.LUT(pixels, np.round(np.clip(table, 0, 1) * 255).astype(np.uint8)[None])
        return pixels, ids
