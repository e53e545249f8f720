"""What decides how a data set is best trained on: how many images, how large, which classes are rare or thin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.data import catalog
from segpipe.data.catalog import SPLITS, Card, Sample
from segpipe.data.decode import size_of

SEEN = 48  # train images whose labels are looked at, evenly spaced


@dataclass(frozen=True)
class Fingerprint:
    """Facts of a data set.

    images: by split. sizes: (height, width) of every train image. classes: their names. share: of the labelled pixels
    that are of a class. thickness: of what is of a class, in pixels;
    0 where no image seen holds it. upright: how far the upper half of images differs from the lower one, as the share
    of pixels that would have to change class.
    """

    images: dict[str, int]
    sizes: list[tuple[int, int]]
    classes: list[str]
    share: list[float]
    thickness: list[float]
    upright: float

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in the middle."""
        return round(median(h for h, _ in self.sizes)), round(median(w for _, w in self.sizes))

    @property
    def uniform(self) -> bool:
        """Whether all images have one size."""
        return len(set(self.sizes)) == 1

    @property
    def thinnest(self) -> int:
        """The class of the thinnest things, among those that are there."""
        there = [k for k, width in enumerate(self.thickness) if width > 0]
        return min(there, key=lambda k: self.thickness[k])

    @property
    def hard(self) -> int:
        """The class that is expected to be learned worst: thin against a pixel of the network, and rare."""
        there = [k for k, share in enumerate(self.share) if share > 0]
        return min(there, key=lambda k: self.thickness[k] * self.share[k] ** 0.25)


def measure(card: Card, root: Path, samples: Sequence[Sample]) -> Fingerprint:
    """The fingerprint of a data set in a folder.

    Raises:
        DataError: no train images, or a mask that cannot be read.
    """
    trained = [sample for sample in samples if sample.split == "train"]
    images = {split: sum(sample.split == split for sample in samples) for split in SPLITS}
    sizes = [size_of(root / sample.image, card.reading.page) for sample in trained]
    pixels, borders = np.zeros(card.num_classes), np.zeros(card.num_classes)
    halves = np.zeros((2, card.num_classes))
    seen = trained[:: max(1, len(trained) // SEEN)][:SEEN]
    for sample in seen:
        labels = catalog.read_labels(root, sample, card, "majority" if len(sample.labels) > 1 else "annotator 1")
        middle = len(labels) // 2
        for half, part in zip(halves, (labels[:middle], labels[middle:]), strict=True):
            half += np.bincount(part.ravel(), minlength=256)[: card.num_classes]
        counted = np.bincount(labels.ravel(), minlength=256)[: card.num_classes]
        pixels += counted
        borders += _borders(labels, card.num_classes)
    if not pixels.any():
        raise DataError(f"the labels of {len(seen)} train images are void everywhere; look at them with `segpipe show`")
    # A strip of width w and length l has w l pixels and 2 l borders.
    thickness = np.where(borders > 0, 2 * pixels / np.maximum(borders, 1), np.where(pixels > 0, np.inf, 0))
    upper, lower = halves / np.maximum(halves.sum(1, keepdims=True), 1)
    return Fingerprint(
        images, sizes, card.classes, list(pixels / pixels.sum()),
        [float(width) for width in thickness], float(np.abs(upper - lower).sum() / 2),
    )  # fmt: skip


def _borders(labels: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """(C,) pairs of neighbouring pixels, of which one is of a class and the other is not."""
    found = np.zeros(256, np.int64)
    for one, other in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
        differ = one != other
        found += np.bincount(one[differ], minlength=256) + np.bincount(other[differ], minlength=256)
    return found[:classes]
