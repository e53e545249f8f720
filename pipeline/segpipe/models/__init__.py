"""Networks: `models.create(name, num_classes, **options)`; a network has an integer `stride`.

A network maps images (N, 3, H, W) to logits (N, C, ceil(H / stride), ceil(W / stride)); whoever
needs full resolution upsamples bilinearly. `encoder_decoder` composes any of `blocks.encoders` and
`blocks.decoders`; `smp:Unet/resnet34` and its like come from the extra `segpipe[smp]`. In training a network may
also give the logits of an auxiliary classifier, behind its own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segpipe.core import registry
from segpipe.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import nn

PACKAGE = "segpipe.models"
EXTERNAL = re.compile(r"^smp:[A-Za-z]\w*(/[\w.-]+)?$")

__all__ = ["check", "create", "initialise", "names"]


def names() -> tuple[str, ...]:
    """The names of all networks of the package, without importing torch.

    >>> "unet" in names()
    True
    """
    return tuple(registry.entries(PACKAGE))


def check(name: str, options: dict[str, Any]) -> None:
    """ConfigError when the network or one of its options is unknown; those of an extra are known when created."""
    if name.startswith("smp:"):
        if not EXTERNAL.match(name):
            raise ConfigError(f"model '{name}': wanted smp:Architecture/encoder, for example smp:Unet/resnet34")
        return
    registry.check_options("model", registry.find(PACKAGE, "model", name), options)


def create(name: str, num_classes: int, **options: Any) -> nn.Module:
    """A network with fresh weights from torch's global generator (seed it first)."""
    check(name, options)
    if name.startswith("smp:"):
        from segpipe.models import external

        return external.create(name.removeprefix("smp:"), num_classes, **options)
    network: nn.Module = registry.find(PACKAGE, "model", name).load()(num_classes, **options)
    return network


def initialise(model: nn.Module, path: Path | str) -> None:
    """Load weights from a file that torch.save wrote: of the whole network, or of its encoder alone.

    Raises:
        DataError: no such file, no plain tensors, or those of another architecture (the first differences are named).
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; check model.weights") from None
    except Exception as error:
        raise DataError(f"{path} holds no plain weights ({type(error).__name__}); save them as a state_dict") from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DataError(f"{path} holds no state_dict of tensors; save model.state_dict()")
    inner = getattr(model, "network", model)
    candidates = [
        model,
        inner,
        *(part for part in (getattr(inner, "encoder", None),) if isinstance(part, torch.nn.Module)),
    ]
    for candidate in candidates:
        if not _differences(candidate, state):
            candidate.load_state_dict(state)
            return
    found = min((_differences(candidate, state) for candidate in candidates), key=len)
    raise DataError(f"{path} is of another network: {'; '.join(found[:3])}; {len(found)} differences in all")


def _differences(model: nn.Module, state: dict[str, Any]) -> list[str]:
    """Names and shapes that do not fit."""
    own = model.state_dict()
    found = [f"no {name}" for name in own if name not in state]
    found += [f"{name} too many" for name in state if name not in own]
    return found + [
        f"{name} is {tuple(state[name].shape)}, wanted {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
