"""What stands before and after the names of images and of their masks, where both share a name."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product

Affixes = tuple[tuple[str, str], tuple[str, str]]  # text before and after the names of images and of masks


def affixes(images: list[str], masks: list[str], *, apart: bool) -> tuple[Affixes | None, int]:
    """Text before and after the names of images and of masks that pairs most, and how many; of equals the shortest.

    apart: the two differ, since images and masks lie in one folder.
    """
    best: Affixes | None = None
    most = 0
    sides = [(list(product(_starts(stems), _ends(stems)))) for stems in (images, masks)]
    for first, second in sorted(
        product(*sides), key=lambda pair: (sum(map(len, pair[0])), _unlike(pair[1]), sum(map(len, pair[1])))
    ):
        names = [
            {s[len(b) : len(s) - len(a)] for s in stems if fits(s, b, a)}
            for stems, (b, a) in ((images, first), (masks, second))
        ]
        shared = 0 if apart and first == second else len(names[0] & names[1])
        if shared > most:
            best, most = (first, second), shared
    return best, most


def fits(stem: str, before: str, after: str) -> bool:
    """Whether a name has the text before and after it."""
    return stem.startswith(before) and stem.endswith(after) and len(stem) > len(before) + len(after)


def _unlike(around: tuple[str, str]) -> bool:
    """Whether the text around a name does not say that this is a mask of classes."""
    text = " ".join(around).lower()
    other = any(word in text for word in ("color", "colour", "instance", "panoptic"))
    return other or not any(word in text for word in ("mask", "label", "seg", "gt", "annot", "truth"))


def _starts(stems: list[str]) -> list[str]:
    """Nothing, and what all stems begin with, up to each sign that is no letter."""
    low, high = min(stems), max(stems)
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    common = low[:same]
    return ["", *(common[: match.end()] for match in re.finditer(r"[^A-Za-z0-9]", common))]


def _ends(stems: list[str]) -> list[str]:
    """Nothing, and what many stems end with, from each sign that is no letter or digit, or from a digit to a letter."""
    ends = Counter(stem[m.start() :] for stem in stems for m in re.finditer(r"[^A-Za-z0-9]|(?<=\d)[A-Za-z]", stem))
    return ["", *(end for end, number in ends.most_common(8) if number * 4 >= len(stems))]
