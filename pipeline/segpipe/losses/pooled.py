"""Cross entropy pooled otherwise than by the mean: hard pixels, the worst case, sampled classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from segpipe.core import distributed
from segpipe.core.batch import Batch
from segpipe.core.errors import ConfigError
from segpipe.core.registry import register
from segpipe.losses.options import PerClass, in_range, one_of, per_class
from segpipe.losses.pixel import label_weight, nll


@register(
    "ohem", source="Shrivastava et al. 2016, arXiv:1604.03540; the pixel rule as practised by HRNet", per_process=True
)
def ohem(batch: Batch, *, threshold: float = 0.7, min_kept: int = 100000, class_weights: PerClass = None) -> Tensor:
    """Mean cross entropy of hard pixels: those whose p of the label is below a bound.

    The bound is the larger of `threshold` and the p at place `min_kept` (from 0) of the valid
    pixels of the whole batch, ascending; when nothing is below it, those at it are kept. Under
    torch.distributed each process selects from its own pixels. Use it against an easy majority;
    noisy labels are hard pixels too.
    """
    in_range("ohem", "min_kept", min_kept, 0)
    weights = None if class_weights is None else per_class("ohem", "class_weights", class_weights, batch)
    loss_map = nll(batch, weights)
    p = nll(batch, None).detach().neg().exp()
    bound = _kth_smallest(p, batch.valid, min_kept, known=threshold).clamp(min=threshold)
    keep = batch.valid & (p < bound)
    keep = keep | (batch.valid & (p <= bound) & ~keep.any())
    total, count = batch.total(torch.where(keep, loss_map, 0).sum()), batch.total(keep.sum().to(loss_map.dtype))
    return total / count.clamp(min=1)


@register("topk", source="Wu et al. 2016, arXiv:1605.06885, sec. 3.2 (online bootstrapping)", per_process=True)
def topk(batch: Batch, *, k: int = 100000) -> Tensor:
    """Mean cross entropy of the k hardest valid pixels of the batch; more than there are is the mean.

    Pixels that tie for the last place share it. Under torch.distributed each process takes its own k.
    """
    in_range("topk", "k", k, 1)
    losses, valid = nll(batch, None).reshape(1, -1), batch.valid.reshape(1, -1)
    number = valid.sum(1, keepdim=True).clamp(max=k).double()
    weights = _top_weights(losses.detach(), valid, number, k)
    return batch.total((weights * losses).sum()) / batch.total(number.sum()).clamp(min=1)


@register("lmp", source="Rota Bulo et al. 2017, arXiv:1704.02966 (loss max-pooling)")
def lmp(batch: Batch, *, p: float = 1.7, ratio: float = 0.3, m: Any = None, per_image: bool = True) -> Tensor:
    """Loss max-pooling: the largest weighted sum of pixel losses over weights of bounded p-norm.

    L = max sum w_i l_i over w >= 0, ||w||_p <= n^(1/p - 1), w_i <= tau, where at least m pixels
    (a `ratio` of the n valid ones, or `m`) must share the weight. p = 1 is the mean of the m
    largest losses, p = inf or m = n the mean. n counts all valid pixels. Pooled in each image, or
    over the batch (and all processes). Use it when rare classes are drowned by the mean.
    """
    in_range("lmp", "p", p, 1)
    in_range("lmp", "ratio", ratio, 0, 1)
    if m is not None and (isinstance(m, bool) or not isinstance(m, int | float) or m < 1):
        raise ConfigError(f"loss 'lmp': m is {m!r}, wanted a number of pixels >= 1, or none to take the ratio")
    losses, valid = nll(batch, None), batch.valid
    if not per_image:
        losses, valid = losses.reshape(1, -1), valid.reshape(1, -1)
    total, largest = (_same, _same) if per_image else (batch.total, batch.largest)
    weights = lmp_weights(losses.detach(), valid, p=p, ratio=ratio, m=m, total=total, largest=largest)
    pooled = (weights * losses).sum(1)  # Danskin: the best weights are constants of the gradient
    return batch.mean_over_images(pooled, valid.any(1)) if per_image else batch.total(pooled.sum())


def _same(value: Tensor) -> Tensor:
    return value


def lmp_weights(
    losses: Tensor, valid: Tensor, *, p: float, ratio: float = 0.3, m: float | None = None,
    total: Callable[[Tensor], Tensor] = _same, largest: Callable[[Tensor], Tensor] = _same,
) -> Tensor:  # fmt: skip
    """The maximising weights of each row of non-negative losses (R, P); 0 where not valid.

    Derivation. With 1/p + 1/q = 1 and multipliers mu (norm), nu_i (cap), the KKT conditions read
    l_i = mu p w_i^(p-1) + nu_i. So w_i = tau min(1, l_i / alpha)^(q-1) for one alpha, and as
    (q-1) p = q the tight norm, sum w_i^p = m tau^p, becomes with s_i = l_i^q, a = alpha^q

        f(a) = m a - sum_i min(s_i, a) = 0.

    f is convex and piecewise linear, f >= 0 at a_0 = sum s / m, so Newton's steps
    a <- sum of {s_i <= a} / (m - #{s_i > a}) descend to the root and reach it exactly as soon as
    the count repeats: no sort. Where losses lie far apart a step passes one of them only, so every
    other step halves the range in which the root lies, from the least positive loss up. All of it
    is done in logarithms, since near p = 1 the powers s_i leave float32. When at most m losses are
    positive, each takes the cap tau.
    """
    n = total(valid.sum(1, keepdim=True).double())
    wanted = (torch.full_like(n, m) if m is not None else ratio * n).clamp(min=1).minimum(n.clamp(min=1))
    if p == math.inf:
        return (valid / n.clamp(min=1)).to(losses.dtype)
    if p == 1:
        size = losses.shape[1] if m is None else min(math.ceil(m), losses.shape[1])
        return (_top_weights(losses, valid, wanted, size, total) / wanted).to(losses.dtype)
    q = p / (p - 1)
    losses = losses.masked_fill(~valid, 0)
    positive = losses > 0
    few = total(positive.sum(1, keepdim=True).double()) <= wanted
    logs = losses.clamp(min=torch.finfo(losses.dtype).tiny).log()
    alpha = _log_alpha(logs, positive, wanted, few, q, total, largest)
    tau = n.clamp(min=1).pow(1 / p - 1) * wanted.pow(-1 / p)
    share = ((logs - alpha.to(logs.dtype)) * (q - 1)).clamp(max=0).exp().masked_fill(~positive, 0)
    return torch.where(few, positive.to(losses.dtype), share) * tau.to(losses.dtype)


def _log_alpha(
    logs: Tensor, positive: Tensor, wanted: Tensor, few: Tensor, q: float, total: Callable[[Tensor], Tensor],
    largest: Callable[[Tensor], Tensor],
) -> Tensor:  # fmt: skip
    """(R, 1) the logarithm of alpha in `lmp_weights`; rows of a `few` positive losses do not matter."""
    high = largest(logs.amax(1, keepdim=True)).double()
    least = logs.masked_fill(~positive, math.inf).amin(1, keepdim=True)
    low = largest(-least).neg().double().minimum(high)
    found, below = _above(logs, high, q, total, largest)
    high = high + ((below.exp() + found) / wanted).log() / q  # a_0; at the largest nothing is above
    count, eager = torch.full_like(wanted, -1), logs.device.type == "cpu" and not torch.compiler.is_compiling()
    for _ in range(100 if eager else 40):
        found, below = _above(logs, high, q, total, largest)
        step = (below - (wanted - found).clamp(min=1e-300).log()) / q
        done = few | (found >= wanted) | (found == count)
        high = torch.where(few | (found >= wanted), high, high + step)
        if eager and bool(done.all()):
            break
        count, middle = found, (low + high) / 2
        found, below = _above(logs, middle, q, total, largest)
        beyond = (below.exp() + found <= wanted) & ~done  # f >= 0: the root lies below
        high, low = torch.where(beyond, middle, high), torch.where(beyond | done, low, middle)
        count = torch.where(beyond, -1, count)
    return high


def _above(
    logs: Tensor, alpha: Tensor, q: float, total: Callable[[Tensor], Tensor], largest: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Of each row (R, 1): how many logs lie above alpha, and log sum exp(q (log - alpha)) of the others."""
    powers = (logs - alpha.to(logs.dtype)) * q
    above = powers > 0
    powers = powers.masked_fill(above, -math.inf)
    most = largest(powers.amax(1, keepdim=True)).clamp(min=-1e30)  # none is left: exp(-inf) below, a log of 0
    rest = total((powers - most).exp().sum(1, keepdim=True, dtype=torch.float64))
    return total(above.sum(1, keepdim=True).double()), rest.log() + most.double()


@register("sampled_ce", source="after Mikolov et al. 2013, arXiv:1310.4546, eq. 5, for classes of pixels")
def sampled_ce(
    batch: Batch, *, rounds: int = 4, power: float = 1.0, ratio: float = 1.0, base: float = 1.0,
    mode: str = "expectation",
) -> Tensor:  # fmt: skip
    """Cross entropy over `rounds` draws in which rare classes are kept and raised, others thinned.

    With n_c of n valid pixels in class c, rho_c = n_c / n + (1 - n_c / n) / C. In round t of m,
    s_t = sqrt(t / m): classes with rho_c < s_t / (power + 1) count with weight (s_t / rho_c)^power;
    pixels of the others are kept with probability `ratio` and weight `base`. mode "sampling" draws
    them, "expectation" takes the mean: a weighted cross entropy. ratio = base = 1 with
    C <= power + 1, or power = 0, is plain cross entropy.
    """
    one_of("sampled_ce", "mode", mode, ("expectation", "sampling"))
    in_range("sampled_ce", "rounds", rounds, 1)
    in_range("sampled_ce", "power", power, 0)
    in_range("sampled_ce", "ratio", ratio, 0, 1)
    in_range("sampled_ce", "base", base, 0)
    c = batch.num_classes
    share = batch.total(batch.label_mass.sum(0)) / batch.num_valid.double().clamp(min=1)
    rho = share + (1 - share) / c
    steps = (torch.arange(1, rounds + 1, device=rho.device, dtype=rho.dtype) / rounds).sqrt()[:, None]
    rare = rho < steps / (power + 1)  # (rounds, C)
    raised = torch.where(rare, (steps / rho).pow(power), 0).to(batch.dtype)
    others = torch.where(rare, 0, base).to(batch.dtype)
    if mode == "expectation" or not batch.training:
        weights = (raised + ratio * others).sum(0)
        total, norm = nll(batch, weights), label_weight(batch, weights)
    else:
        total = norm = torch.zeros_like(batch.valid, dtype=batch.dtype)
        for row in range(rounds):
            kept = torch.rand(batch.valid.shape, device=rho.device) < ratio
            total = total + nll(batch, raised[row]) + torch.where(kept, nll(batch, others[row]), 0)
            norm = norm + label_weight(batch, raised[row]) + torch.where(kept, label_weight(batch, others[row]), 0)
    denominator = batch.sum_over_valid(norm)
    return batch.sum_over_valid(total) / torch.where(denominator > 0, denominator, 1)


def _top_weights(
    losses: Tensor, valid: Tensor, number: Tensor, size: int, total: Callable[[Tensor], Tensor] = _same
) -> Tensor:
    """(R, P) weight 1 for the `number` (R, 1) largest of each row, ties sharing what the last place leaves.

    size: at least the largest number, known without looking at the tensor. total: sums over processes that hold
    parts of the rows.
    """
    masked = losses.masked_fill(~valid, -math.inf)
    size = min(size, masked.shape[1])
    place = number.ceil().long().clamp(1, size) - 1
    if total is not _same and distributed.active():
        bound = _shared_bound(masked, number.ceil().clamp(min=1), total)
    elif losses.device.type == "cpu" and not torch.compiler.is_compiling():
        rank = masked.shape[1] - place.squeeze(1)  # the k-th largest as a rank from below
        bound = torch.stack([row.kthvalue(int(k)).values for row, k in zip(masked, rank, strict=True)])[:, None]
    else:
        bound = masked.topk(size, 1).values.gather(1, place)
    above, ties = masked > bound, (masked == bound) & valid
    rest = (number - total(above.sum(1, keepdim=True).double())) / total(ties.sum(1, keepdim=True).double()).clamp(
        min=1
    )
    return torch.where(ties, rest.to(losses.dtype), above.to(losses.dtype))


def _shared_bound(values: Tensor, number: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
    """(R, 1) the `number`-th largest of values >= 0 (or -inf) whose rows are shared among processes.

    Bits of floats that are not negative have the order of the floats, so halving the range of bits finds it exactly.
    """
    kind, width = (torch.int64, 62) if values.dtype == torch.float64 else (torch.int32, 30)
    low = torch.zeros(values.shape[0], 1, dtype=kind, device=values.device)  # bits whose float enough values reach
    for bit in range(width, -1, -1):
        higher = low | (1 << bit)
        reached = total((values >= higher.view(values.dtype)).sum(1, keepdim=True).double()) >= number
        low = torch.where(reached, higher, low)
    return low.view(values.dtype)


def _kth_smallest(values: Tensor, valid: Tensor, index: int, *, known: float) -> Tensor:
    """The value at `index` (from 0, at most the last) of the valid values, ascending.

    known: when more than `index` values are below it, it may be returned instead.
    """
    if values.device.type != "cpu" or torch.compiler.is_compiling():
        ordered = values.masked_fill(~valid, math.inf).flatten().sort().values
        place = (valid.sum() - 1).clamp(0, index)
        return ordered.gather(0, place.reshape(1)).squeeze(0)
    chosen = values[valid]
    if len(chosen) == 0 or int((chosen < known).sum()) > index:
        return values.new_tensor(known)
    return chosen.kthvalue(min(index, len(chosen) - 1) + 1).values
