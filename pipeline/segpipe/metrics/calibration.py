"""Calibration from one table of bins per image: confidence against accuracy, NLL, Brier score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FLOOR = 1e-12  # smallest probability that enters the NLL


@dataclass(frozen=True)
class Bins:
    """Per image: pixels, summed confidence and correct pixels of each bin (N, B); NLL and Brier sums (N,)."""

    pixels: NDArray[np.int64]
    confidence: Floats
    correct: NDArray[np.int64]
    nll: Floats
    brier: Floats

    @staticmethod
    def of_image(probs: NDArray[Any], target: NDArray[Any], *, bins: int = 15, ignore_index: int | None = 255) -> Bins:
        """Bin one image: probs (C, H, W) summing to one, target (H, W).

        Bin k holds confidences in [k / bins, (k + 1) / bins), the last one also 1.

        Raises:
            ValueError: shapes differ, or probabilities are not finite or do not sum to one.
        """
        if probs.ndim != 3 or probs.shape[1:] != target.shape:
            raise ValueError(f"probs are {probs.shape} and target is {target.shape}, wanted (C, H, W) and (H, W)")
        valid = np.ones(target.shape, bool) if ignore_index is None else target != ignore_index
        p = probs[:, valid].astype(np.float64)  # (C, P)
        true = target[valid].astype(np.int64)
        totals = p.sum(0)
        if p.size and not (np.abs(totals - 1) <= 2e-3).all():  # NaN fails as well
            raise ValueError(
                "probabilities must be finite and sum to one over the classes (within 0.002); apply a softmax first"
            )
        confidence, predicted = p.max(0, initial=0.0), p.argmax(0) if p.size else true
        index = np.minimum((confidence * bins).astype(np.int64), bins - 1)
        of_true = p[true, np.arange(len(true))]
        return Bins(
            pixels=np.bincount(index, minlength=bins)[None].astype(np.int64),
            confidence=np.bincount(index, weights=confidence, minlength=bins)[None].astype(np.float64),
            correct=np.bincount(index[predicted == true], minlength=bins)[None].astype(np.int64),
            nll=np.array([-np.log(np.maximum(of_true, FLOOR)).sum()]),
            brier=np.array([(p * p).sum() - 2 * of_true.sum() + len(true)]),
        )

    @staticmethod
    def concat(parts: Sequence[Bins]) -> Bins:
        """The images of all parts, one after the other."""
        fields = zip(*((b.pixels, b.confidence, b.correct, b.nll, b.brier) for b in parts), strict=True)
        return Bins(*(np.concatenate(field) for field in fields))

    def summarize(self) -> dict[str, float | None]:
        """ece, nll and brier (0..2), pooled over the pixels (`dataset`) and averaged over images (`image`)."""
        pixels = self.pixels.sum(1)
        seen = pixels > 0
        gaps = np.abs(self.confidence - self.correct).sum(1)[seen] / pixels[seen]
        pooled_gap = np.abs(self.confidence.sum(0) - self.correct.sum(0)).sum()
        total = pixels.sum()
        return {
            "ece_dataset": float(pooled_gap / total) if total else None,
            "ece_image": float(gaps.mean()) if seen.any() else None,
            "nll_dataset": float(self.nll.sum() / total) if total else None,
            "nll_image": float((self.nll[seen] / pixels[seen]).mean()) if seen.any() else None,
            "brier_dataset": float(self.brier.sum() / total) if total else None,
            "brier_image": float((self.brier[seen] / pixels[seen]).mean()) if seen.any() else None,
        }


def calibration(probs: Any, target: Any, *, bins: int = 15, ignore_index: int | None = 255) -> dict[str, float | None]:
    """Calibration scores of probs (N, C, H, W) against target (N, H, W), numpy or torch.

    Expected calibration error (Guo et al. 2017, arXiv:1706.04599) with equal-width bins, negative
    log likelihood with probabilities floored at 1e-12, Brier score summed over classes.
    """
    arrays = [a.detach().cpu().numpy() if hasattr(a, "detach") else np.asarray(a) for a in (probs, target)]
    images = zip(*arrays, strict=True)
    return Bins.concat([Bins.of_image(p, t, bins=bins, ignore_index=ignore_index) for p, t in images]).summarize()
