"""Bare terms that are added to a loss of labels, and the composite of a dropout network's article."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segpipe.core.batch import Batch
from segpipe.core.registry import register
from segpipe.losses.options import PerClass, in_range, one_of, per_class
from segpipe.losses.pixel import cross_entropy


@register(
    "spatial",
    source="Potts smoothness, Boykov et al. 2001, relaxed; compactness: within-class inertia",
    bare=True,
    spatial=True,
)
def spatial(batch: Batch, *, kind: str = "smoothness") -> Tensor:
    """A term on where the predicted mass lies; it has no label loss of its own: add it to one.

    smoothness: mean over pairs of 4-neighbours, both valid, of sum_c (p_ic - p_jc)^2, in 0..2.
    compactness: mean over images of 1/n sum_c sum_i p_ic |u_i - mu_c|^2, u in the unit square,
    mu_c the centre of the class's mass; two objects of a class pay too.
    distance: mean over images of 1/n sum_c sum_i p_ic d_c(i), d_c the distance in the unit square
    to the label's region of class c (absent classes: 0); needs hard labels, and computes d on the
    CPU.
    """
    one_of("spatial", "kind", kind, ("smoothness", "compactness", "distance"))
    if kind == "smoothness":
        return _smoothness(batch)
    mass = batch.probs.masked_fill(~batch.valid.unsqueeze(1), 0)
    if kind == "compactness":
        places = _unit_square(batch)
        weight = mass.sum(2, keepdim=True).clamp(min=torch.finfo(mass.dtype).tiny)
        centre = (mass @ places).unsqueeze(2) / weight.unsqueeze(3)  # (N, C, 1, 2)
        costs = (places - centre).square().sum(3)
    else:
        costs = _distances(batch)
    counts = batch.valid.sum(1)
    return batch.mean_over_images((mass * costs).sum((1, 2)) / counts.clamp(min=1), counts > 0)


def _smoothness(batch: Batch) -> Tensor:
    h, w = batch.size
    probs = batch.probs.reshape(*batch.raw.shape[:2], h, w)
    valid = batch.valid.reshape(-1, h, w)
    total: Any = 0.0
    pairs: Any = 0
    for axis, length in ((-1, w), (-2, h)):
        first, second = (t.narrow(axis, 0, length - 1) for t in (probs, valid))
        after, also = (t.narrow(axis, 1, length - 1) for t in (probs, valid))
        both = second & also
        total = total + (first - after).square().sum(1).masked_fill(~both, 0).sum()
        pairs = pairs + both.sum()
    value: Tensor = batch.total(total) / batch.total(pairs.to(batch.dtype)).clamp(min=1)
    return value


def _unit_square(batch: Batch) -> Tensor:
    """(P, 2) places row / (H - 1), column / (W - 1); 0 where a side is one pixel."""
    rows, columns = (torch.arange(s, dtype=batch.dtype, device=batch.raw.device) / max(s - 1, 1) for s in batch.size)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)


def _distances(batch: Batch) -> Tensor:
    """(N, C, P) distance in the unit square to the nearest valid pixel labelled c; 0 without any."""
    from scipy.ndimage import distance_transform_edt

    labels = batch.require_hard("spatial(kind=distance)").masked_fill(~batch.valid, -1).cpu().numpy()
    h, w = batch.size
    steps = [1 / max(s - 1, 1) for s in batch.size]
    found = np.zeros((len(labels), batch.num_classes, h * w))
    for n, image in enumerate(labels):
        for k in np.unique(image[image >= 0]):
            found[n, k] = distance_transform_edt(image.reshape(h, w) != k, sampling=steps).ravel()
    return torch.from_numpy(found).to(batch.raw.device, batch.dtype)


@register(
    "prob_match", source="KL of the mean prediction to the class prior, as in Kervadec et al. 2019, sec. 2", bare=True
)
def prob_match(batch: Batch, *, direction: str = "forward", prior: PerClass = "batch") -> Tensor:
    """KL divergence between the mean prediction f and the class frequencies pi; a bare term.

    direction: "forward" KL(f || pi), "reverse" KL(pi || f). prior: "batch" takes the labels with
    one more pixel for each class, (n_c + 1) / (n + C); else one frequency a class. f is the mean
    over valid pixels, of all processes, in log space. Add it to a loss of labels when the shares
    of the classes are known better than their places.
    """
    one_of("prob_match", "direction", direction, ("forward", "reverse"))
    n, c = batch.num_valid.double(), batch.num_classes
    if isinstance(prior, str):
        one_of("prob_match", "prior", prior, ("batch",))
        pi = (batch.total(batch.label_mass.sum(0)) + 1) / (n + c)
    else:
        pi = per_class("prob_match", "prior", prior, batch).double()
        pi = (pi / pi.sum()).clamp(min=1e-12)
    masked = batch.log_probs.masked_fill(~batch.valid.unsqueeze(1), -1e4).transpose(0, 1).flatten(1)
    mass = batch.total(masked.double().logsumexp(1).exp())
    log_f = (mass / n.clamp(min=1)).clamp(min=1e-300).log()
    gap = log_f - pi.log()
    value = (log_f.exp() * gap).sum() if direction == "forward" else -(pi * gap).sum()
    return torch.where(n > 0, value, 0)


@register(
    "dropout_composite",
    source="the composite of a dropout-based segmentation article, its gates made explicit",
    spatial=True,
)
def dropout_composite(
    batch: Batch, *, f_w: float = 0.5, f_r: float = 1.0, f_m: float = 1.0, f_s: float = 1.0, beta: float = 0.1,
    lam: float = 0.1, gamma: float = 0.1, class_weights: PerClass = None, prior: PerClass = "batch",
    term_dropout: float = 0.0,
) -> Tensor:  # fmt: skip
    """(1 - f_w) ce + f_w weighted ce + f_r beta smoothness + f_m lam prob_match + f_s gamma compactness.

    All gates 0 is `ce`. term_dropout drops each of the last three terms with that probability in
    training, and scales what is left by 1 / (1 - term_dropout): the mean is the same.
    """
    in_range("dropout_composite", "f_w", f_w, 0, 1)
    in_range("dropout_composite", "term_dropout", term_dropout, 0, math.nextafter(1, 0))
    gates = [f_r * beta, f_m * lam, f_s * gamma]
    drawn = [1.0, 1.0, 1.0]
    if term_dropout and batch.training:
        drawn = [float(u >= term_dropout) / (1 - term_dropout) for u in torch.rand(3).tolist()]
    value = cross_entropy(batch)
    if f_w and class_weights is not None:
        value = (1 - f_w) * value + f_w * cross_entropy(batch, class_weights=class_weights)
    terms: list[Callable[[], Tensor]] = [
        lambda: spatial(batch, kind="smoothness"),
        lambda: prob_match(batch, prior=prior),
        lambda: spatial(batch, kind="compactness"),
    ]
    for gate, factor, term in zip(gates, drawn, terms, strict=True):
        if gate:  # also when dropped here: another process may not have dropped it, and sums with this one
            value = value + gate * factor * term()
    return value
