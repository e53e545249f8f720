"""Class frequencies of the training labels and the class weights that follow from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SCHEMES = ("inverse", "median_frequency", "enet", "effective_number", "square_root", "frequencies")


def class_weights(
    pixels: Sequence[int], pixels_of_images_with: Sequence[int], total: int, *, effective_beta: float = 0.999999
) -> dict[str, list[float]]:
    """Every class-weight scheme by name; a class without a pixel gets weight 0.

    Args:
        pixels: (C,) pixels of each class in the original train masks.
        pixels_of_images_with: (C,) pixels, void included, of the images that contain the class.
        total: all pixels, void included.
        effective_beta: beta of the effective number of samples (Cui et al. 2019,
            arXiv:1901.05555, eq. 2).

    `median_frequency` (Eigen and Fergus 2015, arXiv:1411.4734) and `enet` (Paszke et al. 2016,
    arXiv:1606.02147, 1 / ln(1.02 + p)) keep their papers' scale; the others, defined up to a
    factor, have mean 1 over the classes that occur. `frequencies` are no weights but what a loss
    takes as `prior`.
    """
    n = np.asarray(pixels, np.float64)
    present = n > 0
    share = n / max(total, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        frequency = n / np.asarray(pixels_of_images_with, np.float64)
        median = np.median(frequency[present]) if present.any() else 0.0
        effective = (1 - effective_beta) / -np.expm1(n * np.log(effective_beta))
        weights = {
            "inverse": _mean_one(1 / share, present),
            "median_frequency": median / frequency,
            "enet": 1 / np.log(1.02 + share),
            "effective_number": _mean_one(effective, present),
            "square_root": _mean_one(1 / np.sqrt(share), present),
            "frequencies": share,
        }
    return {name: [float(w) for w in np.where(present, values, 0.0)] for name, values in weights.items()}


def _mean_one(values: Floats, present: NDArray[np.bool_]) -> Floats:
    """Scaled to mean 1 over the classes that occur."""
    scale: float = values[present].mean() if present.any() else 1.0
    return values / scale
