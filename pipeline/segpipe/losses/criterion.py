"""A criterion: the weighted terms of a loss over one shared, checked batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segpipe.core import registry
from segpipe.core.batch import make_batch
from segpipe.core.errors import ConfigError
from segpipe.core.spec import Term
from segpipe.core.void import VOID
from segpipe.losses.compound import PACKAGE, PER_CLASS


class Criterion(nn.Module):
    """`criterion(logits, target, keep=None)` -> scalar; `criterion.terms(...)` -> dict of its terms.

    Picklable; per-class numbers are buffers and follow `.to(device)`. Everything is computed in
    float32 (float64 stays float64), also under autocast and for half-precision logits. Under
    torch.distributed the value is that of all processes together, so each must call it each step;
    after `.eval()` it is the local one.

    uncertainty: the terms' weights are learned: exp(-s_k) w_k l_k + s_k / 2 with one log variance
    s_k a term (Kendall et al. 2018, arXiv:1705.07115, eq. 7-10). Give `criterion.parameters()` to
    the optimiser, without weight decay.
    """

    def __init__(self, terms: Sequence[Term], *, ignore_index: int | None = VOID, uncertainty: bool = False) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(len(terms))) if uncertainty else None
        self.ignore_index = ignore_index
        self.parts = tuple(terms)
        self._functions = [registry.find(PACKAGE, "loss", term.name).load() for term in self.parts]
        self._keys = _unique([term.name for term in self.parts])
        for index, term in enumerate(self.parts):
            if not math.isfinite(term.weight) or term.weight < 0:
                raise ConfigError(f"loss '{term}': the weight must be finite and not negative")
            for option, value in term.options.items():
                word = isinstance(value, str) and value == registry.find(PACKAGE, "loss", term.name).options[option]
                if option in PER_CLASS and not isinstance(value, int | float | None) and not word:
                    self.register_buffer(f"{option}_{index}", _vector(term.name, option, value), persistent=False)

    def terms(self, logits: Tensor, target: Tensor, keep: Tensor | None = None) -> dict[str, Tensor]:
        """The weighted terms by name; they sum to the loss."""
        with torch.autocast(logits.device.type, enabled=False):
            batch = make_batch(logits, target, ignore_index=self.ignore_index, keep=keep, training=self.training)
            found = {}
            for index, (key, term, function) in enumerate(zip(self._keys, self.parts, self._functions, strict=True)):
                options = dict(term.options)
                for option in options:
                    if hasattr(self, f"{option}_{index}"):
                        options[option] = getattr(self, f"{option}_{index}").to(batch.dtype)
                value = term.weight * function(batch, **options)
                if self.log_variances is not None:
                    s = self.log_variances[index].to(value.dtype)
                    value = torch.exp(-s) * value + s / 2 * (batch.num_valid > 0)
                found[key] = value.to(batch.dtype)
            return found

    def forward(self, logits: Tensor, target: Tensor, keep: Tensor | None = None) -> Tensor:
        """The loss of (N, C, H, W) logits against hard (N, H, W) or soft (N, C, H, W) targets."""
        return torch.stack(list(self.terms(logits, target, keep).values())).sum()

    def extra_repr(self) -> str:
        """The options, as the compound syntax writes them."""
        learned = ", uncertainty=True" if self.log_variances is not None else ""
        return f"{' + '.join(map(str, self.parts))}, ignore_index={self.ignore_index}{learned}"


def _vector(name: str, option: str, value: Any) -> Tensor:
    """One finite, non-negative number a class."""
    if isinstance(value, str):
        raise ConfigError(
            f"loss '{name}': {option}='{value}' names a scheme, which only the pipeline knows; give a list of numbers"
        )
    vector = torch.as_tensor(value, dtype=torch.float64)
    if vector.ndim != 1 or not bool(torch.isfinite(vector).all()) or bool((vector < 0).any()):
        raise ConfigError(f"loss '{name}': {option} must be a list of finite numbers >= 0, found {value}")
    return vector


def _unique(names: list[str]) -> list[str]:
    """Names with _2, _3 ... where one occurs again."""
    return [
        name if names[:i].count(name) == 0 else f"{name}_{names[: i + 1].count(name)}" for i, name in enumerate(names)
    ]
