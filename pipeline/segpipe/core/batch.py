"""One batch of logits and targets, checked once and flattened; what losses share is computed once.

Shapes: N images, C classes, P = H * W pixels of one image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from segpipe.core import distributed
from segpipe.core.softmax import at_least_float32, label_statistics
from segpipe.core.void import VOID

_T = TypeVar("_T")


class once(Generic[_T]):
    """A property computed at its first use; functools.cached_property takes a lock, which torch.compile refuses."""

    def __init__(self, compute: Callable[[Any], _T]) -> None:
        self.compute, self.place = compute, f"once_{compute.__name__}"
        self.__doc__ = compute.__doc__

    def __get__(self, instance: Any, owner: type) -> _T:
        if not hasattr(instance, self.place):
            setattr(instance, self.place, self.compute(instance))
        value: _T = getattr(instance, self.place)
        return value


@dataclass
class Batch:
    """Checked input of a loss; void pixels count nowhere.

    raw (N, C, P) logits as given, whatever lies under void; labels (N, P) int64, 0 under void, or
    None; soft (N, C, P), 0 under void, or None; valid (N, P) bool; size (H, W); shared: sums run
    over all processes of torch.distributed; training: random parts are drawn; binary: the logits
    came with one channel.

    Binary logits (N, 1, P) stand here as two classes with logits 0 and z: a softmax of these is
    the sigmoid of z, so that every loss has its binary form.
    """

    raw: Tensor
    labels: Tensor | None
    soft: Tensor | None
    valid: Tensor
    size: tuple[int, int]
    training: bool = True
    shared: bool = True
    binary: bool = False

    @property
    def num_classes(self) -> int:
        """C."""
        return self.raw.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """What the loss is computed in: float64 for float64 logits, else float32."""
        return torch.float64 if self.raw.dtype == torch.float64 else torch.float32

    @once
    def logits(self) -> Tensor:
        """(N, C, P), 0 under void, at least float32."""
        require_numbers(self.raw.detach().sum(1, dtype=torch.float32), self.valid)
        return at_least_float32(self.raw).masked_fill(~self.valid.unsqueeze(1), 0)

    @once
    def log_probs(self) -> Tensor:
        """(N, C, P) log softmax."""
        return functional.log_softmax(self.logits, 1)

    @once
    def probs(self) -> Tensor:
        """(N, C, P) softmax."""
        return self.log_probs.exp()

    @once
    def _statistics(self) -> tuple[Tensor, Tensor, Tensor]:
        assert self.labels is not None
        found = label_statistics(self.raw, self.labels, self.valid)
        require_numbers(found[1].detach(), self.valid)
        return found

    @property
    def log_prob_of_label(self) -> Tensor:
        """(N, P) log p of the label, 0 under void; needs hard labels."""
        return self._statistics[0]

    @property
    def sum_log_probs(self) -> Tensor:
        """(N, P) sum over classes of log p, undefined under void; needs hard labels."""
        return self.raw.sum(1, dtype=self.dtype) - self.num_classes * self._statistics[1]

    @property
    def mass(self) -> Tensor:
        """(N, C) float64 sum of p over valid pixels; needs hard labels."""
        return self._statistics[2]

    @once
    def num_valid(self) -> Tensor:
        """Number of valid pixels over all processes, a scalar of the loss's type."""
        return self.total(self.valid.sum().to(self.dtype))

    @once
    def label_mass(self) -> Tensor:
        """(N, C) float64 sum of the target over valid pixels."""
        if self.labels is None:
            assert self.soft is not None
            return self.soft.sum(2, dtype=torch.float64)
        zeros = torch.zeros(len(self.raw), self.num_classes, dtype=torch.float64, device=self.raw.device)
        return zeros.scatter_add(1, self.labels, self.valid.double())

    def total(self, value: Tensor) -> Tensor:
        """The sum of `value` over all processes that train on shares of one batch."""
        return distributed.all_sum(value) if self.shared else value

    def largest(self, value: Tensor) -> Tensor:
        """The largest `value` over these processes, without gradient."""
        return distributed.all_max(value) if self.shared else value.detach()

    def sum_over_valid(self, loss_map: Tensor) -> Tensor:
        """Sum of an (N, P) map over valid pixels; void pixels get exactly zero gradient."""
        return self.total(loss_map.masked_fill(~self.valid, 0).sum())

    def mean_over_valid(self, loss_map: Tensor) -> Tensor:
        """Mean of an (N, P) map over valid pixels; 0 with zero gradient when there are none."""
        return self.sum_over_valid(loss_map) / self.num_valid.clamp(min=1)

    def mean_over_images(self, values: Tensor, counts: Tensor) -> Tensor:
        """Mean of (N,) values over the images that `counts` (N,) bool admits; 0 when none is."""
        total = self.total(torch.where(counts, values, 0).sum())
        return total / self.total(counts.sum().to(values.dtype)).clamp(min=1)

    def require_hard(self, name: str) -> Tensor:
        """The labels (N, P), or an error for a loss that has no soft form."""
        if self.labels is None:
            raise ValueError(
                f"loss '{name}' needs hard labels (integer, (N, H, W)), found a soft target; "
                "use ce, kl, focal, dice or jml with soft targets"
            )
        return self.labels


def make_batch(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int | None = VOID,
    keep: Tensor | None = None,
    training: bool = True,
) -> Batch:
    """Check and flatten the input of a loss.

    Args:
        logits: (N, C, H, W), or (N, C) for classification; any floating type. C = 1 is binary.
        target: (N, H, W) integer of any width (hard), or (N, C, H, W) floating (soft). Binary:
            ids 0 and 1, (N, H, W) or (N, 1, H, W), or the soft foreground (N, 1, H, W).
        ignore_index: label that is void; None: no label is.
        keep: (N, H, W) bool, False where a pixel must not count; None: all count.
        training: random parts are drawn, and the processes of torch.distributed are one batch.

    Raises:
        ValueError: when a shape, type, label or logit does not fit; found, wanted, next.
    """
    if not logits.is_floating_point() or logits.ndim not in (2, 4) or logits.shape[1] < 1:
        raise ValueError(f"logits are {tuple(logits.shape)} {logits.dtype}, wanted floating (N, C, H, W) or (N, C)")
    if not logits.numel():
        raise ValueError(f"logits are {tuple(logits.shape)}: an empty batch; give at least one image and one pixel")
    if target.dtype == torch.bool or target.is_complex():
        raise ValueError(f"target is {target.dtype}, wanted integer class ids or a floating soft target")
    if logits.ndim == 2:
        logits, target = logits[:, :, None, None], target[..., None, None]
        keep = None if keep is None else keep[..., None, None]
    n, c, h, w = logits.shape
    valid = _valid_of_keep(keep, (n, h, w), logits.device)
    soft = labels = None
    if target.is_floating_point():
        soft = _soft(target, (n, c, h, w), valid).to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
    else:
        if c == 1 and target.ndim == 4 and target.shape[1] == 1:
            target = target[:, 0]
        labels, valid = _hard(target, (n, h, w), max(c, 2), ignore_index, valid)
    raw = logits.reshape(n, c, h * w)
    if c == 1:
        raw = torch.cat([torch.zeros_like(raw), raw], 1)
        soft = None if soft is None else torch.cat([(1 - soft).masked_fill(~valid.unsqueeze(1), 0), soft], 1)
    return Batch(raw, labels, soft, valid, (h, w), training, shared=training, binary=c == 1)


def _valid_of_keep(keep: Tensor | None, shape: tuple[int, int, int], device: torch.device) -> Tensor:
    if keep is None:
        return torch.ones(shape[0], shape[1] * shape[2], dtype=torch.bool, device=device)
    if keep.dtype != torch.bool or tuple(keep.shape) != shape:
        raise ValueError(f"keep is {tuple(keep.shape)} {keep.dtype}, wanted bool {shape}")
    return keep.reshape(shape[0], -1)


def _soft(target: Tensor, shape: tuple[int, int, int, int], valid: Tensor) -> Tensor:
    """The soft target (N, C, P), 0 under void."""
    if tuple(target.shape) != shape:
        raise ValueError(
            f"a floating target is soft and must be {shape}, found {tuple(target.shape)}; give class ids as integers"
        )
    soft = target.reshape(*shape[:2], -1).masked_fill(~valid.unsqueeze(1), 0)
    inside = ((soft >= 0) & (soft <= 1 + 1e-3)).all()  # false for nan too
    if _asynchronous(soft):
        torch._assert_async(inside)
    elif not bool(inside):
        raise ValueError(
            f"the soft target holds values from {soft.min():g} to {soft.max():g}, wanted probabilities in 0..1; "
            "normalise it, or drop such pixels with keep"
        )
    return soft


def _hard(
    target: Tensor, shape: tuple[int, int, int], num_classes: int, ignore_index: int | None, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """Labels with void replaced by class 0, and the mask of valid pixels."""
    if tuple(target.shape) != shape:
        raise ValueError(f"target is {tuple(target.shape)}, but these logits ask for {shape} class ids")
    labels = target.reshape(shape[0], -1).to(torch.int64)
    if ignore_index is not None:
        valid = valid & (labels != ignore_index)
    labels = labels.masked_fill(~valid, 0)
    inside = (labels >= 0) & (labels < num_classes)
    if _asynchronous(labels):
        torch._assert_async(inside.all())
    elif not bool(inside.all()):
        wrong = sorted(set(labels[~inside].tolist()))[:5]
        raise ValueError(
            f"target holds {', '.join(map(str, wrong))}, wanted 0..{num_classes - 1} or "
            f"ignore_index={ignore_index}; map or void such pixels first"
        )
    return labels, valid


def require_numbers(of_pixel: Tensor, valid: Tensor) -> None:
    """Refuse nan in what was computed of each pixel's logits; on a GPU it reaches the value, without a wait."""
    if not _asynchronous(of_pixel):
        wrong = of_pixel.isnan().logical_and_(valid).sum()
        if bool(wrong):
            raise ValueError(f"the logits hold nan on {int(wrong)} valid pixels; look at the network or lower its step")


def _asynchronous(tensor: Tensor) -> bool:
    """Whether reading a value back would wait for a GPU or break a compiled graph."""
    return tensor.device.type != "cpu" or torch.compiler.is_compiling()
