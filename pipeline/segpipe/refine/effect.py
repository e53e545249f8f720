"""What a refiner did to a set of images: scores before and after, the paired difference, one word for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.metrics.boundary import trimap_counts
from segpipe.metrics.comparison import Difference, compare
from segpipe.metrics.confidence import Bins, Calibration
from segpipe.metrics.counts import Counts, count
from segpipe.metrics.jackknife import Tables
from segpipe.metrics.measures import named_in
from segpipe.metrics.scores import miou_dataset, options_of, summarize

SHOWN = ("acc", "miou_dataset", "miou_image", "miou_class")
CALIBRATED = ("ece_dataset", "nll_dataset", "brier_dataset")


@dataclass(frozen=True)
class Measured:
    """Of one image: counts (1 row), counts near borders (a row a width), calibration (1 row)."""

    counts: Counts
    near: Counts
    bins: Bins

    @staticmethod
    def of(
        labels: NDArray[np.uint8], probs: NDArray[Any], target: NDArray[np.uint8], widths: Sequence[int], bins: int
    ) -> Measured:
        """Of labels (H, W), probs (C, H, W) and target (H, W) with 255 void."""
        c = len(probs)
        calibration = Calibration(c, bins)
        calibration.add(probs, target)
        counts, near = count(labels[None], target[None], c), trimap_counts(labels, target, c, widths)
        return Measured(counts, Counts.concat([counts[:0], *near.values()]), calibration.table())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it holds, by name, for a file."""
        parts = {"counts": self.counts, "near": self.near, "bins": self.bins}
        return {f"{name}.{field}": value for name, part in parts.items() for field, value in vars(part).items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Measured:
        """What `arrays` gave."""
        kinds: dict[str, Any] = {"counts": Counts, "near": Counts, "bins": Bins}
        parts = {name: kind(*(arrays[f"{name}.{f.name}"] for f in fields(kind))) for name, kind in kinds.items()}
        return Measured(**parts)


def effect(
    before: Sequence[Measured],
    after: Sequence[Measured],
    groups: Sequence[str],
    *,
    metric: str,
    widths: Sequence[int],
    quantiles: Sequence[float],
    what: str = "the CRF",
) -> dict[str, Any]:
    """Scores on both sides, paired differences after - before with intervals, and the verdict by `metric`.

    Args:
        what: changed the predictions, in words.

    The same network on both sides: the claim is about it on other images, whatever a new training would give.
    """
    sides = {"before": before, "after": after}
    found: dict[str, Any] = {
        name: _scores(side, metric, widths=widths, quantiles=quantiles) for name, side in sides.items()
    }
    names = list(dict.fromkeys((metric, *SHOWN[1:])))
    tables = {name: [_tables(side)] for name, side in ((f"with {what}", after), ("without it", before))}
    differences = compare(tables, groups, names)
    found["differences"] = {d.metric: _difference(d) for d in differences}
    found["verdict"], found["sentence"] = verdict(differences[0]), differences[0].verdict
    return found


def verdict(difference: Difference) -> str:
    """`helps`, `hurts`, `practically equal` or `undecided`.

    `difference` is with - without the CRF, of a score that is better when larger.
    """
    if not difference.shown or difference.value is None:
        return "practically equal" if difference.word in ("practically equal", "the same") else "undecided"
    return "helps" if difference.value > 0 else "hurts"


def _difference(difference: Difference) -> dict[str, Any]:
    names = ("value", "low", "high", "p", "unit", "units", "caution")
    return {name: getattr(difference, name) for name in names}


def _tables(side: Sequence[Measured]) -> Tables:
    return Tables(Counts.concat([m.counts for m in side]), Bins.concat([m.bins for m in side]))


def _scores(
    side: Sequence[Measured], metric: str, *, widths: Sequence[int], quantiles: Sequence[float]
) -> dict[str, Any]:
    tables = _tables(side)
    own = options_of([metric])
    quantiles = sorted({*quantiles, *own["quantiles"]})
    scores = summarize(
        tables.counts, quantiles=quantiles, thresholds=own["thresholds"], measures=named_in((metric, *SHOWN))
    )
    ones = tables.bins.weighted(np.ones((1, len(side)))) if tables.bins is not None else {}
    worst = [f"miou_{average}_q{q:g}" for average in ("image", "class") for q in quantiles]
    found: dict[str, Any] = {name: scores[name] for name in dict.fromkeys((*SHOWN, *worst, metric)) if name in scores}
    found |= {name: None if np.isnan(ones[name][0]) else float(ones[name][0]) for name in CALIBRATED}
    near = [miou_dataset(Counts.concat([m.near[[i]] for m in side])) for i in range(len(widths))]
    found["trimap_miou_dataset"] = dict(zip(map(str, widths), near, strict=True))
    found["iou_dataset"] = scores["per_class"]["iou_dataset"]
    return found
