"""Averages of weights along a training, which are validated and kept in place of the last ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from segpipe.core.errors import ConfigError
from segpipe.core.registry import register
from segpipe.training.batchnorm import SharedBatchNorm2d


class Average:
    """The base: the weights as they are, and nothing to remember."""

    def __init__(self, model: nn.Module, epochs: int) -> None:
        del model, epochs

    def after_step(self, model: nn.Module) -> None:
        """Take the weights after a step."""

    def after_epoch(self, model: nn.Module, epoch: int, batches: Callable[[], Iterable[Tensor]]) -> nn.Module:
        """Take the weights after epoch `epoch` (0-based) and return the network to validate."""
        del epoch, batches
        return model

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""


@register("none", source="the weights as they are")
class NoAverage(Average):
    """The last weights."""


@register("ema", source="Polyak and Juditsky 1992; decay that grows with the steps as in Tarvainen and Valpola 2017")
class ExponentialAverage(Average):
    """Exponential moving average of weights and of batch norm's statistics.

    decay: of each step; in the first steps min(decay, (1 + steps) / (10 + steps)), so that the
    average forgets the initial weights.
    """

    def __init__(self, model: nn.Module, epochs: int, *, decay: float = 0.99) -> None:
        super().__init__(model, epochs)
        if not 0 <= decay < 1:
            raise ConfigError(f"averaging 'ema': decay is {decay}, wanted a share from 0 to below 1")
        self.decay, self.steps = decay, 0
        self.model = _frozen(model)

    @torch.no_grad()
    def after_step(self, model: nn.Module) -> None:
        """One step of the average; whole numbers are copied."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for mean, value in zip(_tensors(self.model), _tensors(model), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    def after_epoch(self, model: nn.Module, epoch: int, batches: Callable[[], Iterable[Tensor]]) -> nn.Module:
        """The average; its statistics are averages too, so nothing is refreshed."""
        del model, epoch, batches
        return self.model

    def state_dict(self) -> dict[str, Any]:
        """The averages and the count."""
        return {"model": self.model.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.steps = state["steps"]
        self.model.load_state_dict(state["model"])


@register("swa", source="Izmailov et al. 2018, arXiv:1803.05407, algorithm 1")
class StochasticWeightAverage(Average):
    """Plain mean of the weights at the ends of the last epochs, with batch norm's statistics refreshed.

    start: share of the epochs after which averaging begins; until then the weights themselves are validated.
    """

    def __init__(self, model: nn.Module, epochs: int, *, start: float = 0.5) -> None:
        super().__init__(model, epochs)
        if not 0 <= start < 1:
            raise ConfigError(f"averaging 'swa': start is {start}, wanted a share from 0 to below 1")
        self.first, self.number = int(start * epochs), 0
        self.model = _frozen(model)

    @torch.no_grad()
    def after_epoch(self, model: nn.Module, epoch: int, batches: Callable[[], Iterable[Tensor]]) -> nn.Module:
        """The mean over the epochs from the first on; `batches` gives the training images for the statistics."""
        if epoch < self.first:
            return model
        self.number += 1
        for mean, value in zip(self.model.parameters(), model.parameters(), strict=True):
            mean.lerp_(value, 1 / self.number)
        refresh(self.model, batches())
        return self.model

    def state_dict(self) -> dict[str, Any]:
        """The mean and the count."""
        return {"model": self.model.state_dict(), "number": self.number}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.number = state["number"]
        self.model.load_state_dict(state["model"])


@torch.no_grad()
def refresh(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Batch norm's statistics as the mean over `batches` for the weights as they are; dropout stays off."""
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative mean
        if isinstance(layer, SharedBatchNorm2d):
            layer.alone = True  # every process sees all images
        layer.train()
    for batch in batches:
        model(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        if isinstance(layer, SharedBatchNorm2d):
            layer.alone = False
    model.eval()


def _frozen(model: nn.Module) -> nn.Module:
    """A copy that takes no gradient."""
    return copy.deepcopy(model).requires_grad_(False)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
