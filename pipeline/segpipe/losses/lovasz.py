"""Lovász losses: the convex extension of 1 - IoU, by class.

With the errors e_i of a class sorted downwards, G positives in all and P_k, N_k positives and
negatives among the first k, the Jaccard loss of "the first k are wrong" is
J_k = 1 - (G - P_k) / (G + N_k), and the loss is sum_k e_(k) (J_k - J_(k-1)). The difference has a
closed form, free of the cancellation of neighbouring J's in float32:

    positive at rank k: 1 / (G + N_k)        as only the numerator falls, by 1;
    negative at rank k: (G - P_k) / ((G + N_k)(G + N_k - 1))    as only the denominator grows, by 1.

Two consequences are used. A negative whose error is below every positive's has P_k = G, hence
weight 0: it need not be sorted. A positive whose error is above every negative's has N_k = 0,
hence weight 1 / G: neither. Only the overlap of the two kinds is sorted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from segpipe.core.registry import register
from segpipe.core.shapes import Batch
from segpipe.losses.options import chosen_classes
from segpipe.losses.sigmoid import foreground


@register(
    "lovasz", source="Berman et al. 2018, arXiv:1705.08790, eq. 12 and Alg. 1", needs="hard labels", per_process=True
)
def lovasz(batch: Batch, *, classes: Any = "present", per_image: bool = False) -> Tensor:
    """Lovász-softmax: the extension of 1 - IoU at the errors |[y = c] - p_c|, mean over classes.

    For 0/1 probabilities it is 1 - IoU exactly. Hard labels only (a sort needs to know which
    pixels are positive). Under torch.distributed each process takes its own pixels. Use it to
    fine-tune or with cross entropy; alone from scratch it may not start.
    """
    labels = batch.require_hard("lovasz")
    chosen = chosen_classes(classes, batch)

    def of(image: slice) -> Tensor:
        return _mean_over_classes(
            batch.probs[image], labels[image], batch.valid[image], chosen, classes == "present", _softmax_errors
        )

    return _over(batch, of, per_image)


@register(
    "lovasz_hinge", source="Yu and Blaschko 2015, arXiv:1512.07797; Berman et al. 2018, sec. 2", needs="hard labels"
)
def lovasz_hinge(batch: Batch, *, classes: Any = "present", per_image: bool = True) -> Tensor:
    """Lovász hinge: the extension of 1 - IoU at the hinge errors 1 - z (2 y - 1), clipped at 0.

    Binary logits (N, 1, H, W) or two classes (their difference): the foreground's loss. More
    classes: each against the rest, mean over `classes`. In each image, or over the batch; images
    without a valid pixel are left out. Hard labels only.
    """
    labels = batch.require_hard("lovasz_hinge")
    chosen = chosen_classes(classes, batch)
    present = classes == "present"
    if batch.num_classes == 2:
        z = torch.stack([batch.logits[:, 0], foreground("lovasz_hinge", batch, "lovasz")[0]], 1)
        chosen, present = torch.tensor([False, True], device=chosen.device), False
    else:
        z = batch.logits

    def of(image: slice) -> Tensor:
        return _mean_over_classes(z[image], labels[image], batch.valid[image], chosen, present, _hinge_errors)

    return _over(batch, of, per_image)


def _over(batch: Batch, of: Any, per_image: bool) -> Tensor:
    """The loss of all images at once, or its mean over images with a valid pixel."""
    if not per_image:
        value: Tensor = of(slice(None))
        return value
    values = torch.stack([of(slice(i, i + 1)) for i in range(len(batch.raw))])
    return batch.mean_over_images(values, batch.valid.any(1))


def _softmax_errors(values: Tensor, positive: Tensor) -> Tensor:
    """1 - p at positives, p elsewhere, from p (P,)."""
    return torch.where(positive, 1 - values, values)


def _hinge_errors(z: Tensor, positive: Tensor) -> Tensor:
    """max(0, 1 - z) at positives, max(0, 1 + z) elsewhere."""
    return torch.where(positive, 1 - z, 1 + z).clamp(min=0)


def _mean_over_classes(
    values: Tensor, labels: Tensor, valid: Tensor, chosen: Tensor, present: bool, errors: Any
) -> Tensor:
    """Mean over the active classes of (n, C, P) values; 0, connected to the graph, when there is none.

    The weights of the errors are constants of the gradient, so sum(weight * error) is all that
    autograd sees.
    """
    total = torch.zeros((), dtype=values.dtype, device=values.device)
    number = torch.zeros((), dtype=values.dtype, device=values.device)
    for k in range(values.shape[1]):
        positive = (labels == k) & valid
        active = chosen[k] & (positive.any() if present else valid.any())
        if values.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(active):
            continue  # on a GPU all classes are computed, without a wait
        error = errors(values[:, k], positive).masked_fill(~valid, 0)
        weights = lovasz_weights(error.detach().flatten(), positive.flatten(), valid.flatten()).view_as(error)
        total = total + torch.where(active, (weights * error).sum(), 0)
        number = number + active
    return total / number.clamp(min=1) + 0 * values[:1, :1, :1].sum().nan_to_num()


def lovasz_weights(errors: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
    """(P,) the weight of each error: the gradient of the extension; 0 at void and at error 0.

    Equal errors are ranked positives first, then by place.
    """
    if errors.device.type == "cpu" and not torch.compiler.is_compiling():
        return _weights_of_overlap(errors, positive, valid)
    keys = torch.where(valid, errors, -1)
    order = torch.where(positive, 0, 1).argsort(stable=True)
    order = order[keys[order].argsort(descending=True, stable=True)]
    return torch.zeros_like(errors).scatter(0, order, _by_rank(positive[order], positive.sum(), errors.dtype)) * valid


def _weights_of_overlap(errors: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
    """The same with a sort of the overlap alone."""
    found = torch.zeros_like(errors)
    inside, outside = errors[positive], errors[valid & ~positive]
    if len(inside) == 0:  # G = 0: the first negative costs 1, all others 0
        if len(outside):
            found.view(-1)[torch.where(valid, errors, -1).argmax()] = 1
        return found
    low = inside.min()
    high = outside.max() if len(outside) else low - 1
    found[positive & (errors >= high)] = 1 / len(inside)
    above = len(inside) - int((inside < high).sum())
    index = (valid & torch.where(positive, errors < high, errors > low)).nonzero().squeeze(1)
    order = index[_descending(errors[index], positive[index])]
    found[order] = _by_rank(positive[order], torch.tensor(len(inside)), errors.dtype, above)
    return found


def _descending(errors: Tensor, positive: Tensor) -> Tensor:
    """Indices by falling error, positives first among equals, then by place."""
    if errors.dtype != torch.float32:
        first = (~positive).to(torch.uint8).argsort(stable=True)
        return first[errors[first].argsort(descending=True, stable=True)]
    # One sort of whole numbers, in numpy, which uses vector instructions: the inverted bits of a
    # float >= 0 fall as it grows (31 bits), then the kind (1 bit), then the place (32 bits).
    bits = np.uint64(0x7FFFFFFF) - errors.abs().numpy().view(np.uint32).astype(np.uint64)
    keys = (bits << np.uint64(33)) | ((~positive).numpy().astype(np.uint64) << np.uint64(32))
    keys |= np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    return torch.from_numpy((keys & np.uint64(0xFFFFFFFF)).astype(np.int64))


def _by_rank(positive: Tensor, number: Tensor, dtype: torch.dtype, above: int = 0) -> Tensor:
    """Weights of sorted errors, after `above` positives that came before; the closed form of this module's head."""
    positives = positive.long().cumsum(0)
    negatives = torch.arange(1, len(positive) + 1, device=positive.device) - positives
    left = (number - above - positives).to(torch.float64)
    union = (number + negatives).to(torch.float64)
    weights = torch.where(positive, 1 / union.clamp(min=1), left / (union * (union - 1)).clamp(min=1))
    first = (number == 0) & (negatives == 1)  # G = 0: J jumps from 0 to 1 at the first negative
    return torch.where(first, 1.0, weights).to(dtype)
