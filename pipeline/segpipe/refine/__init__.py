"""Refiners: what turns the probabilities of a network into better ones, by name.

A refiner is one registered class in one file of this package (see `refine.base.Refiner`). The command line,
params.yaml, tuning, report and `segpipe infer` find it by its name; names and numbers are known without its code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segpipe.core import registry

if TYPE_CHECKING:
    from segpipe.refine.base import Refiner

PACKAGE = "segpipe.refine"


def names() -> tuple[str, ...]:
    """The names of all refiners.

    >>> "crf" in names()
    True
    """
    return tuple(registry.entries(PACKAGE))


def find(name: str) -> registry.Entry:
    """The refiner called `name`, its numbers as options; ConfigError names the near miss."""
    return registry.find(PACKAGE, "refiner", name)


def create(name: str, **numbers: Any) -> Refiner:
    """A refiner with these numbers.

    Raises:
        ConfigError: an unknown refiner or number.
    """
    entry = find(name)
    registry.check_options("refiner", entry, numbers)
    refiner: Refiner = entry.load()(**numbers)
    return refiner
