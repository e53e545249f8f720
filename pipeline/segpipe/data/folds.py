"""Folds of the training images by group, for predictions of images that a network has not seen."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from segpipe.core.errors import ConfigError


def assign(groups: Sequence[str], number: int) -> list[int]:
    """The fold 0..number-1 of each image; a group stays whole, folds are filled evenly.

    The order of groups is drawn from their names, so that it depends on no file order.

    Raises:
        ConfigError: fewer groups than folds.

    >>> assign(["a", "a", "b", "c", "c"], 3) == assign(["a", "a", "b", "c", "c"], 3)
    True
    """
    sizes = Counter(groups)
    if len(sizes) < number:
        raise ConfigError(f"{len(sizes)} groups cannot fill {number} folds; set folds.number to {len(sizes)} or less")
    filled = [0] * number
    fold_of: dict[str, int] = {}
    for group in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        fold_of[group] = min(range(number), key=filled.__getitem__)
        filled[fold_of[group]] += sizes[group]
    return [fold_of[group] for group in groups]
