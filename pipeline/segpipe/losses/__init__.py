"""The losses: hard and soft labels, void, class weights and half precision under one signature.

    from segpipe import losses
    criterion = losses.create("0.25*ce + 0.75*jml")
    value = criterion(logits, target)

Names and options are known without importing torch; `create` and `functional` import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segpipe.core.choice import Term
from segpipe.losses.compound import check, names, parse, scheme_names, wants_hard_labels, with_class_weights

if TYPE_CHECKING:
    from segpipe.losses import functional, targets
    from segpipe.losses.criterion import Criterion

__all__ = [
    "Criterion",
    "Term",
    "check",
    "create",
    "functional",
    "names",
    "parse",
    "scheme_names",
    "targets",
    "wants_hard_labels",
    "with_class_weights",
]


def create(spec: str, *, ignore_index: int | None = 255, uncertainty: bool = False, **options: Any) -> Criterion:
    """A criterion from a name with options, or from a compound such as `0.25*ce + 0.75*jml`.

    uncertainty: the weights of the terms are learned, see `Criterion`.

    Raises:
        ConfigError (a ValueError): unknown name or option (the near miss is named), bad value.
    """
    from segpipe.losses.criterion import Criterion

    return Criterion(parse(spec, options), ignore_index=ignore_index, uncertainty=uncertainty)


def __getattr__(name: str) -> Any:
    """Import the parts that need torch on first use."""
    from importlib import import_module

    if name in ("functional", "targets"):
        return import_module(f"segpipe.losses.{name}")
    if name == "Criterion":
        return import_module("segpipe.losses.criterion").Criterion
    raise AttributeError(f"module 'segpipe.losses' has no attribute '{name}'")
