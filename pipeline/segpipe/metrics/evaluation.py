"""All scores of a set of images, collected one by one: memory holds rows of numbers, never pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.argmax import label_and_confidence
from segpipe.core.void import VOID
from segpipe.metrics import temperature as scaling
from segpipe.metrics.boundary import bf_scores, boundary_counts, surface_distances, trimap_counts
from segpipe.metrics.confidence import Calibration
from segpipe.metrics.counts import Counts, count
from segpipe.metrics.defined import Floats, mean, number
from segpipe.metrics.jackknife import LEVEL, Tables, Units, intervals
from segpipe.metrics.measures import DEFAULT
from segpipe.metrics.raters import ged, thresholded_dice
from segpipe.metrics.scores import foreground, per_image, summarize

HEADLINE = ("acc", "miou_dataset", "miou_image", "miou_class", "miou_image_q5", "ece_dataset", "nll_dataset")


@dataclass(frozen=True)
class Options:
    """What is computed; see `summarize`, `Calibration` and `metrics.boundary` for the meaning."""

    bins: int = 15
    quantiles: Sequence[float] = (1, 5)
    thresholds: Sequence[float] = (0.5, 0.7)
    trimap: Sequence[int] = (1, 2, 4, 8, 16)
    boundary: float = 0.02
    surface: bool = False
    measures: Sequence[str] = DEFAULT


@dataclass
class Evaluation:
    """Collects images; `scores` may be asked at any time.

    temperature: where given, calibration is collected a second time with the logits divided by it.
    """

    num_classes: int
    options: Options = field(default_factory=Options)
    temperature: float | None = None
    counted: list[Counts] = field(init=False, default_factory=list)
    accepted: list[Counts] = field(init=False, default_factory=list)  # rejected pixels void
    near: dict[int, list[Counts]] = field(init=False, default_factory=lambda: defaultdict(list))
    bands: list[Counts] = field(init=False, default_factory=list)
    contours: list[Floats] = field(init=False, default_factory=list)
    surfaces: list[dict[str, Floats]] = field(init=False, default_factory=list)
    by_rater: list[list[Counts]] = field(init=False, default_factory=list)
    disagreement: dict[str, list[float]] = field(init=False, default_factory=lambda: defaultdict(list))
    calibration: Calibration | None = field(init=False, default=None)
    calibrated: Calibration | None = field(init=False, default=None)

    def add(
        self,
        target: NDArray[Any],
        *,
        labels: NDArray[Any] | None = None,
        probs: NDArray[Any] | None = None,
        raters: Sequence[NDArray[Any]] = (),
    ) -> NDArray[Any]:
        """One image: target (H, W), 255 void; labels (H, W), 255 rejected, or probs (C, H, W), or both.

        raters: the label maps of several annotators. Returns the predicted labels.

        Raises:
            ValueError: shapes differ, values out of range, or neither labels nor probabilities.
        """
        if labels is None:
            if probs is None:
                raise ValueError("an image came without labels and without probabilities")
            labels = label_and_confidence(np.where(target == VOID, 0, probs))[0]
        c = self.num_classes
        counts = count(labels[None], target[None], c)
        self.counted.append(counts)
        self.accepted.append(
            count(labels[None], np.where(labels == VOID, VOID, target)[None], c) if counts.rejected.any() else counts
        )
        for width, part in trimap_counts(labels, target, c, self.options.trimap).items():
            self.near[width].append(part)
        self.bands.append(boundary_counts(labels, target, c, share=self.options.boundary))
        self.contours.append(bf_scores(labels, target, c))
        if self.options.surface:
            self.surfaces.append(_surfaces(labels, target, c))
        if len(raters) > 1:
            self._disagreements(labels, probs, raters)
        if probs is not None:
            self._calibrate(probs, target)
        return labels

    def merge(self, other: Evaluation) -> None:
        """Take over the images of another collection, after one's own; as if they had been added here."""
        for name in ("counted", "accepted", "bands", "contours", "surfaces", "by_rater"):
            getattr(self, name).extend(getattr(other, name))
        numbers = sorted({len(raters) for raters in self.by_rater})
        if len(numbers) > 1:
            raise ValueError(f"images have {' and '.join(map(str, numbers))} annotators, wanted as many of each")
        for width, parts in other.near.items():
            self.near[width].extend(parts)
        for name, values in other.disagreement.items():
            self.disagreement[name].extend(values)
        for name in ("calibration", "calibrated"):
            own, theirs = getattr(self, name), getattr(other, name)
            if own is None:
                setattr(self, name, theirs)
            elif theirs is not None:
                own.merge(theirs)

    def _disagreements(self, labels: NDArray[Any], probs: NDArray[Any] | None, raters: Sequence[NDArray[Any]]) -> None:
        if self.by_rater and len(self.by_rater[0]) != len(raters):
            raise ValueError(f"an image has {len(raters)} annotators, wanted the {len(self.by_rater[0])} of the others")
        self.by_rater.append([count(labels[None], rater[None], self.num_classes) for rater in raters])
        self.disagreement["ged"].append(ged([labels], raters, self.num_classes))
        if probs is not None:
            present = [k for k in range(self.num_classes) if any((rater == k).any() for rater in raters)]
            void = [rater == VOID for rater in raters]
            scores = [thresholded_dice(probs[k], [rater == k for rater in raters], void=void) for k in present]
            self.disagreement["thresholded_dice"].append(float(np.mean(scores)) if scores else np.nan)

    def _calibrate(self, probs: NDArray[Any], target: NDArray[Any]) -> None:
        if self.calibration is None:
            self.calibration = Calibration(self.num_classes, self.options.bins)
        self.calibration.add(probs, target)
        if self.temperature is not None:
            if self.calibrated is None:
                self.calibrated = Calibration(self.num_classes, self.options.bins)
            self.calibrated.add(scaling.apply(probs, self.temperature), target)

    @property
    def tables(self) -> Tables:
        """What can be scored under weights of the images."""
        counts = Counts.concat(self.counted)
        return Tables(counts, None if self.calibration is None else self.calibration.table())

    def scores(self, groups: Sequence[str], folds: int = 1) -> dict[str, Any]:
        """All scores, nested where they are not one number; intervals of the headline ones.

        folds: of a cross-validation that made the predictions.
        """
        options, tables = self.options, self.tables
        chosen: dict[str, Any] = {
            "quantiles": options.quantiles, "thresholds": options.thresholds, "measures": options.measures
        }  # fmt: skip
        found = summarize(tables.counts, **chosen)
        if self.calibration is not None:
            found |= self.calibration.summarize()
        units = Units.of(groups, folds)
        found["intervals"] = {
            "unit": units.unit,
            "units": units.number,
            "level": LEVEL,
            "caution": units.caution,
            "scores": intervals(tables, groups, HEADLINE, folds=folds),
        }
        found["coverage"] = tables.counts.coverage
        if tables.counts.rejected.any():
            found["accepted"] = _flat(summarize(Counts.concat(self.accepted), **chosen))
        if self.num_classes == 2:
            found["foreground"] = foreground(tables.counts)
        found["borders"] = self._borders()
        if self.by_rater:
            found["raters"] = self._raters()
        if self.calibrated is not None:
            found["calibrated"] = self.calibrated.summarize()
        return found

    def _borders(self) -> dict[str, Any]:
        band, contours = _flat(summarize(Counts.concat(self.bands))), np.stack(self.contours)
        found: dict[str, Any] = {
            f"boundary_iou_{average}": band[f"miou_{average}"] for average in ("dataset", "image", "class")
        }
        found["bf_image"], found["bf_class"] = number(mean(mean(contours, 1))), number(mean(mean(contours, 0)))
        widths = {width: summarize(Counts.concat(parts)) for width, parts in self.near.items()}
        found["trimap_miou_dataset"] = {str(width): scores["miou_dataset"] for width, scores in widths.items()}
        for name in self.surfaces[0] if self.surfaces else ():
            table = np.stack([row[name] for row in self.surfaces])
            found[f"{name}_class"] = number(mean(mean(table, 0)))
            labelled = Counts.concat(self.counted)
            pairs = labelled.tp + labelled.fn > 0
            found[f"{name}_undefined"] = int((np.isnan(table) & pairs).sum())  # classes of the label never predicted
        return found

    def _raters(self) -> dict[str, Any]:
        each = [summarize(Counts.concat(parts)) for parts in zip(*self.by_rater, strict=True)]
        found: dict[str, Any] = {"miou_dataset": [scores["miou_dataset"] for scores in each]}
        return found | {name: number(mean(np.array(values))) for name, values in self.disagreement.items()}

    def image_rows(self) -> list[dict[str, float | None]]:
        """One row an image: the means over its classes, calibration, borders."""
        counts, contours = self.tables.counts, np.stack(self.contours)
        columns: dict[str, Any] = {"valid": counts.valid, "rejected": counts.rejected}
        columns |= {f"m{metric}": per_image(counts, metric) for metric in self.options.measures}
        columns |= {"boundary_iou": per_image(Counts.concat(self.bands)), "bf": mean(contours, 1)}
        if self.calibration is not None:
            bins = self.calibration.table()
            pixels = np.where(counts.valid > 0, counts.valid, np.nan)
            columns |= {
                "nll": bins.nll / pixels,
                "brier": bins.brier / pixels,
                "sce": bins.sce,
                "sce_jdt": bins.sce_jdt,
            }
        return [
            {
                name: int(values[i]) if name in ("valid", "rejected") else number(values[i])
                for name, values in columns.items()
            }
            for i in range(len(counts))
        ]


def _flat(scores: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in scores.items() if key != "per_class"}


def _surfaces(labels: NDArray[Any], target: NDArray[Any], num_classes: int) -> dict[str, Floats]:
    """(C,) distances of each class on valid pixels; NaN where it is empty on a side."""
    found = {name: np.full(num_classes, np.nan) for name in ("hd", "hd95", "assd")}
    for k in np.unique(target[target != VOID]):
        for name, value in surface_distances(labels == k, target == k, target == VOID).items():
            found[name][k] = np.nan if value is None else value
    return found
