"""Which weights learn how fast: the encoder beside the rest, and norms and biases without decay."""

from __future__ import annotations

from typing import Any

from torch import nn

from segpipe.training.settings import Settings


def parameter_groups(model: nn.Module, criterion: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """Groups for an optimiser; `rate` of each is a factor of the learning rate.

    One for the model where nothing differs, and one for weights that a loss learns.
    """
    encoder = encoder_of(model) if settings.encoder_rate != 1 else None
    slow = {id(p) for p in encoder.parameters()} if encoder is not None else set()
    bare = set() if settings.decay_norms else {id(p) for p in model.parameters() if p.ndim < 2}  # norms and biases
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for parameter in model.parameters():
        key = id(parameter) in slow, id(parameter) in bare
        group = groups.setdefault(key, {"params": [], "rate": settings.encoder_rate if key[0] else 1.0})
        group["params"].append(parameter)
        if key[1]:
            group["weight_decay"] = 0.0
    learned = list(criterion.parameters())  # weights of a compound's terms; decay would pull them to 1
    return [*groups.values(), *([{"params": learned, "weight_decay": 0.0}] if learned else [])]


def encoder_of(model: nn.Module) -> nn.Module | None:
    """What a network calls its encoder or backbone."""
    inner = getattr(model, "network", model)
    found = getattr(inner, "encoder", getattr(inner, "backbone", None))
    return found if isinstance(found, nn.Module) else None


def freeze_norms(model: nn.Module, settings: Settings) -> None:
    """Leave the statistics of the encoder's batch norms as they are, where that is asked: call after `train()`."""
    encoder = encoder_of(model) if settings.frozen_norms else None
    for module in encoder.modules() if encoder is not None else ():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
