"""JML, DML and CTL between any two non-negative vectors or maps.

>>> import torch
>>> x = torch.tensor([0.2, 0.7])
>>> float(jml(x, x))
0.0
"""

from __future__ import annotations

import torch
from torch import Tensor

from segpipe.core.regions import Regions


def jml(x: Tensor, y: Tensor) -> Tensor:
    """Jaccard metric loss 1 - |min| / |max| over all elements: a metric on non-negative vectors."""
    return ctl(x, y, alpha=1.0, beta=1.0)


def dml(x: Tensor, y: Tensor) -> Tensor:
    """Dice semimetric loss |x - y| / (|x| + |y|) over all elements."""
    return ctl(x, y, alpha=0.5, beta=0.5)


def ctl(x: Tensor, y: Tensor, *, alpha: float = 0.3, beta: float = 0.7) -> Tensor:
    """Compatible Tversky loss over all elements; zero when both are zero.

    Raises:
        ValueError: when the shapes differ or a value is negative.
    """
    if x.shape != y.shape:
        raise ValueError(f"x is {tuple(x.shape)} and y is {tuple(y.shape)}, wanted equal shapes")
    if bool((x < 0).any()) or bool((y < 0).any()):
        raise ValueError("x and y must not be negative; pass probabilities or counts")
    tp = torch.minimum(x, y).sum(dtype=torch.float64)
    masses = Regions(
        *(part.reshape(1, 1) for part in (tp, x.sum(dtype=torch.float64) - tp, y.sum(dtype=torch.float64) - tp))
    )
    loss = 1 - masses.tversky(alpha, beta)
    return loss.reshape(()).to(torch.float64 if x.dtype == torch.float64 else torch.float32)
