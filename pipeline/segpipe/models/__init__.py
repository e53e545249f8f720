"""Networks: `models.create(name, num_classes, **options)`; a network has an integer `stride`.

A network maps images (N, 3, H, W) to logits (N, C, ceil(H / stride), ceil(W / stride)); whoever
needs full resolution upsamples bilinearly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segpipe.core import registry

if TYPE_CHECKING:
    from torch import nn

PACKAGE = "segpipe.models"

__all__ = ["check", "create", "names"]


def names() -> tuple[str, ...]:
    """The names of all networks, without importing torch.

    >>> "unet" in names()
    True
    """
    return tuple(registry.entries(PACKAGE))


def check(name: str, options: dict[str, Any]) -> None:
    """ConfigError when the network or one of its options is unknown."""
    registry.check_options("model", registry.find(PACKAGE, "model", name), options)


def create(name: str, num_classes: int, **options: Any) -> nn.Module:
    """A network with fresh weights from torch's global generator (seed it first)."""
    check(name, options)
    network: nn.Module = registry.find(PACKAGE, "model", name).load()(num_classes, **options)
    return network
