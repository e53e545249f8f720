"""Learning rates as functions of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

NAMES = ("constant", "cosine", "polynomial")


def factor(name: str, step: int, steps: int, *, warmup: int = 0) -> float:
    """Share of the base learning rate at `step` (0-based) of `steps`.

    >>> factor("polynomial", 0, 10), factor("constant", 3, 10)
    (1.0, 1.0)
    >>> round(factor("cosine", 5, 10), 6)
    0.5
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    if name == "polynomial":
        return float((1 - progress) ** 0.9)
    if name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1.0
