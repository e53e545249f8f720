"""Region losses: tp, fp, fn masses -> index T = (tp + s) / (tp + alpha fp + beta fn + s) -> average.

Two families differ in tp alone. The inner-product form (`dice jaccard tversky`) takes sum x y,
which on a soft label y is smallest at x = 1, not at x = y. The JDT form (`jml dml ctl`) takes
tp = (|x| + |y| - |x - y|) / 2 = sum min(x, y), which equals it on hard labels and is zero loss
exactly at x = y on soft ones (Wang et al. 2023, arXiv:2302.05666 and 2303.16296).
alpha weighs false positives, beta false negatives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from segpipe.core import regions
from segpipe.core.errors import ConfigError
from segpipe.core.registry import register
from segpipe.core.shapes import Batch

AVERAGES = ("dataset", "image", "class", "all")


@register("dice", source="Milletari et al. 2016, arXiv:1606.04797; squared=True is its denominator")
def dice(
    batch: Batch, *, smooth: float = 0.001, squared: bool = False, log: bool = False, classes: Any = "present",
    average: Any = "dataset", class_weights: Any = None, threshold: float = 0.01,
) -> Tensor:  # fmt: skip
    """1 - 2 tp / (2 tp + fp + fn) with tp = sum x y."""
    return _loss(batch, 0.5, 0.5, True, smooth, squared, log, classes, average, class_weights, 1.0, threshold)


@register("jaccard", source="Rahman and Wang 2016, the inner-product form")
def jaccard(
    batch: Batch, *, smooth: float = 0.001, squared: bool = False, log: bool = False, classes: Any = "present",
    average: Any = "dataset", class_weights: Any = None, threshold: float = 0.01,
) -> Tensor:  # fmt: skip
    """1 - tp / (tp + fp + fn) with tp = sum x y."""
    return _loss(batch, 1.0, 1.0, True, smooth, squared, log, classes, average, class_weights, 1.0, threshold)


@register("tversky", source="Salehi et al. 2017, arXiv:1706.05721")
def tversky(
    batch: Batch, *, alpha: float = 0.3, beta: float = 0.7, smooth: float = 0.001, squared: bool = False,
    log: bool = False, classes: Any = "present", average: Any = "dataset", class_weights: Any = None,
    threshold: float = 0.01,
) -> Tensor:  # fmt: skip
    """1 - tp / (tp + alpha fp + beta fn) with tp = sum x y."""
    return _loss(batch, alpha, beta, True, smooth, squared, log, classes, average, class_weights, 1.0, threshold)


@register("jml", source="Wang et al. 2023, arXiv:2302.05666 (Jaccard metric loss)")
def jml(
    batch: Batch, *, smooth: float = 0.001, squared: bool = False, log: bool = False, classes: Any = "present",
    average: Any = "dataset", class_weights: Any = None, exponent: float = 1.0, threshold: float = 0.01,
) -> Tensor:  # fmt: skip
    """1 - tp / (tp + fp + fn) with tp = sum min(x, y): a metric, right on soft labels."""
    return _loss(batch, 1.0, 1.0, False, smooth, squared, log, classes, average, class_weights, exponent, threshold)


@register("dml", source="Wang et al. 2023, arXiv:2303.16296 (Dice semimetric loss)")
def dml(
    batch: Batch, *, smooth: float = 0.001, squared: bool = False, log: bool = False, classes: Any = "present",
    average: Any = "dataset", class_weights: Any = None, exponent: float = 1.0, threshold: float = 0.01,
) -> Tensor:  # fmt: skip
    """1 - 2 tp / (2 tp + fp + fn) with tp = sum min(x, y): right on soft labels."""
    return _loss(batch, 0.5, 0.5, False, smooth, squared, log, classes, average, class_weights, exponent, threshold)


@register("ctl", source="Wang et al. 2023, arXiv:2303.16296 (compatible Tversky loss)")
def ctl(
    batch: Batch, *, alpha: float = 0.3, beta: float = 0.7, smooth: float = 0.001, squared: bool = False,
    log: bool = False, classes: Any = "present", average: Any = "dataset", class_weights: Any = None,
    exponent: float = 1.0, threshold: float = 0.01,
) -> Tensor:  # fmt: skip
    """1 - tp / (tp + alpha fp + beta fn) with tp = sum min(x, y): right on soft labels."""
    return _loss(batch, alpha, beta, False, smooth, squared, log, classes, average, class_weights, exponent, threshold)


def _loss(
    batch: Batch, alpha: float, beta: float, product: bool, smooth: float, squared: bool, log: bool,
    classes: Any, average: Any, class_weights: Any, exponent: float, threshold: float,
) -> Tensor:  # fmt: skip
    """The common path: masses, then the named averages of the per-class losses."""
    if min(alpha, beta, smooth) < 0 or exponent <= 0:
        raise ConfigError("region losses need alpha, beta, smooth >= 0 and exponent > 0")
    if batch.labels is not None:
        masses = regions.of_hard(batch.probs, batch.labels, batch.valid, squared=squared)
        present = (masses.tp + masses.fn).detach() > 0
    else:
        assert batch.soft is not None
        masses = regions.of_soft(batch.probs, batch.soft, batch.valid, product=product or squared, squared=squared)
        present = batch.soft.amax(2) > threshold  # void rows are zero
    chosen, present = _choose(classes, present, batch)
    total = torch.zeros((), dtype=torch.float64, device=batch.logits.device)
    for name, weight in _named_averages(average).items():
        active = present
        scored = masses
        if name == "all":
            # Class-agnostic: every chosen class's mass in one index.
            used = present.any(0, keepdim=True) if classes == "present" else chosen[None]
            scored = masses.pool_images().pool_classes(used[0].to(torch.float64))
            active = used.any(1, keepdim=True) & batch.valid.any()
        elif name == "dataset":
            scored, active = masses.pool_images(), present.any(0, keepdim=True)
        losses = 1 - scored.tversky(alpha, beta, smooth)
        if log:
            losses = -torch.log1p(-losses.clamp(max=1 - 1e-7))
        losses = _power(losses, exponent)
        if class_weights is not None and name != "all":
            losses = losses * _weights(class_weights, batch)
        total = total + weight * _average(losses, active, "class" if name == "class" else "image")
    return total


def _average(losses: Tensor, active: Tensor, order: str) -> Tensor:
    """Mean over active entries of (N, C): inside each image first, or inside each class first."""
    if order == "class":
        losses, active = losses.T, active.T
    count = active.sum(1)
    inner = torch.where(active, losses, 0).sum(1) / count.clamp(min=1)
    return torch.where(count > 0, inner, 0).sum() / (count > 0).sum().clamp(min=1)


def _power(losses: Tensor, exponent: float) -> Tensor:
    """losses ** exponent with a finite slope at 0 (an exponent below 1 has none there)."""
    if exponent == 1:
        return losses
    positive = losses > 0
    return torch.where(positive, losses.where(positive, torch.ones_like(losses)).pow(exponent), 0)


def _choose(classes: Any, present: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The (C,) mask of eligible classes and the (N, C) mask of active ones."""
    chosen = torch.ones(batch.num_classes, dtype=torch.bool, device=present.device)
    seen = batch.valid.any(1, keepdim=True)  # a fully void image is no image
    if classes == "present":
        return chosen, present & seen
    if classes != "all":
        listed = list(classes) if isinstance(classes, list | tuple) else None
        if listed is None or not all(isinstance(k, int) and 0 <= k < batch.num_classes for k in listed):
            raise ConfigError(
                f"classes must be 'present', 'all' or a list of 0..{batch.num_classes - 1}, found {classes!r}"
            )
        chosen = torch.zeros_like(chosen).index_fill(0, torch.tensor(listed, device=chosen.device), True)
    return chosen, chosen & seen


def _named_averages(average: Any) -> Mapping[str, float]:
    """{name: weight}; a single name has weight 1."""
    named = {average: 1.0} if isinstance(average, str) else average
    if not isinstance(named, Mapping) or not named or not set(named) <= set(AVERAGES):
        raise ConfigError(f"average must be one of {', '.join(AVERAGES)} or {{name: weight}}, found {average!r}")
    return named


def _weights(class_weights: Any, batch: Batch) -> Tensor:
    vector = torch.as_tensor(class_weights, dtype=torch.float64, device=batch.logits.device)
    if vector.shape != (batch.num_classes,):
        raise ConfigError(
            f"class_weights has shape {tuple(vector.shape)}, wanted one number for each of {batch.num_classes} classes"
        )
    return vector
