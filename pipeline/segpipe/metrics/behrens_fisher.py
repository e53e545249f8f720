"""The sum of two t variables: what a difference may be off by when images and training both vary.

With independent variances of images (v degrees of freedom) and of seeds (w degrees), a difference is judged by
|sqrt(V_images) t_v + sqrt(V_seeds) t_w|: Behrens 1929, Fisher 1935. One t with combined degrees of freedom
(Satterthwaite) covers .83 to .94 instead of .95 with two seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, stdtr, stdtrit

from segpipe.metrics.defined import Floats

_ANGLES = 65  # of the table of quantiles, linear between them
_NODES = 161  # of a standard normal variable over which the smaller part is integrated
_MORE = 2401  # with one or two degrees of freedom, where t grows so fast that few nodes make p a staircase
_HALVINGS = 32


@dataclass(frozen=True)
class Freedom:
    """Degrees of freedom of both variances; `seeds` 0: there is no part of seeds."""

    images: float
    seeds: float = 0


def p_values(ratios: Floats, angles: Floats, freedom: Freedom) -> Floats:
    """Two-sided p of differences of `ratios` standard errors.

    Args:
        ratios: |difference| / sqrt(V_images + V_seeds), (n,).
        angles: atan(sqrt(V_seeds / V_images)), (n,), 0 to pi / 2.
        freedom: of both variances.
    """
    ratios, angles = np.broadcast_arrays(np.asarray(ratios, float), np.asarray(angles, float))
    if not freedom.seeds:
        alone: Floats = 2 * stdtr(freedom.images, -np.abs(ratios))
        return alone
    normal = np.linspace(-8.0, 8.0, _MORE if min(freedom.images, freedom.seeds) < 3 else _NODES)
    density = np.exp(-(normal**2) / 2)
    density /= density.sum()
    scales = {"images": np.cos(angles), "seeds": np.sin(angles)}
    found = np.empty(ratios.shape)
    # The smaller part is summed over nodes, the larger one integrated exactly: the integrand is smooth either way.
    for small, large in (("images", "seeds"), ("seeds", "images")):
        chosen = scales[small] <= scales[large] if small == "images" else scales[small] < scales[large]
        nodes = stdtrit(getattr(freedom, small), ndtr(-np.abs(normal))) * -np.sign(normal)
        reached = np.abs(ratios[chosen])[:, None] - scales[small][chosen][:, None] * nodes
        found[chosen] = 2 * stdtr(getattr(freedom, large), -reached / scales[large][chosen][:, None]) @ density
    return np.minimum(found, 1.0)


def quantiles(angles: Floats, freedom: Freedom, alpha: float) -> Floats:
    """How many standard errors a difference must have for a two-sided p of `alpha`; the arguments of `p_values`."""
    table = _table(freedom, alpha)
    found: Floats = np.interp(angles, np.linspace(0, math.pi / 2, _ANGLES), table)
    return found


@lru_cache(maxsize=256)
def _table(freedom: Freedom, alpha: float) -> Floats:
    """The quantile at each angle, by halving an interval of its logarithm."""
    angles = np.linspace(0, math.pi / 2, _ANGLES)
    low, high = np.full(_ANGLES, -3.0), np.full(_ANGLES, 40.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = p_values(np.exp(middle), angles, freedom) > alpha
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    found: Floats = np.exp((low + high) / 2)
    return found
