"""Region losses: tp, fp, fn masses -> index T = (tp + s) / (tp + alpha fp + beta fn + s) -> average.

Two families differ in tp alone. The inner-product form (`dice jaccard tversky`) takes sum x y,
which on a soft label y is smallest at x = 1, not at x = y. The JDT form (`jml dml ctl`) takes
tp = (|x| + |y| - |x - y|) / 2 = sum min(x, y), which equals it on hard labels and is zero loss
exactly at x = y on soft ones (Wang et al. 2023, arXiv:2302.05666 and 2303.16296).
alpha weighs false positives, beta false negatives.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from segpipe.core import regions
from segpipe.core.batch import Batch
from segpipe.core.errors import ConfigError
from segpipe.core.registry import register
from segpipe.losses.options import Average, Classes, PerClass, active_classes, in_range, per_class

AVERAGES = ("dataset", "image", "class", "all")


@register("dice", source="Milletari et al. 2016, arXiv:1606.04797; squared=True is its denominator")
def dice(
    batch: Batch, *, smooth: float = 0.001, squared: bool = False, log: bool = False, classes: Classes = "present",
    average: Average = "dataset", class_weights: PerClass = None, threshold: float | None = None,
) -> Tensor:  # fmt: skip
    """1 - 2 tp / (2 tp + fp + fn) with tp = sum x y."""
    return _loss(batch, 0.5, 0.5, True, smooth, squared, log, classes, average, class_weights, 1.0, threshold)


@register("jaccard", source="Rahman and Wang 2016, the inner-product form")
def jaccard(
    batch: Batch, *, smooth: float = 0.001, squared: bool = False, log: bool = False, classes: Classes = "present",
    average: Average = "dataset", class_weights: PerClass = None, threshold: float | None = None,
) -> Tensor:  # fmt: skip
    """1 - tp / (tp + fp + fn) with tp = sum x y."""
    return _loss(batch, 1.0, 1.0, True, smooth, squared, log, classes, average, class_weights, 1.0, threshold)


@register("tversky", source="Salehi et al. 2017, arXiv:1706.05721")
def tversky(
    batch: Batch, *, alpha: float = 0.3, beta: float = 0.7, smooth: float = 0.001, squared: bool = False,
    log: bool = False, classes: Classes = "present", average: Average = "dataset", class_weights: PerClass = None,
    threshold: float | None = None,
) -> Tensor:  # fmt: skip
    """1 - tp / (tp + alpha fp + beta fn) with tp = sum x y."""
    return _loss(batch, alpha, beta, True, smooth, squared, log, classes, average, class_weights, 1.0, threshold)


@register("jml", source="Wang et al. 2023, arXiv:2302.05666 (Jaccard metric loss)")
def jml(
    batch: Batch, *, smooth: float = 0.001, squared: bool = False, log: bool = False, classes: Classes = "present",
    average: Average = "dataset", class_weights: PerClass = None, exponent: float = 1.0, threshold: float | None = None,
) -> Tensor:  # fmt: skip
    """1 - tp / (tp + fp + fn) with tp = sum min(x, y): a metric, right on soft labels."""
    return _loss(batch, 1.0, 1.0, False, smooth, squared, log, classes, average, class_weights, exponent, threshold)


@register("dml", source="Wang et al. 2023, arXiv:2303.16296 (Dice semimetric loss)")
def dml(
    batch: Batch, *, smooth: float = 0.001, squared: bool = False, log: bool = False, classes: Classes = "present",
    average: Average = "dataset", class_weights: PerClass = None, exponent: float = 1.0, threshold: float | None = None,
) -> Tensor:  # fmt: skip
    """1 - 2 tp / (2 tp + fp + fn) with tp = sum min(x, y): right on soft labels."""
    return _loss(batch, 0.5, 0.5, False, smooth, squared, log, classes, average, class_weights, exponent, threshold)


@register("ctl", source="Wang et al. 2023, arXiv:2303.16296 (compatible Tversky loss)")
def ctl(
    batch: Batch, *, alpha: float = 0.3, beta: float = 0.7, smooth: float = 0.001, squared: bool = False,
    log: bool = False, classes: Classes = "present", average: Average = "dataset", class_weights: PerClass = None,
    exponent: float = 1.0, threshold: float | None = None,
) -> Tensor:  # fmt: skip
    """1 - tp / (tp + alpha fp + beta fn) with tp = sum min(x, y): right on soft labels."""
    return _loss(batch, alpha, beta, False, smooth, squared, log, classes, average, class_weights, exponent, threshold)


@register("focal_tversky", source="Abraham and Khan 2018, arXiv:1810.07842, eq. 4 (exponent is their 1 / gamma)")
def focal_tversky(
    batch: Batch, *, alpha: float = 0.3, beta: float = 0.7, exponent: float = 0.75, smooth: float = 0.001,
    classes: Classes = "present", average: Average = "dataset", class_weights: PerClass = None,
    threshold: float | None = None,
) -> Tensor:  # fmt: skip
    """(1 - T)^exponent with the Tversky index T, per class before the mean.

    Use it when small classes are missed (beta > alpha) and easy ones should weigh less
    (exponent > 1) or hard ones more (exponent < 1). The slope at a perfect class is defined as 0.
    """
    return _loss(batch, alpha, beta, True, smooth, False, False, classes, average, class_weights, exponent, threshold)


@register("generalized_dice", source="Sudre et al. 2017, arXiv:1707.03237, sec. 2")
def generalized_dice(batch: Batch, *, smooth: float = 0.001, average: Average = "dataset") -> Tensor:
    """Dice loss of all classes together, each with weight 1 / (its label pixels)^2.

    average: "dataset" weighs and pools over the batch, "image" over each image. A class without
    labels takes the largest weight of the others. Weights are scaled to sum w_c n_c = n, so that
    `smooth` counts pixels. Use it for few classes of very unequal size; with many absent classes
    their false positives dominate.
    """
    named = _named_averages("generalized_dice", average, ("dataset", "image"))
    masses = regions.of_batch(batch, product=True)
    total: Tensor = torch.zeros((), dtype=torch.float64, device=batch.raw.device)
    for name, weight in named.items():
        scored = masses.pool_images(batch.total) if name == "dataset" else masses
        pixels = (scored.tp + scored.fn).detach()
        seen = pixels > 0
        weights = torch.where(seen, pixels.clamp(min=torch.finfo(torch.float64).tiny).pow(-2), 0)
        weights = torch.where(seen, weights, weights.amax(1, keepdim=True))
        weights = weights * pixels.sum(1, keepdim=True) / (weights * pixels).sum(1, keepdim=True).clamp(min=1e-300)
        together = regions.Regions(*((part * weights).sum(1) for part in (scored.tp, scored.fp, scored.fn)))
        losses = 1 - together.tversky(0.5, 0.5, smooth)
        images = seen.any(1)
        if name == "dataset":
            total = total + weight * torch.where(images, losses, 0).sum()
        else:
            total = total + weight * batch.mean_over_images(losses, images)
    return total


@register("mcc", source="Abhishek and Hamarneh 2021, arXiv:2010.13454, eq. 3 (Matthews correlation)")
def mcc(
    batch: Batch, *, smooth: float = 0.001, classes: Classes = "present", average: Average = "dataset",
    class_weights: PerClass = None,
) -> Tensor:  # fmt: skip
    """1 - the Matthews correlation of each class against the rest, which counts true negatives too.

    MCC = (tp tn - fp fn) / sqrt((tp + fp) (tp + fn) (tn + fp) (tn + fn)) with tp = sum x y; `smooth` pixels are added
    to tp and to tn, so that a class that fills an image is defined. Use it like `dice` when foreground and
    background should count equally.
    """
    in_range("mcc", "smooth", smooth, 1e-12)
    masses, pixels = regions.of_batch(batch, product=True), batch.valid.sum(1, keepdim=True).double()
    active = active_classes(classes, batch)
    total: Tensor = torch.zeros((), dtype=torch.float64, device=batch.raw.device)
    for name, weight in _named_averages("mcc", average, ("dataset", "image", "class")).items():
        scored, number, anywhere = masses, pixels, active
        if name == "dataset":
            scored, number = masses.pool_images(batch.total), batch.total(pixels.sum(0, keepdim=True))
            anywhere = batch.largest(active.any(0, keepdim=True).double()) > 0
        tp, tn = scored.tp + smooth, number - scored.tp - scored.fp - scored.fn + smooth
        sides = (tp + scored.fp) * (tp + scored.fn) * (tn + scored.fp) * (tn + scored.fn)
        losses = 1 - (tp * tn - scored.fp * scored.fn) / sides.clamp(min=smooth**4).sqrt()
        if class_weights is not None:
            losses = losses * per_class("mcc", "class_weights", class_weights, batch)
        total = total + weight * _mean(batch, name, losses, anywhere)
    return total


def _loss(
    batch: Batch, alpha: float, beta: float, product: bool, smooth: float, squared: bool, log: bool,
    classes: Classes, average: Average, class_weights: PerClass, exponent: float, threshold: float | None,
) -> Tensor:  # fmt: skip
    """The common path: masses, then the named averages of the per-class losses."""
    if min(alpha, beta, smooth) < 0 or exponent <= 0:
        raise ConfigError("region losses need alpha, beta, smooth >= 0 and exponent > 0")
    masses = regions.of_batch(batch, product=product, squared=squared)
    active = active_classes(classes, batch, threshold)
    total: Tensor = torch.zeros((), dtype=torch.float64, device=batch.raw.device)
    for name, weight in _named_averages("region", average, AVERAGES).items():
        if name in ("dataset", "all"):
            anywhere = batch.largest(active.any(0, keepdim=True).double()) > 0
            scored = masses.pool_images(batch.total)
            if name == "all":  # class-agnostic: the masses of all active classes in one index
                scored, anywhere = scored.pool_classes(anywhere[0].double()), anywhere.any(1, keepdim=True)
        else:
            scored, anywhere = masses, active
        losses = 1 - scored.tversky(alpha, beta, smooth)
        if log:
            losses = -torch.log1p(-losses.clamp(max=1 - 1e-7))
        losses = _power(losses, exponent)
        if class_weights is not None and name != "all":
            losses = losses * per_class("region", "class_weights", class_weights, batch)
        total = total + weight * _mean(batch, name, losses, anywhere)
    return total


def _mean(batch: Batch, name: str, losses: Tensor, active: Tensor) -> Tensor:
    """Mean over the active entries of (N, C): in each image first, or in each class first."""
    losses = losses.masked_fill(~active, 0)
    if name == "class":
        sums, counts = batch.total(torch.stack([losses.sum(0), active.sum(0).double()]))
        seen = counts > 0
        of_class: Tensor = (sums / counts.clamp(min=1)).masked_fill(~seen, 0).sum()
        value: Tensor = of_class / seen.sum().clamp(min=1)
        return value
    counts = active.sum(1)
    means: Tensor = losses.sum(1) / counts.clamp(min=1)
    return batch.mean_over_images(means, counts > 0) if name == "image" else means.sum()


def _power(losses: Tensor, exponent: float) -> Tensor:
    """losses ** exponent with a finite slope at 0 (an exponent below 1 has none there)."""
    if exponent == 1:
        return losses
    positive = losses > 0
    return torch.where(positive, losses.where(positive, torch.ones_like(losses)).pow(exponent), 0)


def _named_averages(loss: str, average: Average, allowed: tuple[str, ...]) -> Mapping[str, float]:
    """{name: weight}; a single name has weight 1."""
    named = {average: 1.0} if isinstance(average, str) else average
    if not isinstance(named, Mapping) or not named or not set(named) <= set(allowed):
        raise ConfigError(
            f"{loss} loss: average must be one of {', '.join(allowed)} or {{name: weight}}, found {average!r}"
        )
    return named
