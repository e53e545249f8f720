"""How scores and their differences are told: names as papers write them, units, direction."""

from __future__ import annotations

import math
import re

LOWER_IS_BETTER = ("ece", "sce", "nll", "brier", "ace", "aurc")  # scores that begin so
_FRACTIONS = ("acc", "macc", "miou", "mdice", "share", "ece", "sce", "ace", "aurc")  # scores from 0 to 1 that begin so
# Scores of tables from elsewhere, whose units and limits nobody knows: how `foreign` calls them.
_HIGHER, _LOWER = "csv:", "csv, lower is better:"
# Words of names of what falls when a method gets better.
_USUALLY_LOWER = {"hd", "hausdorff", "assd", "asd", "msd", "dist", "distance", "ged", "error", "err", "loss", "rmse",
                  "mse", "mae", "rvd", "ravd", "fpr", "fnr", "time", *LOWER_IS_BETTER}  # fmt: skip


def foreign(column: str, *, lower: bool | None = None) -> str:
    """The name under which a score of somebody else's table is compared.

    lower: whether lower is better; None: as the column's name suggests.

    >>> [pretty(foreign(name)) for name in ("Dice", "HD95")]
    ['Dice (higher is better)', 'HD95 (lower is better)']
    """
    words = set(re.split(r"[^a-z]+", column.casefold()))
    falls = bool(words & _USUALLY_LOWER) if lower is None else lower
    return (_LOWER if falls else _HIGHER) + column


def limits(metric: str) -> tuple[float, float]:
    """The least and the largest value of a score, infinite where it is not known."""
    if metric.startswith(("nll", "brier")):
        return 0.0, math.inf
    return (0.0, 1.0) if metric.startswith(_FRACTIONS) else (-math.inf, math.inf)


def scale(metric: str) -> tuple[float, str]:
    """Factor and unit in which a difference is told: points of 100; NLL, Brier and scores of others as they are."""
    return (100.0, " points") if metric.startswith(_FRACTIONS) else (1.0, "")


def digits(factor: float) -> int:
    """Decimals of a told difference."""
    return 1 if factor == 100 else 4


def lower_is_better(metric: str) -> bool:
    """True for errors of calibration, and for scores from elsewhere that fall when a method gets better."""
    return metric.startswith((*LOWER_IS_BETTER, _LOWER))


def pretty(metric: str) -> str:
    """A score's name as papers write it.

    >>> pretty("miou_dataset"), pretty("mdice_class_q5"), pretty("nll_image"), pretty("acc")
    ('mIoU^D', 'mDice^C worst 5 %', 'NLL^I', 'Acc')
    >>> pretty("miou_image_qbar"), pretty("share_iou_ge_0.5")
    ('mIoU^I mean of worst 10..100 %', 'share of IoU >= 0.5')
    """
    if metric.startswith("share_iou_ge_"):
        share, _, of_class = metric.removeprefix("share_iou_ge_").partition("_")
        return f"share of IoU >= {share}{', mean over classes' if of_class else ''}"
    for start, ending in ((_LOWER, " (lower is better)"), (_HIGHER, " (higher is better)")):
        if metric.startswith(start):
            return metric.removeprefix(start) + ending
    name, *rest = metric.split("_")
    shown = {"miou": "mIoU", "macc": "mAcc", "mdice": "mDice", "acc": "Acc", "brier": "Brier"}.get(name, name.upper())
    for part in rest:
        if part in ("dataset", "image", "class"):
            shown += "^" + {"dataset": "D", "image": "I", "class": "C"}[part]
        elif part == "qbar":
            shown += " mean of worst 10..100 %"
        elif part.startswith("q"):
            shown += f" worst {part[1:]} %"
    return shown
