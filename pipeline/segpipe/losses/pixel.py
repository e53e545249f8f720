"""Softmax losses: a loss map (N, P), then the mean of its valid pixels."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from segpipe.core.batch import Batch
from segpipe.core.registry import register
from segpipe.core.softmax import at_least_float32
from segpipe.losses.options import PerClass, in_range, one_of, per_class


@register("ce", source="label smoothing: Szegedy et al. 2016, arXiv:1512.00567, sec. 7")
def cross_entropy(
    batch: Batch,
    *,
    class_weights: PerClass = None,
    weighting: str = "weights",
    label_smoothing: float = 0.0,
    prior: PerClass = None,
    reduction: str = "mean",
) -> Tensor:
    """Cross entropy: the mean of -log p of the label over valid pixels.

    With class weights w the sum of w_y l is divided by `weighting`: "weights" the sum of w_y (as
    torch), "valid" the number of valid pixels, "classes" the number of classes. `prior` (class
    frequencies) adds log prior to the logits (Menon et al. 2021, arXiv:2007.07314, eq. 10).
    Soft targets: -sum_c y_c log p_c. Use it first, and as a term of every compound; its mean over
    pixels neglects small classes.
    """
    one_of("ce", "weighting", weighting, ("weights", "valid", "classes"))
    one_of("ce", "reduction", reduction, ("mean", "sum"))
    in_range("ce", "label_smoothing", label_smoothing, 0, 1)
    if prior is not None:
        adjustment = per_class("ce", "prior", prior, batch).clamp(min=1e-12).log()
        batch = replace(batch, raw=at_least_float32(batch.raw) + adjustment[:, None])
    weights = None if class_weights is None else per_class("ce", "class_weights", class_weights, batch)
    loss_map = nll(batch, weights)
    if label_smoothing:
        if weights is not None:
            uniform = -(batch.log_probs * weights[:, None]).mean(1)
        else:
            sums = batch.log_probs.sum(1) if batch.labels is None else batch.sum_log_probs
            uniform = -sums / batch.num_classes
        loss_map = (1 - label_smoothing) * loss_map + label_smoothing * uniform
    total = batch.sum_over_valid(loss_map)
    if reduction == "sum":
        return total
    if weighting == "classes":
        return total / batch.num_classes
    if weighting == "valid" or weights is None:
        return total / batch.num_valid.clamp(min=1)
    weight_sum = batch.sum_over_valid(label_weight(batch, weights))
    return total / torch.where(weight_sum > 0, weight_sum, torch.ones_like(weight_sum))


@register("kl", source="Hinton et al. 2015, arXiv:1503.02531, sec. 2 and 2.1")
def kl(batch: Batch, *, temperature: float = 1.0) -> Tensor:
    """KL divergence of the softmax from a soft target: cross entropy minus the target's entropy.

    It has the gradient of `ce` and is 0 exactly at p = y. With a temperature T the logits are
    divided by T and the value multiplied by T^2, so that gradients keep their size; the target is
    then the teacher's softmax at that temperature. Use it to distil, or to read how far p is from
    a soft label.
    """
    in_range("kl", "temperature", temperature, 1e-6)
    if temperature != 1:
        batch = replace(batch, raw=at_least_float32(batch.raw) / temperature)
    loss_map = nll(batch, None)
    if batch.soft is not None:
        loss_map = loss_map + torch.xlogy(batch.soft, batch.soft).sum(1)
    return temperature**2 * batch.mean_over_valid(loss_map)


@register("focal", source="Lin et al. 2017, arXiv:1708.02002, eq. 4-5, with the softmax probability")
def focal(batch: Batch, *, gamma: float = 2.0, alpha: PerClass = None) -> Tensor:
    """Cross entropy with easy pixels damped by (1 - p)^gamma; gamma = 0 is `ce(weighting="valid")`.

    alpha: one weight a class, or None. Soft targets weigh the terms of all classes. With
    q = 1 - p the gradient by the logits is w (p - onehot), w = q^gamma - gamma p q^(gamma - 1) log p:
    from d(-q^gamma log p)/dp = -q^gamma / p + gamma q^(gamma - 1) log p and dp/dz = p (onehot - p).
    Use it when most pixels are easy; its probabilities are under-confident.
    """
    in_range("focal", "gamma", gamma, 0)
    weights = None if alpha is None else per_class("focal", "alpha", alpha, batch)
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


def nll(batch: Batch, weights: Tensor | None) -> Tensor:
    """(N, P) -w_y log p_y, 0 under void; for soft targets -sum_c w_c y_c log p_c."""
    if batch.labels is not None:
        loss_map = -batch.log_prob_of_label
        return loss_map if weights is None else loss_map * weights[batch.labels]
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
