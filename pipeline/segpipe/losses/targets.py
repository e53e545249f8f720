"""Soft targets made of hard labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from segpipe.core.errors import ConfigError
from segpipe.core.void import VOID


def one_hot(labels: Tensor, num_classes: int, *, ignore_index: int | None = VOID) -> tuple[Tensor, Tensor]:
    """Soft targets of integer labels (N, H, W).

    Returns:
        (N, C, H, W) float32, 0 under void, and keep (N, H, W) bool, False there.
    """
    keep = torch.ones_like(labels, dtype=torch.bool) if ignore_index is None else labels != ignore_index
    soft = torch.zeros(len(labels), num_classes, *labels.shape[1:], device=labels.device)
    soft.scatter_(1, labels.long().masked_fill(~keep, 0).unsqueeze(1), keep.unsqueeze(1).float())
    return soft, keep


def check_smoothing(epsilon: float, size: int = 1) -> None:
    """ConfigError for a share outside 0..1 or a window without a centre."""
    if not 0 <= epsilon <= 1 or size < 1 or size % 2 == 0:
        raise ConfigError(f"label smoothing: wanted epsilon in 0..1 and an odd size, found {epsilon} and {size}")


def boundary_label_smoothing(
    labels: Tensor, num_classes: int, *, epsilon: float = 0.5, size: int = 3, ignore_index: int | None = VOID
) -> tuple[Tensor, Tensor]:
    """Label smoothing at boundaries alone: what annotators disagree on.

    A boundary pixel has another class in its size x size window and no void pixel there. Its
    target is (1 - epsilon) onehot + epsilon / C, all others keep their one-hot (Wang et al. 2023,
    arXiv:2302.05666, sec. 4). Pass both to a loss: criterion(logits, soft, keep=keep).

    Args:
        labels: (N, H, W) integer class ids.
        epsilon: the share that is spread over all classes, 0..1.
        size: side of the window in pixels, odd.

    Returns:
        The soft target (N, C, H, W) float32, 0 under void, and keep (N, H, W) bool, False there.

    Raises:
        ConfigError: epsilon or size out of range. ValueError: labels of a wrong type or range.
    """
    check_smoothing(epsilon, size)
    if labels.is_floating_point() or labels.ndim != 3:
        raise ValueError(f"labels are {tuple(labels.shape)} {labels.dtype}, wanted integer (N, H, W)")
    void = torch.zeros_like(labels, dtype=torch.bool) if ignore_index is None else labels == ignore_index
    ids = labels.long().masked_fill(void, 0)
    if bool(((ids < 0) | (ids >= num_classes)).any()):
        raise ValueError(f"labels reach from {int(ids.min())} to {int(ids.max())}, wanted 0..{num_classes - 1} or void")

    def window(values: Tensor) -> Tensor:
        return functional.max_pool2d(values.float().unsqueeze(1), size, 1, size // 2).squeeze(1)

    boundary = ((window(ids) != -window(-ids)) & (window(void) == 0)).unsqueeze(1)
    soft, keep = one_hot(labels, num_classes, ignore_index=ignore_index)
    return torch.where(boundary, (1 - epsilon) * soft + epsilon / num_classes, soft), keep
