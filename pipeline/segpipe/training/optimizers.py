"""Optimisers by name, and Lookahead around any of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from segpipe.core.errors import ConfigError
from segpipe.core.registry import register


@register("adamw", source="Loshchilov and Hutter 2019, arXiv:1711.05101")
def adamw(
    groups: list[dict[str, Any]], lr: float, weight_decay: float, *, beta1: float = 0.9, beta2: float = 0.999
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay."""
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        raise ConfigError(f"optimizer 'adamw': wanted beta1 and beta2 in [0, 1), found {beta1} and {beta2}")
    return torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay, fused=True)


@register("sgd", source="Sutskever et al. 2013, with the weight decay added to the gradient")
def sgd(
    groups: list[dict[str, Any]], lr: float, weight_decay: float, *, momentum: float = 0.9, nesterov: bool = False
) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum."""
    if not 0 <= momentum < 1 or (nesterov and not momentum):
        raise ConfigError(f"optimizer 'sgd': wanted momentum in [0, 1), above 0 with nesterov, found {momentum}")
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, foreach=True)


class Lookahead:
    """Slow weights that move a share of the way to the fast ones every few steps, and pull them back.

    Zhang et al. 2019, arXiv:1907.08610, algorithm 1. Around any optimiser: call `update` after its step.

    steps: of the fast weights (k). rate: share of the way (alpha).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, steps: int = 5, rate: float = 0.5) -> None:
        self.fast = list(parameters)
        self.slow = [parameter.detach().clone() for parameter in self.fast]
        self.steps, self.rate, self.taken = steps, rate, 0

    @torch.no_grad()
    def update(self) -> None:
        """Count a step; at every `steps`-th one slow weights move and the fast ones start from them."""
        self.taken += 1
        if self.taken % self.steps == 0:
            for slow, fast in zip(self.slow, self.fast, strict=True):
                slow.lerp_(fast, self.rate)
                fast.copy_(slow)

    def state_dict(self) -> dict[str, Any]:
        """The slow weights and the count."""
        return {"slow": self.slow, "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.taken = state["taken"]
        kept: list[Tensor] = state["slow"]
        for slow, value in zip(self.slow, kept, strict=True):
            slow.copy_(value)
