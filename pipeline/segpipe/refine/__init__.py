"""Refiners: what turns the probabilities of a network into better ones, by name.

A refiner is one registered class in one file of this package (see `refine.base.Refiner`). The command line,
params.yaml, tuning, report and `segpipe infer` find it by its name; names and numbers are known without its code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segpipe.core import registry, spec
from segpipe.core.errors import ConfigError

if TYPE_CHECKING:
    from segpipe.refine.base import Refiner

PACKAGE = "segpipe.refine"
ARGMAX = "argmax"  # a chain without links


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


def links(text: str) -> list[tuple[registry.Entry, dict[str, Any]]]:
    """The rules that a text such as `temperature + weights` names, and their options; none of `argmax`.

    Raises:
        ConfigError: a name or option that is unknown, a weight, or a refiner that is no rule.
    """
    if text.strip() == ARGMAX:
        return []
    found = []
    for term in spec.parse(text, "rule", "temperature + weights"):
        if term.weight != 1:
            raise ConfigError(f"rule '{text}': links of a chain have no weights; write temperature + weights")
        entry = registry.find(PACKAGE, "rule", term.name)
        if "tuned" in entry.attributes:
            raise ConfigError(
                f"rule '{term.name}': it refines in a stage of its own; name it in crf.runs, and decide on that"
            )
        registry.check_options("rule", entry, dict(term.options))
        for option in term.options:
            if option not in entry.attributes.get("given", ()):
                raise ConfigError(f"rule '{term.name}': {option} is fitted on val; leave it out")
        found.append((entry, dict(term.options)))
    for entry, _ in found[:-1]:
        if entry.attributes.get("last"):
            raise ConfigError(f"rule '{text}': {entry.name} changes labels, so it must be the last link")
    return found
