"""The losses: hard and soft labels, void, class weights and half precision under one signature.

    from segpipe import losses
    criterion = losses.create("0.25*ce + 0.75*jml")
    value = criterion(logits, target)

Names and options are known without importing torch; `create` and `functional` import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segpipe.core.spec import Term
from segpipe.losses.compound import Compound, names, parse, takes_soft_labels, wants_hard_labels

if TYPE_CHECKING:
    from segpipe.losses import functional, targets
    from segpipe.losses.criterion import Criterion

__all__ = [
    "Compound", "Criterion", "Term", "create", "functional", "names", "parse", "takes_soft_labels", "targets",
    "wants_hard_labels",
]  # fmt: skip


def create(
    spec: str | Compound, *, ignore_index: int | None = 255, uncertainty: bool = False, **options: Any
) -> Criterion:
    """A criterion from a name with options, or from a compound such as `0.25*ce + 0.75*jml`.

    uncertainty: the weights of the terms are learned, see `Criterion`.

    Raises:
        ConfigError (a ValueError): unknown name or option (the near miss is named), bad value.
    """
    from segpipe.losses.criterion import Criterion

    terms = parse(spec, options) if isinstance(spec, str) else spec.terms
    return Criterion(terms, ignore_index=ignore_index, uncertainty=uncertainty)


def __getattr__(name: str) -> Any:
    """Import the parts that need torch on first use."""
    if name == "functional":
        import segpipe.losses.functional as functions

        return functions
    if name == "targets":
        import segpipe.losses.targets as module

        return module
    if name == "Criterion":
        from segpipe.losses.criterion import Criterion

        return Criterion
    raise AttributeError(f"module 'segpipe.losses' has no attribute '{name}'")
