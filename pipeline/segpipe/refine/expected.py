"""Labels of the largest expected IoU or Dice of an image, from its probabilities alone.

Taking pixels as independent, the best set of n pixels of a class are its n most probable ones (Dai and Li 2023, JMLR
24:224), so a class has one threshold. With S the probability mass inside the set and `out` what lies outside,

    E IoU(n)  = S E[1 / (n + out)],
    E Dice(n) = sum over the set of 2 p E[1 / (n + 1 + all others)],

and the expectation of a reciprocal of a sum of many is 1 / (a + m) + v / (a + m)^3 by its mean m and variance v.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segpipe.core.opencv import cv2
from segpipe.refine.evidence import spread

Values = NDArray[np.float64]
_DIGITS = 7  # binary, behind the leading one of a probability: all that the upper half of a float holds
_FIRST = (127 - 20) << _DIGITS  # the code of 2^-20; what is less probable is left out
_CODES = (20 << _DIGITS) + 1  # up to 1
_ENOUGH = 2**15  # pixels of an image that are looked at, evenly spaced


def thresholds(probs: NDArray[np.floating], metric: str) -> NDArray[np.float32]:
    """(C,) the least probability of each class's best set, from probs (C, ...).

    metric: iou or dice. An image that does not hold a class does not count for it, so no set is empty.

    Raises:
        ValueError: another metric.
    """
    if metric not in ("iou", "dice"):
        raise ValueError(f"metric is {metric!r}, wanted iou or dice")
    return np.array([_threshold(np.asarray(plane, np.float32), metric) for plane in probs], np.float32)


def _threshold(plane: NDArray[np.float32], metric: str) -> float:
    """Over all sets of the pixels whose probability is at least some value, values lying 1/128 to 1/256 apart."""
    some = plane.reshape(-1)[:: spread(plane.size // _ENOUGH, plane.shape[-1])]
    histogram = cv2.calcHist([_upper(some)[None]], [0], None, [_CODES], [_FIRST, _FIRST + _CODES])
    counts = histogram.ravel().astype(np.float64)
    used = np.flatnonzero(counts)[::-1]  # the most probable first
    if not len(used):
        return 1.0
    number = counts[used]
    value = _VALUES[used]
    inside, mass = np.cumsum(number), np.cumsum(number * value)
    variances = np.cumsum(number * value * (1 - value))
    if metric == "iou":
        mean, variance = mass[-1] - mass, variances[-1] - variances
        scores = mass * reciprocal(inside, mean, variance)
    else:
        # Of each pixel all others are what is left; the pixels of the set are taken as one, by their mean.
        own = mass / inside
        mean, variance = mass[-1] - own, variances[-1] - own * (1 - own)
        scores = 2 * mass * reciprocal(inside + 1, mean, variance)
    return float(_EDGES[used[int(scores.argmax())]])


def _upper(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves of floats: sign, exponent and 7 binary digits. Those of no negative floats rise as they do."""
    whole = np.ascontiguousarray(values).view(np.uint32)
    return (whole >> np.uint32(16)).astype(np.uint16)


def reciprocal(a: Values, mean: Values, variance: Values) -> Values:
    """E[1 / (a + X)] to the second order in a sum X of many independent bits."""
    found: Values = 1 / (a + mean) + np.maximum(variance, 0) / (a + mean) ** 3
    return found


_EDGES = ((np.arange(_CODES, dtype=np.uint32) + _FIRST) << np.uint32(23 - _DIGITS)).view(np.float32)
_VALUES = np.minimum(_EDGES.astype(np.float64) * (1 + 0.5 / 2**_DIGITS), 1)  # the middle of its values
