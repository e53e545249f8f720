"""Checks of option values that need the batch: one number a class, a choice of classes, a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from segpipe.core.batch import Batch
from segpipe.core.errors import ConfigError, suggestion

Classes = str | Sequence[int]  # "present", "all" or ids
Average = str | Mapping[str, float]  # a name, or weights by name
PerClass = str | float | Sequence[float] | Tensor | None  # one number a class, or the name of such


def per_class(name: str, option: str, values: Any, batch: Batch) -> Tensor:
    """One number a class, (C,), on the batch's device; the length is checked."""
    vector = torch.as_tensor(values, dtype=batch.dtype, device=batch.raw.device)
    if vector.shape != (batch.num_classes,):
        raise ConfigError(
            f"loss '{name}': {option} has shape {tuple(vector.shape)}, wanted one number for each of "
            f"{batch.num_classes} classes"
        )
    return vector


def chosen_classes(classes: Classes, batch: Batch) -> Tensor:
    """(C,) bool: the classes that "present", "all" or a list of class ids admits."""
    if classes in ("present", "all"):
        return torch.ones(batch.num_classes, dtype=torch.bool, device=batch.raw.device)
    listed = list(classes) if isinstance(classes, list | tuple) else []
    if not listed or not all(type(k) is int and 0 <= k < batch.num_classes for k in listed):
        raise ConfigError(
            f"classes must be 'present', 'all' or a list of 0..{batch.num_classes - 1}, found {classes!r}"
        )
    return torch.tensor([k in listed for k in range(batch.num_classes)], device=batch.raw.device)


def active_classes(classes: Classes, batch: Batch, threshold: float | None = None) -> Tensor:
    """(N, C) bool: the classes that count in each image. "present" wants a pixel whose label they are: of a soft
    target one where no class has more, or, with `threshold`, one where they have more than it. No class of a fully
    void image is active.

    So smoothing adds no class to those of the hard labels, at any number of classes, and a teacher those that it
    predicts somewhere; a number cannot do both, since smoothing gives each of C classes eps / C.
    """
    chosen = chosen_classes(classes, batch).expand(len(batch.raw), -1)
    if classes == "present" and batch.soft is None:
        chosen = batch.label_mass > 0
    elif classes == "present" and batch.soft is not None:
        leads = batch.soft >= batch.soft.amax(1, keepdim=True) if threshold is None else batch.soft > threshold
        chosen = (leads & batch.valid.unsqueeze(1)).any(2)
    return chosen & batch.valid.any(1, keepdim=True)


def one_of(name: str, option: str, value: Any, allowed: Sequence[str]) -> None:
    """Refuse a word that is not among `allowed`."""
    if value not in allowed:
        hint = suggestion(value, allowed) if isinstance(value, str) else ""
        raise ConfigError(f"loss '{name}': {option} must be one of {', '.join(allowed)}, found {value!r}{hint}")


def in_range(name: str, option: str, value: float, low: float, high: float = float("inf")) -> None:
    """Refuse a number outside low..high."""
    if not low <= value <= high:
        raise ConfigError(f"loss '{name}': {option} must be in {low:g}..{high:g}, found {value}")
