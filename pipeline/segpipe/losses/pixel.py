"""Pixel losses: a loss map (N, P), then a pooling of its valid pixels to one number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from segpipe.core.errors import ConfigError
from segpipe.core.registry import register
from segpipe.core.shapes import Batch


@register("ce", source="class weights and label smoothing as in Szegedy et al. 2016, arXiv:1512.00567")
def cross_entropy(
    batch: Batch,
    *,
    class_weights: Any = None,
    weighting: str = "weights",
    label_smoothing: float = 0.0,
    prior: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Cross entropy: the mean of -log p of the label over valid pixels.

    With class weights w the sum of w_y l is divided by `weighting`: "weights" the sum of w_y (as
    torch), "valid" the number of valid pixels, "classes" the number of classes. `prior` (class
    frequencies) adds log prior to the logits (Menon et al. 2021, arXiv:2007.07314, eq. 10).
    """
    _one_of("ce", "weighting", weighting, ("weights", "valid", "classes"))
    _one_of("ce", "reduction", reduction, ("mean", "sum"))
    if not 0 <= label_smoothing < 1:
        raise ConfigError(f"loss 'ce': label_smoothing must be in [0, 1), found {label_smoothing}")
    c = batch.num_classes
    if prior is not None:
        adjustment = _per_class("ce", "prior", prior, batch).clamp(min=1e-12).log()
        batch = replace(batch, logits=batch.logits + adjustment[:, None])
    weights = None if class_weights is None else _per_class("ce", "class_weights", class_weights, batch)
    loss_map = weighted_nll(batch, weights)
    if label_smoothing:
        uniform = -(batch.log_probs.mean(1) if weights is None else (batch.log_probs * weights[:, None]).mean(1))
        loss_map = (1 - label_smoothing) * loss_map + label_smoothing * uniform
    total = batch.sum_over_valid(loss_map)
    if reduction == "sum":
        return total
    if weighting == "classes":
        return total / c
    if weighting == "valid" or weights is None:
        return total / batch.num_valid.clamp(min=1)
    weight_sum = batch.sum_over_valid(label_weight(batch, weights))
    return total / torch.where(weight_sum > 0, weight_sum, torch.ones_like(weight_sum))


@register("focal", source="Lin et al. 2017, arXiv:1708.02002, eq. 4-5, with the softmax probability")
def focal(batch: Batch, *, gamma: float = 2.0, alpha: Any = None) -> Tensor:
    """Cross entropy with easy pixels damped by (1 - p)^gamma; gamma = 0 is `ce(weighting="valid")`.

    alpha: one weight a class, or None. Soft targets weigh the terms of all classes.
    """
    if gamma < 0:
        raise ConfigError(f"loss 'focal': gamma must be >= 0, found {gamma}")
    weights = None if alpha is None else _per_class("focal", "alpha", alpha, batch)
    if batch.labels is not None:
        log_p = batch.log_prob_of_label
        loss_map = -_one_minus(log_p).pow(gamma) * log_p
        if weights is not None:
            loss_map = loss_map * weights[batch.labels]
    else:
        assert batch.soft is not None
        terms = -_one_minus(batch.log_probs).pow(gamma) * _times_where_positive(batch.soft, batch.log_probs)
        loss_map = (terms if weights is None else terms * weights[:, None]).sum(1)
    return batch.mean_over_valid(loss_map)


def weighted_nll(batch: Batch, weights: Tensor | None) -> Tensor:
    """(N, P) -w_y log p_y; for soft targets -sum_c w_c y_c log p_c."""
    if batch.labels is not None:
        nll = -batch.log_prob_of_label
        return nll if weights is None else nll * weights[batch.labels]
    assert batch.soft is not None
    terms = -_times_where_positive(batch.soft, batch.log_probs)
    return (terms if weights is None else terms * weights[:, None]).sum(1)


def label_weight(batch: Batch, weights: Tensor) -> Tensor:
    """(N, P) the class weight of each pixel's target."""
    if batch.labels is not None:
        return weights[batch.labels]
    assert batch.soft is not None
    return (batch.soft * weights[:, None]).sum(1)


def _one_minus(log_p: Tensor) -> Tensor:
    """1 - p, never exactly 0: a power below 1 would have an infinite slope there."""
    return (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)


def _times_where_positive(soft: Tensor, log_probs: Tensor) -> Tensor:
    """y log p with 0 log 0 = 0, also where a logit is -inf."""
    return soft * log_probs.masked_fill(soft == 0, 0)


def _per_class(name: str, option: str, values: Any, batch: Batch) -> Tensor:
    """One number a class on the batch's device; the length is checked."""
    vector = torch.as_tensor(values, dtype=batch.logits.dtype, device=batch.logits.device)
    if vector.shape != (batch.num_classes,):
        raise ConfigError(
            f"loss '{name}': {option} has shape {tuple(vector.shape)}, wanted one number for each of "
            f"{batch.num_classes} classes"
        )
    return vector


def _one_of(name: str, option: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"loss '{name}': {option} must be one of {', '.join(allowed)}, found {value!r}")
