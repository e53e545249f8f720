"""How the image files of a dataset are read, where a file leaves a choice; a card has to make it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHOICES = "'full' (0 to 65535), 'percentile' (2nd to 98th of each image) or 'window LOW HIGH'"
_WINDOW = re.compile(r"window (\d{1,5}) (\d{1,5})")


@dataclass(frozen=True)
class Reading:
    """depth: how 16 bits a channel become 8, one of `CHOICES`; "": such files are refused. page: which page, from 1,
    of a file that holds several; 0: such files are refused.
    """

    depth: str = ""
    page: int = 0


PLAIN = Reading()


def problem(depth: str) -> str | None:
    """What is wrong with a choice, or None."""
    match = _WINDOW.fullmatch(depth)
    if match and int(match[1]) < int(match[2]) < 2**16:
        return None
    return None if depth in ("", "full", "percentile") else f"depth is '{depth}', wanted {CHOICES}"


def to_8_bits(pixels: NDArray[np.uint16], depth: str) -> NDArray[np.uint8]:
    """Values (H, W, bands) of 16 bits on 0..255, rounded; what lies outside of a window is cut to it.

    depth: "full": 0..65535; "window LOW HIGH": these; "percentile": of each band the 2nd to the 98th percentile of
    the pixels that have data (any band above 0), pixels without data stay 0.
    """
    match = _WINDOW.fullmatch(depth)
    if depth == "percentile":
        return _stretched(pixels)
    low, high = (int(match[1]), int(match[2])) if match else (0, 2**16 - 1)
    table = np.clip((np.arange(2**16) - low) / (high - low) * 255, 0, 255).round().astype(np.uint8)
    found: NDArray[np.uint8] = table[pixels]
    return found


def _stretched(bands: NDArray[np.uint16]) -> NDArray[np.uint8]:
    out = np.zeros(bands.shape, np.uint8)
    known = bands.any(2)
    for band in range(bands.shape[2]) if known.any() else ():
        low, high = np.percentile(bands[..., band][known], (2, 98))
        out[..., band] = np.clip((bands[..., band] - low) / max(high - low, 1) * 255, 0, 255).round()
    out[~known] = 0
    return out
