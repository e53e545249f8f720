"""How members differ: pairs that err on the same pixels add little to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.void import VOID


@dataclass(frozen=True)
class Pairs:
    """Pixels of each pair of members (M, M), int64: `differ` in label, `both_wrong`; valid: all that count.

    The diagonal of both_wrong holds each member's own errors (Kuncheva and Whitaker 2003, double fault).
    """

    differ: NDArray[np.int64]
    both_wrong: NDArray[np.int64]
    valid: int

    @staticmethod
    def of(labels: Sequence[NDArray[Any]], target: NDArray[Any]) -> Pairs:
        """From the members' label maps (H, W) and the target (H, W), 255 void."""
        valid = target != VOID
        maps = np.stack([member[valid] for member in labels])
        wrong = maps != target[valid]
        count = len(maps)
        differ, both = np.zeros((count, count), np.int64), np.zeros((count, count), np.int64)
        for i in range(count):
            for j in range(i + 1):
                differ[i, j] = differ[j, i] = np.count_nonzero(maps[i] != maps[j])
                both[i, j] = both[j, i] = np.count_nonzero(wrong[i] & wrong[j])
        return Pairs(differ, both, int(np.count_nonzero(valid)))

    @staticmethod
    def total(parts: Sequence[Pairs]) -> Pairs:
        """Of all images together."""
        return Pairs(
            np.sum([p.differ for p in parts], 0), np.sum([p.both_wrong for p in parts], 0), sum(p.valid for p in parts)
        )

    def shares(self) -> dict[str, list[list[float]]]:
        """Both tables as shares of the valid pixels; zeros without one."""
        number = max(1, self.valid)
        return {"differ": (self.differ / number).tolist(), "both_wrong": (self.both_wrong / number).tolist()}
