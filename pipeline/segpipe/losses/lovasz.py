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

from segpipe.core.batch import Batch, require_numbers
from segpipe.core.registry import register
from segpipe.core.softmax import at_least_float32, blocks
from segpipe.losses.options import Classes, chosen_classes
from segpipe.losses.sigmoid import foreground


@register(
    "lovasz", source="Berman et al. 2018, arXiv:1705.08790, eq. 12 and Alg. 1", needs="hard labels", per_process=True
)
def lovasz(batch: Batch, *, classes: Classes = "present", per_image: bool = False) -> Tensor:
    """Lovász-softmax: the extension of 1 - IoU at the errors |[y = c] - p_c|, mean over classes.

    For 0/1 probabilities it is 1 - IoU exactly. Hard labels only (a sort needs to know which
    pixels are positive). Under torch.distributed each process takes its own pixels. Use it to
    fine-tune or with cross entropy; alone from scratch it may not start.
    """
    labels = batch.require_hard("lovasz")
    chosen = chosen_classes(classes, batch)
    if batch.raw.device.type == "cpu" and not torch.compiler.is_compiling():
        require_numbers(batch.raw.detach().sum(1, dtype=torch.float32), batch.valid)
        values: Tensor = _LovaszSoftmax.apply(  # type: ignore[no-untyped-call]
            batch.raw, labels, batch.valid, chosen, classes == "present", per_image
        )
        return batch.mean_over_images(values, batch.valid.any(1)) if per_image else values.sum()

    def of(image: slice) -> Tensor:
        return _mean_over_classes(
            batch.probs[image], labels[image], batch.valid[image], chosen, classes == "present", _softmax_errors
        )

    return _over(batch, of, per_image)


@register(
    "lovasz_hinge", source="Yu and Blaschko 2015, arXiv:1512.07797; Berman et al. 2018, sec. 2", needs="hard labels"
)
def lovasz_hinge(batch: Batch, *, classes: Classes = "present", per_image: bool = True) -> Tensor:
    """Lovász hinge: the extension of 1 - IoU at the hinge errors 1 - z (2 y - 1), clipped at 0.

    Binary logits (N, 1, H, W) or two classes (their difference): the foreground's loss. More
    classes: each against the rest, mean over `classes`. In each image, or over the batch (under
    torch.distributed over each process's share of it); images without a valid pixel are left out.
    Hard labels only.
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
    for k, of_class in enumerate(values.unbind(1)):
        positive = (labels == k) & valid
        active = chosen[k] & (positive.any() if present else valid.any())
        if values.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(active):
            continue  # on a GPU all classes are computed, without a wait
        error = errors(of_class, positive).masked_fill(~valid, 0)
        weights = lovasz_weights(error.detach().flatten(), positive.flatten(), valid.flatten()).view_as(error)
        total = total + torch.where(active, (weights * error).sum(), 0)
        number = number + active
    return total / number.clamp(min=1) + 0 * values[:1, :1, :1].sum().nan_to_num()


def lovasz_weights(errors: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
    """(P,) the weight of each error: the gradient of the extension; 0 at void.

    Equal errors are ranked positives first, then by place.
    """
    if errors.device.type == "cpu" and not torch.compiler.is_compiling():
        index = (positive & valid).nonzero().squeeze(1)
        return _weights_of_overlap(errors, index, errors.masked_fill(positive | ~valid, -1))
    keys = torch.where(valid, errors, -1)
    order = torch.where(positive, 0, 1).argsort(stable=True)
    order = order[keys[order].argsort(descending=True, stable=True)]
    return torch.zeros_like(errors).scatter(0, order, _by_rank(positive[order], positive.sum(), errors.dtype)) * valid


def _weights_of_overlap(errors: Tensor, inside: Tensor, others: Tensor) -> Tensor:
    """The same with a sort of the overlap alone.

    inside: indices of the positives; others (P,): the errors of valid negatives, -1 elsewhere.
    """
    found = torch.zeros_like(errors)
    if len(inside) == 0:  # G = 0: the first negative costs 1, all others 0
        if float(others.max()) >= 0:
            found[others.argmax()] = 1
        return found
    of_inside = errors[inside]
    low, high = of_inside.min(), others.max()
    certain = of_inside >= high
    found[inside[certain]] = 1 / len(inside)
    below = inside[~certain]
    outside = (others > low).nonzero().squeeze(1)
    index = torch.cat([below, outside])
    order = _descending(errors[index])
    weights = _by_rank(order < len(below), torch.tensor(len(inside)), errors.dtype, len(inside) - len(below))
    found[index[order]] = weights
    return found


def _descending(errors: Tensor) -> Tensor:
    """Order by falling error; equal ones by place, so that the positives, which stand first, come first."""
    if errors.dtype != torch.float32:
        return errors.argsort(descending=True, stable=True)
    # One sort of whole numbers, in numpy, which uses vector instructions: the inverted bits of a
    # float >= 0 fall as it grows; the place is below them.
    keys = errors.abs().numpy().view(np.uint32) ^ np.uint32(0x7FFFFFFF)
    packed = keys.astype(np.uint64) << np.uint64(32)
    packed |= np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    return torch.from_numpy((packed & np.uint64(0xFFFFFFFF)).view(np.int64))


def _by_rank(positive: Tensor, number: Tensor, dtype: torch.dtype, above: int = 0) -> Tensor:
    """Weights of sorted errors, after `above` positives that came before; the closed form of this module's head."""
    positives = positive.cumsum(0, dtype=torch.int32)
    negatives = torch.arange(1, len(positive) + 1, device=positive.device, dtype=torch.int32) - positives
    left = (number - above - positives).to(dtype)
    union = (number + negatives).to(dtype)
    weights = torch.where(positive, 1 / union.clamp(min=1), left / (union * (union - 1)).clamp(min=1))
    first = (number == 0) & (negatives == 1)  # G = 0: J jumps from 0 to 1 at the first negative
    return torch.where(first, 1.0, weights)


class _LovaszSoftmax(torch.autograd.Function):
    """The loss of each group of pixels (the batch, or each image), on a CPU.

    As the loss is linear in the probabilities where the order does not change, its derivative by
    them is a tensor of signed weights, which takes the place of the probabilities class by class.
    """

    @staticmethod
    def forward(
        ctx: Any, raw: Tensor, labels: Tensor, valid: Tensor, chosen: Tensor, present: bool, per_image: bool
    ) -> Tensor:
        """(1,) or (N,) losses."""
        clean = at_least_float32(raw).masked_fill(~valid.unsqueeze(1), 0)
        signed = clean.softmax(1)
        del clean
        groups = [slice(i, i + 1) for i in range(len(raw))] if per_image else [slice(None)]
        values = torch.zeros(len(groups), dtype=signed.dtype)
        void = ~valid
        for place, group in enumerate(groups):
            values[place] = _sign(signed[group], labels[group], void[group], chosen, present)
        ctx.save_for_backward(raw, valid, signed)
        ctx.groups = groups
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """dL/dz = p (w - sum_k p_k w_k), block by block."""
        raw, valid, signed = ctx.saved_tensors
        found = torch.empty_like(raw)
        scale = grad if len(ctx.groups) > 1 else grad.expand(len(raw))
        for image, part in blocks(raw):
            clean = raw[image, :, part].to(signed.dtype).masked_fill(~valid[image, part], 0)
            probs = clean.softmax(0)
            weights = signed[image, :, part] * scale[image]
            found[image, :, part] = probs * (weights - (probs * weights).sum(0))
        return found, None, None, None, None, None


def _sign(probs: Tensor, labels: Tensor, void: Tensor, chosen: Tensor, present: bool) -> Tensor:
    """The loss of (n, C, P) probabilities, which become the derivative by them."""
    total, active = torch.zeros((), dtype=probs.dtype), 0
    for k in range(probs.shape[1]):
        inside = ((labels == k) & ~void).flatten().nonzero().squeeze(1)
        if not bool(chosen[k]) or void.all() or (present and len(inside) == 0):
            probs[:, k] = 0
            continue
        errors = probs[:, k].flatten()
        others = errors.masked_fill(void.flatten(), -1)
        others[inside] = -1
        errors[inside] = 1 - errors[inside]
        weights = _weights_of_overlap(errors, inside, others)
        # A dot product in float32 adds one after another: 4e-5 off at a million pixels. sum() adds in pairs.
        total, active = total + (weights * errors).sum(), active + 1
        weights[inside] *= -1
        probs[:, k] = weights.view_as(labels)
    probs /= max(active, 1)
    return total / max(active, 1)
