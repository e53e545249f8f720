"""What a rule is fitted on: val images with their probabilities and labels, and pixels drawn from them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segpipe.core.void import VOID
from segpipe.metrics.counts import Counts

MOST = 2**25  # probabilities that are held at once: an eighth of a gigabyte


@dataclass(frozen=True)
class Pixels:
    """Pixels of an image: probabilities (C, P), labels (P,) without void, and how many valid ones it has."""

    probs: NDArray[np.float32]
    target: NDArray[np.uint8]
    valid: int


@dataclass(frozen=True)
class Shown:
    """One image: itself (H, W, 3), probabilities (C, H, W), label map (H, W)."""

    image: NDArray[np.uint8]
    probs: NDArray[np.float32]
    target: NDArray[np.uint8]


class Evidence(ABC):
    """Images that are read when they are asked for. groups: the group of each."""

    groups: Sequence[str]

    @abstractmethod
    def __len__(self) -> int:
        """How many images."""

    @abstractmethod
    def __getitem__(self, position: int) -> Shown:
        """One of them."""

    def pixels(self) -> list[Pixels]:
        """Of every image as many pixels, evenly spaced, as fit into memory together."""
        found: list[Pixels] = []
        for shown in each(self):
            most = max(64, MOST // (len(shown.probs) * len(self)))
            valid = np.flatnonzero(shown.target.ravel() != VOID)
            kept = valid[:: spread(-(-len(valid) // most), shown.target.shape[1])]
            flat = shown.probs.reshape(len(shown.probs), -1)
            found.append(Pixels(np.ascontiguousarray(flat[:, kept]), shown.target.ravel()[kept], len(valid)))
        return found


class Held(Evidence):
    """Images in memory, for the library's users and tests."""

    def __init__(self, images: Sequence[Shown], groups: Sequence[str] | None = None) -> None:
        self.images = images
        self.groups = [str(i) for i in range(len(images))] if groups is None else groups

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Shown:
        return self.images[position]


class Part(Evidence):
    """Some images of another evidence."""

    def __init__(self, whole: Evidence, positions: Sequence[int]) -> None:
        self.whole, self.positions = whole, positions
        self.groups = [whole.groups[i] for i in positions]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, position: int) -> Shown:
        return self.whole[self.positions[position]]


def spread(step: int, width: int) -> int:
    """The least step from `step` on that shares no factor with the width, so that it meets every column of an image."""
    step = max(1, step)
    while math.gcd(step, width) > 1:
        step += 1
    return step


def each(evidence: Evidence) -> Iterator[Shown]:
    """All images, one at a time."""
    return (evidence[i] for i in range(len(evidence)))


def raised(counts: Sequence[NDArray[np.int64]], images: Sequence[Pixels]) -> Counts:
    """Counts of drawn pixels (3, C) of each image, as of all its valid pixels."""
    scaled = []
    for part, pixels in zip(counts, images, strict=True):
        drawn = max(len(pixels.target), 1)
        scaled.append(np.rint(part * (pixels.valid / drawn)).astype(np.int64))
    tp, fp, fn = np.stack(scaled, 1)
    valid = np.array([pixels.valid for pixels in images])
    return Counts(tp, fp, fn, valid, np.zeros_like(valid))
