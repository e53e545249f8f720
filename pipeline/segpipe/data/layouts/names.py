"""What the names of labels mean: a class, nothing, or void."""

from __future__ import annotations

from collections.abc import Sequence

from segpipe.core.void import VOID

NOTHING = ("background", "bg", "_background_", "none")  # the first class of a card
IGNORED = ("__ignore__", "ignore", "void", "unlabeled", "unlabelled")  # pixels that count nowhere


def is_nothing(name: str) -> bool:
    """Whether a name says that nothing is there."""
    return name.strip().casefold() in NOTHING


def is_ignored(name: str) -> bool:
    """Whether a name says that pixels do not count."""
    return name.strip().casefold() in IGNORED


def id_of(name: str, classes: Sequence[str]) -> int | None:
    """The class id of a label's name, 255 for void, None for a name that means nothing here."""
    if name in classes:
        return list(classes).index(name)
    return VOID if is_ignored(name) else 0 if is_nothing(name) else None
