"""Cross-validation where the truth is known: two learners that see other halves of the evidence and are equally good.

An image is a set of pixels of two classes with ten measurements each, which every image shifts in its own way. One
learner is least squares on the first five, the other on the last five. The folds' networks share training images, so
their errors are not independent, which is what the correction is for.
"""

from __future__ import annotations

import numpy as np

from segpipe.data import folds
from segpipe.metrics import Counts, Tables

FEATURES = 10
PIXELS = 40


def images(number: int, random: np.random.Generator, separation: float = 0.35) -> tuple[np.ndarray, np.ndarray]:
    """Measurements (images, pixels, 10) and labels (images, pixels)."""
    labels = np.tile(np.arange(PIXELS) % 2, (number, 1))
    shift = random.normal(0, 0.6, (number, 1, FEATURES))
    noise = random.standard_normal((number, PIXELS, FEATURES))
    return separation * (2 * labels[..., None] - 1) + shift + noise, labels


def crossed(number: int, parts: int, random: np.random.Generator) -> tuple[dict[str, list[Tables]], list[str]]:
    """The tables of both learners, every image scored once by the fit that left out its fold."""
    x, y = images(number, random)
    groups = [f"g{i:03d}" for i in range(number)]
    assigned = np.array(folds.assign(groups, parts))
    found = {}
    for name, half in (("first", slice(0, 5)), ("second", slice(5, 10))):
        right = np.zeros((number, PIXELS), bool)
        for fold in range(parts):
            inside = assigned == fold
            right[inside] = _predict(x[~inside][..., half], y[~inside], x[inside][..., half]) == y[inside]
        found[name] = [_tables(right, y)]
    return found, groups


def _predict(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    features = x.reshape(-1, x.shape[-1])
    design = np.c_[features, np.ones(len(features))]
    weights = np.linalg.lstsq(design, 2.0 * y.ravel() - 1, rcond=None)[0]
    return (new @ weights[:-1] + weights[-1] > 0).astype(int)


def _tables(right: np.ndarray, y: np.ndarray) -> Tables:
    tp = np.stack([(right & (y == k)).sum(1) for k in range(2)], 1)
    fn = np.stack([(~right & (y == k)).sum(1) for k in range(2)], 1)
    valid = (tp + fn).sum(1)
    return Tables(Counts(tp, fn[:, ::-1].copy(), fn, valid, np.zeros(len(y), np.int64)))
