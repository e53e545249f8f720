"""What must stay in one split: patients, sequences and tiles, told by names, and clips, told by pictures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segpipe.core.errors import ConfigError, DataError
from segpipe.data.duplicates import thumbnails
from segpipe.data.files import read_image
from segpipe.data.guess.card import Guess
from segpipe.data.guess.masks import SPLITS
from segpipe.data.layouts.found import natural

FEWEST = 4  # images, so that every split gets one and train two
_ENOUGH = 5  # groups of which whole ones can go to val and test
_FEWEST_CLIPS = 3  # so that one can be cut out of train
_PAIRS = 48  # pairs of pictures that are compared
_SIDES = r"(?i)^(.*\d)[ _-]?(?:[LR]|left|right|O[DS])$"
_PEOPLE = r"(?i)(?<![a-z])((?:patient|participant|subject|case|pat|subj|sub)[ _-]?\d+)(?!\d)"
_SIDES_FIRST = r"(?i)^(?:[LR]|left|right|O[DS])[ _-](.*\d.*)$"
_DAYS = r"^(.*?(?:19|20)\d\d-?[01]\d-?[0-3]\d)[T _-]?[0-2]\d[-:]?[0-5]\d"
_YEAR = re.compile(r"(19|20)\d\d")


@dataclass(frozen=True)
class Grouping:
    """An expression whose first group names what belongs together, what such groups are, and why."""

    pattern: str
    what: str
    why: str
    fewest: int = _ENOUGH  # groups from which whole ones go to val and test

    def of(self, ids: Sequence[str]) -> list[str]:
        """The group of every image; its own name where the expression does not match."""
        return [match.group(1) if (match := re.search(self.pattern, name)) else name for name in ids]

    def matches(self, ids: Sequence[str]) -> bool:
        """Whether nearly all names fit, and the groups are more than years."""
        matched = [match.group(1) for name in ids if (match := re.search(self.pattern, name))]
        return len(matched) >= 0.9 * len(ids) and not all(_YEAR.fullmatch(group) for group in matched)


def grouped(images: Sequence[Path], group: str | None, shares: tuple[float, float], found: Guess) -> None:
    """What must stay together, and how much val and test get.

    Raises:
        ConfigError: `group` is no expression with brackets.
        DataError: fewer than four images.
    """
    if len(images) < FEWEST:
        raise DataError(f"{len(images)} images are too few for train, val and test; wanted at least {FEWEST}")
    ids = _ids(images, found)
    splits = found.tables.get("splits", {})
    drawn = [split for split in ("val", "test") if split not in splits]
    parts = {split: share for split, share in zip(("val", "test"), shares, strict=True) if split in drawn}
    found.keys |= {f"cut_{split}": share for split, share in parts.items()}
    blocks = False
    if group is not None:
        found.keys["group_pattern"] = checked(group, ids)
    elif drawn and not found.tables.get("options", {}).get("group"):
        blocks = _guessed(images, ids, parts, found, whole=bool(splits))
    if drawn and not blocks:
        cut = ", ".join(f"{split} {share:.0%}" for split, share in parts.items())
        why = "the data do not name them; whole groups are drawn by a hash of their names"
        found.say(f"cut out of train: {cut}", why, "--val, --test")


def _guessed(
    images: Sequence[Path], ids: Sequence[str], parts: dict[str, float], found: Guess, *, whole: bool
) -> bool:  # fmt: skip
    """Groups by names, else by pictures that follow each other; True where the ends of clips are val and test.

    whole: the dataset has splits of its own, so that clips are not cut into blocks.
    """
    kind = by_names(ids)
    if kind is not None:
        sizes = Counter(kind.of(ids))
        found.keys["group_pattern"] = kind.pattern
        single = sum(size == 1 for size in sizes.values())
        more = f", {single} of them with one image" if single else ""
        found.say(f"{len(sizes)} {kind.what} that stay together{more}", kind.why, "--group")
        return False
    clips = Grouping(r"^(.*?)[A-Za-z]*\d+\D*$", "clips", "names end in a number")
    known = next((kind for kind in _groupings(ids) if 1 < len(set(kind.of(ids))) < _ENOUGH), clips)
    order = sorted(range(len(ids)), key=lambda i: natural(ids[i]))
    groups = known.of(ids)
    likeness = _likeness([images[i] for i in order], [groups[i] for i in order], found)
    near, far = likeness or (0.0, 1.0)
    if near <= far or (whole and len(set(groups)) < _FEWEST_CLIPS):
        similar = "consecutive images are no more similar than others" if near <= far else "there are one or two clips"
        names = "names show no sequence or patient"
        if known is not clips:
            names = f"names show only {len(set(groups))} {known.what}, too few to move whole ones out of train"
        why = f"{names}, and {similar if likeness else 'too few images are consecutive'}"
        found.say(f"each of the {len(ids)} images is its own group", why, "--group")
        return False
    similar = f"correlation {near:.2f}; 90 % of other pairs stay below {far:.2f}"
    why = f"{known.why}, and consecutive images are similar ({similar})"
    if whole:
        found.keys["group_pattern"] = known.pattern
        found.say(f"{len(set(groups))} clips that stay together", why, "--group")
        return False
    _blocks(known, groups, parts, why, found)
    return True


def by_names(ids: Sequence[str]) -> Grouping | None:
    """The coarsest groups that names show, where there are enough of them and they hold several images."""
    kinds = (kind for kind in _groupings(ids) if kind.fewest <= len(set(kind.of(ids))) <= 0.6 * len(ids))
    return next(kinds, None)


def _blocks(kind: Grouping, groups: Sequence[str], parts: dict[str, float], why: str, found: Guess) -> None:
    """Make the end of every clip test and the part before it val, so that no test image follows a train image."""
    sizes = Counter(groups)
    size = max(1, int(min(sizes.values()) * min(parts.values())) // 2)
    table: dict[str, list[str]] = {split: [] for split in parts}
    for clip, frames in sorted(sizes.items()):
        end = -(-frames // size)
        for split in ("test", "val"):
            number = max(1, round(parts[split] * frames / size))
            if end - number < 1:
                break
            table[split] += [f"{clip}_{block:02d}" for block in range(end - number, end)]
            end -= number
    found.keys |= {"group_pattern": kind.pattern, "group_block": size}
    found.tables["groups"] = table
    clips = "1 clip" if len(sizes) == 1 else f"{len(sizes)} clips"
    found.say(f"{clips}, each cut into train, val and test in this order, in blocks of {size} images", why, "--group")


def _groupings(ids: Sequence[str]) -> Iterator[Grouping]:
    """Expressions that fit nearly all names, the coarsest first."""
    kinds = [
        Grouping(_PEOPLE, "patients", "names contain a word such as patient, subject or case, and a number", 3),
        Grouping(_SIDES, "pairs of sides", "names differ in left or right after a number, like two eyes", 3),
        Grouping(_SIDES_FIRST, "pairs of sides", "names begin with left or right, like two eyes", 3),
        Grouping(_DAYS, "days", "names contain a date and a time"),
    ]
    for depth in range(1, 5):
        start = "^(" + "[ _.-]+".join(["[^ _.-]+"] * depth) + r")[ _.-].*\d\D*$"
        kinds.append(Grouping(start, "groups", "names share a prefix and end in a number, like frames or tiles"))
    for kind in kinds:
        if kind.matches(ids):
            yield kind


def _ids(images: Sequence[Path], found: Guess) -> list[str]:
    """The names that samples will have: without what stands around them, with the folder where it belongs to them."""
    stem = Path(found.keys.get("image", "{name}")).stem
    before, field, after = stem.partition("{name}")
    names = [image.stem for image in images]
    if field and "{" not in before + after:
        names = [name.removeprefix(before).removesuffix(after) for name in names]
    if "id" in found.keys:  # {folder}_{name} or {split}_{name}
        direct = Path(found.keys["image"]).parent.name.startswith("{")
        folders = [image.parent if direct else image.parent.parent for image in images]
        names = [f"{folder.name}_{name}" for folder, name in zip(folders, names, strict=True)]
    return names


def _likeness(images: Sequence[Path], groups: Sequence[str], found: Guess) -> tuple[float, float] | None:
    """The median correlation of neighbours, and what nine tenths of pairs from elsewhere stay below; None for few."""
    follow = [i for i in range(len(images) - 1) if groups[i] == groups[i + 1]]
    follow = follow[:: max(1, len(follow) // _PAIRS)][:_PAIRS]
    if len(images) < 12 or len(follow) < 6:
        return None
    shown = thumbnails(read_image(images[i + k], found.reading) for i in follow for k in (0, 1))
    first, second = shown[0::2], shown[1::2]
    near = float(np.median((first * second).sum(1)))
    others = first @ first.T
    apart = np.abs(np.subtract.outer(follow, follow)) >= len(images) / 4
    return near, float(np.quantile(others[apart], 0.9)) if apart.any() else 1.0


def checked(group: str, ids: Sequence[str]) -> str:
    """The expression; ConfigError unless it has brackets and matches a name."""
    try:
        if re.compile(group).groups < 1:
            raise ConfigError(f"--group {group}: wanted a pair of brackets around what names the group")
    except re.error as error:
        raise ConfigError(f"--group {group} is no expression: {error}") from None
    if not any(re.search(group, name) for name in ids):
        raise ConfigError(f"--group {group} matches no image; they are called {', '.join(ids[:3])}, ...")
    return group


def split_words(stems: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Of names that all end in a split's word, as 21_training: each without it, and what splits are called.

    Both are empty where they do not, or where all end in one word.
    """
    words = {word: split for split, called in SPLITS.items() for word in called}
    matches = [re.fullmatch(rf"(.+)_({'|'.join(sorted(words, key=len, reverse=True))})", stem) for stem in stems]
    if not all(matches):
        return {}, {}
    parts = {match.group(0): match.groups() for match in matches if match}
    called = {words[word]: word for _, word in parts.values()}
    if len(called) < 2 or len({word for _, word in parts.values()}) != len(called) or "train" not in called:
        return {}, {}
    return {stem: name for stem, (name, _) in parts.items()}, called
