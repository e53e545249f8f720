"""Learning rates as functions of the step: nothing to save, nothing to restore.

A schedule gives the share of the base learning rate at a place of the training. A linear warm-up comes
before it; restarts run from the beginning and are damped by it, one_cycle has its own rise and ignores it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from segpipe.core import spec
from segpipe.core.errors import ConfigError
from segpipe.core.registry import register

MODULE = "segpipe.training.schedules"


@dataclass(frozen=True)
class Place:
    """Step `step` (0-based) of epochs x per_epoch, of which the first `warmup` rise."""

    step: int
    epochs: int
    per_epoch: int
    warmup: int = 0

    @property
    def progress(self) -> float:
        """Share of the steps after the warm-up that are done, in [0, 1)."""
        return max(0, self.step - self.warmup) / max(1, self.epochs * self.per_epoch - self.warmup)


def factor(schedule: str, place: Place) -> float:
    """Share of the base learning rate.

    >>> factor("polynomial", Place(0, 1, 10)), factor("constant", Place(3, 1, 10))
    (1.0, 1.0)
    >>> round(factor("cosine", Place(5, 1, 10)), 6)
    0.5
    """
    entry, options = spec.choose(MODULE, "schedule", schedule)
    if entry.name == "one_cycle":
        place = replace(place, warmup=0)
    share = float(entry.load()(place, **options))
    if place.step < place.warmup:
        return (place.step + 1) / (place.warmup + 1) * (share if entry.name == "restarts" else 1.0)
    return share


@register("constant", source="the base learning rate")
def constant(place: Place) -> float:
    """The same rate throughout."""
    del place
    return 1.0


@register("polynomial", source="Chen et al. 2017, arXiv:1606.00915, sec. 4.1")
def polynomial(place: Place, *, power: float = 0.9) -> float:
    """(1 - progress)^power."""
    _require("polynomial", power=power, most=math.inf)
    return float((1 - place.progress) ** power)


@register("cosine", source="Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5, one cycle")
def cosine(place: Place, *, floor: float = 0.0) -> float:
    """Half a cosine from 1 to `floor`."""
    _require("cosine", floor=floor)
    return _between(1, floor, place.progress)


@register("one_cycle", source="Smith and Topin 2018, arXiv:1708.07120, sec. 3, with cosine flanks")
def one_cycle(place: Place, *, rise: float = 0.3, start: float = 0.04, end: float = 0.0001) -> float:
    """Up from `start` within the share `rise` of the steps, then down to `end`."""
    _require("one_cycle", rise=rise, start=start, end=end)
    if not 0 < rise < 1:
        raise ConfigError(f"schedule 'one_cycle': rise is {rise}, wanted a share between 0 and 1")
    progress = place.progress
    if progress < rise:
        return _between(start, 1, progress / rise)
    return _between(1, end, (progress - rise) / (1 - rise))


@register("restarts", source="Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5; snapshots: arXiv:1704.00109")
def restarts(place: Place, *, cycles: int = 3, floor: float = 0.0) -> float:
    """Cosine cycles of whole epochs; the weights at the end of each are kept as a snapshot."""
    _require("restarts", floor=floor)
    ends = [0, *cycle_ends(place.epochs, cycles)]
    epoch = place.step // place.per_epoch
    cycle = next(i for i in range(cycles) if epoch < ends[i + 1])
    first, last = (ends[i] * place.per_epoch for i in (cycle, cycle + 1))
    return _between(1, floor, (place.step - first) / (last - first))


def cycle_ends(epochs: int, cycles: int) -> list[int]:
    """The numbers (1-based) of the epochs that end a cycle; cycles differ by one epoch at most.

    Raises:
        ConfigError: fewer epochs than cycles.

    >>> cycle_ends(8, 3)
    [2, 5, 8]
    """
    if not 1 <= cycles <= epochs:
        raise ConfigError(f"schedule 'restarts': {epochs} epochs cannot hold {cycles} cycles; lower cycles")
    return [epochs * (i + 1) // cycles for i in range(cycles)]


def _require(schedule: str, *, most: float = 1.0, **options: float) -> None:
    """ConfigError for an option below 0 or above `most`."""
    for name, value in options.items():
        if not 0 <= value <= most:
            raise ConfigError(f"schedule '{schedule}': {name} is {value}, wanted a number from 0 to {most:g}")


def _between(first: float, last: float, share: float) -> float:
    """From first to last along half a cosine."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * share))
