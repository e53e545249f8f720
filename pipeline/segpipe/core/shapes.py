"""One batch of logits and targets, checked once and flattened; what losses share is computed once.

Shapes: N images, C classes, P = H * W pixels of one image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

IGNORE_INDEX = 255


@dataclass
class Batch:
    """Checked input of a loss. Void pixels hold logits 0, label 0 and count nowhere.

    logits (N, C, P) float32 or float64; labels (N, P) int64 or None; soft (N, C, P) or None;
    valid (N, P) bool; size (H, W).
    """

    logits: Tensor
    labels: Tensor | None
    soft: Tensor | None
    valid: Tensor
    size: tuple[int, int]

    @property
    def num_classes(self) -> int:
        """C."""
        return self.logits.shape[1]

    @cached_property
    def num_valid(self) -> Tensor:
        """Number of valid pixels, a scalar of the logits' type."""
        return self.valid.sum().to(self.logits.dtype)

    @cached_property
    def log_probs(self) -> Tensor:
        """(N, C, P) log softmax."""
        return functional.log_softmax(self.logits, 1)

    @cached_property
    def probs(self) -> Tensor:
        """(N, C, P) softmax."""
        return self.log_probs.exp()

    @cached_property
    def log_prob_of_label(self) -> Tensor:
        """(N, P) log p of the label; needs hard labels."""
        assert self.labels is not None
        return self.log_probs.gather(1, self.labels.unsqueeze(1)).squeeze(1)

    def mean_over_valid(self, loss_map: Tensor) -> Tensor:
        """Mean of an (N, P) map over valid pixels; 0 with zero gradient when there are none."""
        return self.sum_over_valid(loss_map) / self.num_valid.clamp(min=1)

    def sum_over_valid(self, loss_map: Tensor) -> Tensor:
        """Sum of an (N, P) map over valid pixels; void pixels get exactly zero gradient."""
        return loss_map.masked_fill(~self.valid, 0).sum()

    def require_hard(self, name: str) -> Tensor:
        """The labels (N, P), or an error for a loss that has no soft form."""
        if self.labels is None:
            raise ValueError(
                f"loss '{name}' needs hard labels (integer, (N, H, W)), found a soft target; "
                "use ce, kl, dice or jml with soft targets"
            )
        return self.labels


def make_batch(
    logits: Tensor, target: Tensor, *, ignore_index: int | None = IGNORE_INDEX, keep: Tensor | None = None
) -> Batch:
    """Check and flatten the input of a loss.

    Args:
        logits: (N, C, H, W), or (N, C) for classification; any floating type.
        target: (N, H, W) integer of any width (hard), or (N, C, H, W) floating (soft).
        ignore_index: label that is void; None: no label is.
        keep: (N, H, W) bool, False where a pixel must not count; None: all count.

    Raises:
        ValueError: when a shape, type or label does not fit; found, wanted, next.
    """
    if not logits.is_floating_point() or logits.ndim not in (2, 4):
        raise ValueError(f"logits are {tuple(logits.shape)} {logits.dtype}, wanted floating (N, C, H, W) or (N, C)")
    if logits.ndim == 2:
        logits = logits[:, :, None, None]
        target = target.reshape(*target.shape, 1, 1)
        keep = None if keep is None else keep.reshape(*keep.shape, 1, 1)
    n, c, h, w = logits.shape
    logits = logits if logits.dtype == torch.float64 else logits.float()
    valid = _valid_of_keep(keep, (n, h, w), logits.device)
    if target.is_floating_point():
        labels, soft = None, _soft(target, (n, c, h, w))
        soft = soft.to(logits.dtype).reshape(n, c, h * w).masked_fill(~valid.unsqueeze(1), 0)
    else:
        labels, valid = _hard(target, (n, h, w), c, ignore_index, valid)
        soft = None
    logits = logits.reshape(n, c, h * w).masked_fill(~valid.unsqueeze(1), 0)
    return Batch(logits, labels, soft, valid, (h, w))


def _valid_of_keep(keep: Tensor | None, shape: tuple[int, int, int], device: torch.device) -> Tensor:
    if keep is None:
        return torch.ones(shape[0], shape[1] * shape[2], dtype=torch.bool, device=device)
    if keep.dtype != torch.bool or tuple(keep.shape) != shape:
        raise ValueError(f"keep is {tuple(keep.shape)} {keep.dtype}, wanted bool {shape}")
    return keep.reshape(shape[0], -1)


def _soft(target: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    if tuple(target.shape) != shape:
        raise ValueError(
            f"a floating target is soft and must be {shape}, found {tuple(target.shape)}; give class ids as integers"
        )
    return target


def _hard(
    target: Tensor, shape: tuple[int, int, int], num_classes: int, ignore_index: int | None, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """Labels with void replaced by class 0, and the mask of valid pixels."""
    if target.dtype == torch.bool or target.is_complex():
        raise ValueError(f"target is {target.dtype}, wanted integer class ids or a floating soft target")
    if tuple(target.shape) != shape:
        raise ValueError(f"target is {tuple(target.shape)}, but these logits ask for {shape} class ids")
    labels = target.reshape(shape[0], -1).to(torch.int64)
    if ignore_index is not None:
        valid = valid & (labels != ignore_index)
    labels = labels.masked_fill(~valid, 0)
    inside = (labels >= 0) & (labels < num_classes)
    if labels.device.type == "cuda":
        torch._assert_async(inside.all())  # no synchronisation with the host
    elif not bool(inside.all()):
        wrong = sorted(set(labels[~inside].tolist()))[:5]
        raise ValueError(
            f"target holds {', '.join(map(str, wrong))}, wanted 0..{num_classes - 1} or "
            f"ignore_index={ignore_index}; map or void such pixels first"
        )
    return labels, valid
