"""Pixels to fit an ensemble on: drawn per image from a seed of its own, with weights that undo the drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.void import VOID


@dataclass(frozen=True)
class Sample:
    """Pixels of some images. P is their number, M that of the members.

    probs (M, C, P) of the members; target (P,), no void; weight (P,): pixels of its image that a pixel stands
    for; image (P,): the number of its image; place (2, P): row and column from 0 to 1.
    """

    probs: NDArray[np.float32]
    target: NDArray[np.int64]
    weight: NDArray[np.float64]
    image: NDArray[np.int64]
    place: NDArray[np.float32]

    @staticmethod
    def of(probs: NDArray[Any], target: NDArray[Any], positions: NDArray[np.int64], weight: Any, image: int) -> Sample:
        """The pixels at flat `positions` of one image: probs (M, C, H, W), target (H, W)."""
        height, width = target.shape
        rows, columns = np.divmod(positions, width)
        return Sample(
            probs.reshape(*probs.shape[:2], -1)[..., positions].astype(np.float32),
            target.ravel()[positions].astype(np.int64),
            np.broadcast_to(np.asarray(weight, np.float64), positions.shape),
            np.full(positions.shape, image, np.int64),
            np.stack([(rows + 0.5) / height, (columns + 0.5) / width]).astype(np.float32),
        )

    @staticmethod
    def concat(parts: Sequence[Sample]) -> Sample:
        """The pixels of all parts, one after the other."""
        fields = zip(*(vars(part).values() for part in parts), strict=True)
        return Sample(*(np.concatenate(values, -1) for values in fields))

    def __len__(self) -> int:
        return len(self.target)

    @property
    def of_true(self) -> NDArray[np.float32]:
        """(M, P) probability that each member gives to the true class."""
        return np.take_along_axis(self.probs, self.target[None, None], 1)[:, 0]


def uniform(target: NDArray[Any], number: int, seed: int) -> tuple[NDArray[np.int64], float]:
    """At most `number` valid pixels of target (H, W) and the weight of each, so that weights sum to the valid ones."""
    valid = np.flatnonzero(target.ravel() != VOID)
    if len(valid) <= number:
        return valid, 1.0
    drawn = np.random.default_rng(seed).permutation(valid)[:number]  # more pixels keep those that fewer have
    return np.sort(drawn), len(valid) / number


def stratified(target: NDArray[Any], per_class: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """At most `per_class` pixels of each class of target (H, W), and their weights n_c / m_c.

    Rare classes are seen as often as common ones, and the weights keep that from raising their prior.
    """
    flat, random = target.ravel(), np.random.default_rng(seed)
    positions, weights = [np.zeros(0, np.int64)], [np.zeros(0)]
    for label in np.unique(flat[flat != VOID]):
        of_class = np.flatnonzero(flat == label)
        kept = random.permutation(of_class)[:per_class]
        positions.append(np.sort(kept))
        weights.append(np.full(len(kept), len(of_class) / len(kept)))
    return np.concatenate(positions), np.concatenate(weights)
