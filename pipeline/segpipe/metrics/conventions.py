"""What other tools would print, recomputed from the same counts.

Each function names its tool's numbers as the tool does. They differ in what an absent class scores,
in what is averaged first, and in whether a class that was only predicted counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.metrics.counts import Counts
from segpipe.metrics.defined import Floats, divide, mean, number
from segpipe.metrics.scores import per_image, per_pair

Scores = dict[str, float | None]


def mmseg(counts: Counts) -> Scores:
    """mmsegmentation 1.2 IoUMetric: D only; a class in neither label nor prediction is left out (nanmean)."""
    tp, fp, fn = (part.sum(0) for part in (counts.tp, counts.fp, counts.fn))
    return {
        "aAcc": number(divide(tp.sum(), (tp + fn).sum())),
        "mIoU": number(mean(divide(tp, tp + fp + fn))),
        "mAcc": number(mean(divide(tp, tp + fn))),
        "mDice": number(mean(divide(2 * tp, 2 * tp + fp + fn))),
    }


def smp(counts: Counts) -> Scores:
    """segmentation_models.pytorch 0.6 iou_score, zero_division=1: an absent class scores 1."""
    union = counts.tp + counts.fp + counts.fn
    pooled_tp, pooled_union = counts.tp.sum(0), union.sum(0)
    share = divide((counts.tp + counts.fn).sum(0), (counts.tp + counts.fn).sum())
    return {
        "iou_score(micro)": number(_one(pooled_tp.sum(), pooled_union.sum())),
        "iou_score(macro)": number(mean(_one(pooled_tp, pooled_union))),
        "iou_score(weighted by pixels)": number((_one(pooled_tp, pooled_union) * share).sum()),
        "iou_score(micro-imagewise)": number(mean(_one(counts.tp.sum(1), union.sum(1)))),
        "iou_score(macro-imagewise)": number(mean(_one(counts.tp, union))),
        "iou_score(weighted-imagewise by pixels)": number(mean(_one(counts.tp, union) * share)),
    }


def torchmetrics(counts: Counts) -> Scores:
    """torchmetrics 1.9: MulticlassJaccardIndex is D; segmentation.MeanIoU the mean over all present pairs.

    MeanIoU knows no void; these are its numbers for labels without.
    """
    union = counts.tp + counts.fp + counts.fn
    pooled_tp, pooled_union = counts.tp.sum(0), union.sum(0)
    return {
        "MulticlassJaccardIndex(macro)": number(mean(divide(pooled_tp, pooled_union))),
        "MulticlassJaccardIndex(micro)": number(divide(pooled_tp.sum(), pooled_union.sum())),
        "MeanIoU": number(mean(divide(counts.tp, union))),
    }


def paddle(counts: Counts) -> Scores:
    """PaddleSeg 2.x as its source reads: an absent class has IoU 1, but Dice 0 in the same report."""
    tp, fp, fn = (part.sum(0) for part in (counts.tp, counts.fp, counts.fn))
    return {
        "mIoU": number(mean(_one(tp, tp + fp + fn))),
        "Acc": number(divide(tp.sum(), (tp + fp).sum())),
        "mDice": number(mean(np.nan_to_num(divide(2 * tp, 2 * tp + fp + fn)))),
    }


def monai(counts: Counts) -> Scores:
    """MONAI 1.6 MeanIoU(ignore_empty=True): "mean" is mIoU^I; "mean_batch" mIoU^C, an absent class being 0."""
    of_class = np.nan_to_num(mean(per_pair(counts), 0))
    return {"MeanIoU(mean)": number(mean(per_image(counts))), "MeanIoU(mean_batch), averaged": number(mean(of_class))}


CONVENTIONS: dict[str, Callable[[Counts], Scores]] = {
    function.__name__: function for function in (mmseg, smp, torchmetrics, paddle, monai)
}


def _one(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """0 / 0 is 1."""
    found: Floats = np.where(np.asarray(denominator) > 0, divide(numerator, denominator), 1.0)
    return found
