"""Logits at the size of the labels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional


def upsample(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear from (N, C, h, w) to (N, C, H, W)."""
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return functional.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
