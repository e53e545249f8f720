"""How scores and their differences are told: names as papers write them, units, direction."""

from __future__ import annotations

LOWER_IS_BETTER = ("ece", "sce", "nll", "brier", "ace", "aurc", "hd", "assd", "ged", "error", "loss")  # begin so

_FRACTIONS = ("acc", "macc", "miou", "mdice", "share", "ece", "sce", "ace", "aurc")  # scores from 0 to 1 that begin so


def scale(metric: str) -> tuple[float, str]:
    """Factor and unit in which a difference is told: points of 100; NLL, Brier and scores of others as they are."""
    return (100.0, " points") if metric.startswith(_FRACTIONS) else (1.0, "")


def digits(factor: float) -> int:
    """Decimals of a told difference."""
    return 1 if factor == 100 else 4


def lower_is_better(metric: str) -> bool:
    """True for errors of calibration, distances, and what is called an error or a loss."""
    return metric.startswith(LOWER_IS_BETTER)


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
    name, *rest = metric.split("_")
    if not metric.startswith((*_FRACTIONS, "nll", "brier")):
        return metric
    shown = {"miou": "mIoU", "macc": "mAcc", "mdice": "mDice", "acc": "Acc", "brier": "Brier"}.get(name, name.upper())
    for part in rest:
        if part in ("dataset", "image", "class"):
            shown += "^" + {"dataset": "D", "image": "I", "class": "C"}[part]
        elif part == "qbar":
            shown += " mean of worst 10..100 %"
        elif part.startswith("q"):
            shown += f" worst {part[1:]} %"
    return shown
