"""The parts of a training that params.yaml names by text, such as `restarts(cycles=3)`; known without torch."""

from __future__ import annotations

from typing import Any

from segpipe.core import registry, spec

MODULES = {
    "optimizer": "segpipe.training.optimizers",
    "schedule": "segpipe.training.schedules",
    "averaging": "segpipe.training.averaging",
    "sampling": "segpipe.training.sampling",
    "targets": "segpipe.training.targets",
}


def names(kind: str) -> tuple[str, ...]:
    """What may be named, e.g. as a schedule.

    >>> names("schedule")[:2]
    ('constant', 'polynomial')
    """
    return tuple(registry.entries(MODULES[kind]))


def check(kind: str, text: str) -> str:
    """`text` itself when it names a part and its options, else ConfigError."""
    spec.choose(MODULES[kind], kind, text)
    return text


def options(kind: str, text: str) -> tuple[str, dict[str, Any]]:
    """The name, and all options with the defaults filled in."""
    entry, given = spec.choose(MODULES[kind], kind, text)
    return entry.name, {**entry.options, **given}


def create(kind: str, text: str, *arguments: Any) -> Any:
    """The part made of `arguments` and the options in the text."""
    entry, given = spec.choose(MODULES[kind], kind, text)
    return entry.load()(*arguments, **given)


def snapshots(schedule: str) -> int:
    """How many snapshots a schedule leaves: one at each minimum of `restarts`, else none."""
    name, given = options("schedule", schedule)
    return int(given["cycles"]) if name == "restarts" else 0
