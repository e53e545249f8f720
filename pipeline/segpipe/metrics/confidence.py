"""Calibration from one pass: confidence against accuracy, NLL, Brier score, risk against coverage.

Confidences are sorted into fine levels that keep their sums, so that any bin count which divides the
levels is exact afterwards, without keeping a pixel: memory does not grow with the number of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.argmax import label_and_confidence
from segpipe.metrics.defined import Floats, divide, number

FLOOR = 1e-12  # smallest probability that enters the NLL
LEVELS = 50400  # of the confidence: divisible by 10, 12, 15, 16, 18, 20, 25, 30, 32, 50, 100
CLASS_LEVELS = 5040  # of each class's probability: divisible by 10, 12, 15, 16, 18, 20, 30
TOLERANCE = 2e-3  # of the sum over classes: what float16 may leave


@dataclass(frozen=True)
class Bins:
    """What is kept of each image.

    pixels, confidence (summed) and correct (N, B); nll and brier (sums over pixels) and sce, sce_jdt
    (of the image, NaN without a valid pixel) (N,).
    """

    pixels: NDArray[np.int64]
    confidence: Floats
    correct: NDArray[np.int64]
    nll: Floats
    brier: Floats
    sce: Floats
    sce_jdt: Floats

    @staticmethod
    def concat(parts: Sequence[Bins]) -> Bins:
        """The images of all parts, one after the other."""
        fields = zip(*(vars(part).values() for part in parts), strict=True)
        return Bins(*(np.concatenate(values) for values in fields))

    def weighted(self, weights: Floats) -> dict[str, Floats]:
        """ece, nll, brier, pooled and averaged over images, under (R, N) weights of the images; NaN undefined."""
        weights = np.asarray(weights, np.float64)
        number = self.pixels.sum(1)
        seen = (number > 0).astype(np.float64)
        total, images = weights @ number, weights @ seen
        gap = self.confidence - self.correct  # (N, B)
        sums = {"ece": np.abs(weights @ gap).sum(1), "nll": weights @ self.nll, "brier": weights @ self.brier}
        of_image = {"ece": np.abs(gap).sum(1), "nll": self.nll, "brier": self.brier}
        found: dict[str, Floats] = {}
        for name, pooled in sums.items():
            found[f"{name}_dataset"] = divide(pooled, total)
            found[f"{name}_image"] = divide(weights @ (of_image[name] / np.maximum(number, 1) * seen), images)
        return found


@dataclass
class Calibration:
    """Collects images one by one; `summarize` and `curves` may be called at any time.

    bins: of ECE and SCE, equal width, [k / bins, (k + 1) / bins), the last one also 1. Counts that
    do not divide 50400 (SCE: 5040) put a level that an edge cuts into the bin of its lower end.
    """

    num_classes: int
    bins: int = 15
    ignore_index: int | None = 255
    levels: Floats = field(init=False)  # (3, LEVELS): pixels, summed confidence, correct
    of_class: Floats = field(init=False)  # (4, C, CLASS_LEVELS): pixels, summed, true, true and predicted
    images: list[Bins] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= CLASS_LEVELS:
            raise ValueError(f"bins is {self.bins}, wanted 1..{CLASS_LEVELS}")
        self.levels = np.zeros((3, LEVELS))
        self.of_class = np.zeros((4, self.num_classes, CLASS_LEVELS))

    def add(self, probs: NDArray[Any], target: NDArray[Any]) -> None:
        """One image: probs (C, H, W) that sum to one over the classes, target (H, W).

        Raises:
            ValueError: shapes differ, a label is no class, or probabilities are not finite or do not sum to one.
        """
        if probs.ndim != 3 or len(probs) != self.num_classes or probs.shape[1:] != target.shape:
            raise ValueError(
                f"probs are {probs.shape} and target is {target.shape}, wanted ({self.num_classes}, H, W) and (H, W)"
            )
        valid = np.ones(target.shape, bool) if self.ignore_index is None else target != self.ignore_index
        index, planes = np.flatnonzero(valid), probs.reshape(self.num_classes, -1)
        true = target[valid].astype(np.int64)
        if true.size and not (true.min() >= 0 and true.max() < self.num_classes):
            raise ValueError(f"labels must be 0..{self.num_classes - 1}")
        self._refuse(planes, index)
        predicted = label_and_confidence(planes[:, None, index])[0][0].astype(np.int64) if index.size else true
        confidence, of_true = (planes[which, index].astype(np.float64) for which in (predicted, true))
        hit = predicted == true
        top = _table(_level(confidence, LEVELS), confidence, (hit,), LEVELS)
        self.levels += top
        folded, squares = np.empty((4, self.num_classes, self.bins)), 0.0
        for k, plane in enumerate(planes):  # one class at a time: memory does not grow with their number
            p, of_class = plane[index].astype(np.float64), true == k
            each = _table(_level(p, CLASS_LEVELS), p, (of_class, of_class & hit), CLASS_LEVELS)
            self.of_class[:, k] += each
            folded[:, k] = _fold(each, self.bins)
            squares += float((p * p).sum())
        here = np.bincount(true, minlength=self.num_classes) > 0
        gaps = [_class_gaps(folded, k) for k in (2, 3)]
        row = _fold(top, self.bins)
        self.images.append(
            Bins(
                pixels=row[None, 0].astype(np.int64),
                confidence=row[None, 1],
                correct=row[None, 2].astype(np.int64),
                nll=np.array([-np.log(np.maximum(of_true, FLOOR)).sum()]),
                brier=np.array([squares - 2 * of_true.sum() + len(true)]),
                sce=np.array([gaps[0][here].mean() if here.any() else np.nan]),
                sce_jdt=np.array([gaps[1][here].mean() if here.any() else np.nan]),
            )
        )

    def _refuse(self, planes: NDArray[Any], index: NDArray[np.int64]) -> None:
        """ValueError unless these are probabilities at the pixels."""
        total, smallest = np.zeros(len(index)), 0.0
        for plane in planes:
            p = plane[index]
            total += p
            smallest = min(smallest, float(p.min(initial=0)))
        if not (np.abs(total - 1) <= TOLERANCE).all():  # NaN fails as well
            raise ValueError(
                f"probabilities must be finite and sum to one over the classes (within {TOLERANCE}); "
                "apply a softmax first"
            )
        if smallest < 0:
            raise ValueError("probabilities must not be negative")

    def merge(self, other: Calibration) -> None:
        """Take over the images of another collection, after one's own."""
        self.levels += other.levels
        self.of_class += other.of_class
        self.images += other.images

    def table(self) -> Bins:
        """The kept rows of all images."""
        if self.images:
            return Bins.concat(self.images)
        none, empty = np.zeros((0, self.bins)), np.zeros(0)
        return Bins(none.astype(np.int64), none, none.astype(np.int64), empty, empty, empty, empty)

    def summarize(self, bins: int | None = None) -> dict[str, float | None]:
        """All scores; `bins` other than the collected count changes the pooled ones alone (image: None).

        ece: weighted gap between confidence and accuracy in equal-width bins (Guo et al. 2017,
        arXiv:1706.04599, eq. 5); sce: the same for the probability of each class, mean over classes
        (Nixon et al. 2019, arXiv:1904.01685; two classes: of class 1; `image`: classes in the label);
        sce_jdt: as JDTLosses counts it, where a class is right only when it is also predicted: high
        even for a perfect model, kept for comparison; ace: equal-mass bins (Nixon et al.); nll: with
        probabilities floored at 1e-12; brier: summed over classes, 0..2; aurc: area under the
        risk-coverage curve (Geifman and El-Yaniv 2017, arXiv:1705.08500).
        """
        count, table = bins or self.bins, self.table()
        found = {key: number(values[0]) for key, values in table.weighted(np.ones((1, len(table.nll)))).items()}
        folded, total = _fold(self.levels, count), self.levels[0].sum()
        found["ece_dataset"] = float(np.abs(folded[1] - folded[2]).sum() / total) if total else None
        classes = slice(1, 2) if self.num_classes == 2 else slice(None)
        by_class = _fold(self.of_class, count)
        for k, name in ((2, "sce"), (3, "sce_jdt")):
            gaps = _class_gaps(by_class, k)
            found[f"{name}_dataset"] = float(gaps[classes].mean()) if total else None
            of_images = getattr(table, name)
            defined = of_images[~np.isnan(of_images)]
            found[f"{name}_image"] = float(defined.mean()) if len(defined) else None
        if count != self.bins:
            found |= dict.fromkeys(("ece_image", "sce_image", "sce_jdt_image"))
        found["ace"] = _equal_mass(self.levels, count) if total else None
        found["aurc"] = _area(self.levels) if total else None
        return found

    def curves(self, points: int = 20) -> dict[str, list[list[float]]]:
        """What diagrams draw: `reliability` rows (pixels, mean confidence, accuracy) of the bins that hold a
        pixel, and `risk` rows (coverage, error among the most confident share).
        """
        pixels, summed, correct = _fold(self.levels, self.bins)
        held = pixels > 0
        reliability = np.stack([pixels[held], summed[held] / pixels[held], correct[held] / pixels[held]], 1)
        kept, errors = (np.cumsum(part[::-1]) for part in (self.levels[0], self.levels[0] - self.levels[2]))
        risk = []
        for share in np.arange(1, points + 1) / points if kept[-1] else ():
            place = int(np.searchsorted(kept, share * kept[-1] * (1 - 1e-12)))
            risk.append([float(kept[place] / kept[-1]), float(errors[place] / kept[place])])
        return {"reliability": reliability.tolist(), "risk": risk}


def calibration(probs: Any, target: Any, *, bins: int = 15, ignore_index: int | None = 255) -> dict[str, float | None]:
    """Calibration scores of probs (N, C, H, W) against target (N, H, W), numpy or torch; see `Calibration`.

    Raises:
        ValueError: numbers of images differ, and as `Calibration.add`.
    """
    arrays = [a.detach().cpu().numpy() if hasattr(a, "detach") else np.asarray(a) for a in (probs, target)]
    if arrays[0].ndim != 4 or len(arrays[0]) != len(arrays[1]):
        raise ValueError(f"probs are {arrays[0].shape} and target is {arrays[1].shape}, wanted (N, C, H, W), (N, H, W)")
    collected = Calibration(arrays[0].shape[1], bins=bins, ignore_index=ignore_index)
    for image_probs, image_target in zip(*arrays, strict=True):
        collected.add(image_probs, image_target)
    return collected.summarize()


def _level(p: Floats, levels: int) -> NDArray[np.int64]:
    index: NDArray[np.int64] = np.minimum((p * levels).astype(np.int64), levels - 1)
    return index


def _table(index: NDArray[np.int64], values: Floats, masks: Sequence[NDArray[np.bool_]], size: int) -> Floats:
    parts = [np.bincount(index, minlength=size), np.bincount(index, values, size)]
    parts += [np.bincount(index[mask], minlength=size) for mask in masks]
    return np.stack(parts).astype(np.float64)


def _fold(table: Floats, bins: int) -> Floats:
    """(..., levels) as (..., bins): a level joins the bin of its lower end."""
    levels = table.shape[-1]
    starts = (np.arange(bins) * levels + bins - 1) // bins  # first level whose lower end is in the bin
    folded: Floats = np.add.reduceat(table, starts, axis=-1)
    return folded


def _class_gaps(folded: Floats, right: int) -> Floats:
    """(C,) sum over bins of |summed probability - right| over the number of pixels, of (4, C, bins)."""
    pixels, sums = folded[:2]
    gaps: Floats = np.abs(sums - folded[right]).sum(1) / np.maximum(pixels.sum(1), 1)
    return gaps


def _equal_mass(levels: Floats, bins: int) -> float:
    """Gap in bins of equal numbers of pixels (the first N mod bins hold one more); ties within a level
    are shared among the bins that it reaches into.
    """
    total = int(levels[0].sum())
    held = levels[:, levels[0] > 0]
    ends = np.concatenate([[0], np.cumsum(held[0])])
    sizes = np.full(bins, total // bins) + (np.arange(bins) < total % bins)
    edges = np.concatenate([[0], np.cumsum(sizes)])
    gap = np.interp(edges, ends, np.concatenate([[0], np.cumsum(held[1] - held[2])]))
    return float(np.abs(np.diff(gap)).sum() / total)


def _area(levels: Floats) -> float:
    """Mean over pixels, most confident first, of the error rate up to there; a level is one step."""
    kept, errors = np.cumsum(levels[0][::-1]), np.cumsum((levels[0] - levels[2])[::-1])
    return float((levels[0][::-1] * errors / np.maximum(kept, 1)).sum() / kept[-1])
