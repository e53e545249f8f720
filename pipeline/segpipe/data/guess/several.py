"""Guesses for several masks per image: one for each class, or one from each annotator."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median

import numpy as np

from segpipe.core.errors import ConfigError, DataError
from segpipe.data.files import read_grey
from segpipe.data.guess.annotations import classes_by_name
from segpipe.data.guess.card import Guess, below
from segpipe.data.guess.masks import SPLITS, keys_of
from segpipe.data.guess.partners import KIND, leave_out
from segpipe.data.masks import foreground

_PERSON = re.compile(
    r"\d*(st|nd|rd|th)?[ _-]?(rater|annotator|expert|reader|observer|ho|manual|doctor|physician)s?[ _-]?\d*|\d+|[a-z]",
    re.IGNORECASE,
)
_MOST = 64  # masks an image
_LOOKED_AT = 8  # images whose masks are laid over each other
_OVERLAP = 0.3  # of masks, from which they are annotators' if named so, and otherwise the user is asked


@dataclass(frozen=True)
class _Several:
    """Masks of an image by what tells them apart, as the template of their paths says."""

    names: list[str]
    template: str  # with {name} and {class}
    of: dict[str, dict[str, Path]]  # by image, then by what tells them apart
    why: str


def several(
    images: list[Path], masks: list[Path], of_images: Path, of_masks: Path, root: Path,
    classes: Sequence[str] | None, void: Sequence[int] | None, found: Guess,
) -> list[Path] | None:  # fmt: skip
    """Keys for several masks per image, and the images that have them; None where images have one mask each.

    Raises:
        ConfigError: masks may be of classes or of annotators, and no option says which.
        DataError: they are of neither.
    """
    known = _several(images, masks, of_images, of_masks, root)
    if known is None:
        return None
    overlap = _overlap(known)
    people = [name for name in known.names if _PERSON.fullmatch(name)]
    odd = people + [name for name in known.names if KIND.fullmatch(name)]
    kind = found.several or _kind(known, overlap, people, odd)
    if kind == "annotators":
        return _annotators(images, known, of_images, root, overlap, classes, void, found)
    if odd:
        first = next(iter(known.of.values()))[odd[0]]
        raise DataError(
            f"{first} and others: masks end in, or lie in, {', '.join(known.names[:4])}, and '{odd[0]}' is no class; "
            "keep one mask per image, or use --masks-are annotators"
        )
    if void is not None:
        raise ConfigError("--void is for masks of ids; call such labels 'void' or '__ignore__'")
    if not all(_is_binary(next(of[n] for of in known.of.values() if n in of)) for n in known.names):
        raise ConfigError(
            f"masks that end in, or lie in, {', '.join(known.names[:4])} hold several classes each; use --masks-are "
            "annotators, or keep one mask per image"
        )
    alone = [path for path in images if path.stem not in known.of]
    leave_out(alone, [], len(images) - len(alone), found)
    names = known.names if not overlap else sorted(known.names, key=lambda name: -_area(known, name))
    found.keys["layout"] = "per_class"
    found.keys["image"] = _image(images, of_images, root)
    found.keys["masks"] = [known.template]
    shared = "" if overlap is None else f"; their masks overlap by {overlap:.0%}"
    found.say(f"one mask per class: {known.template}", known.why + shared, "--masks-are annotators")
    inner = ", the smallest last, so that it is drawn on top" if overlap else ""
    classes_by_name(names, classes, f"the names of the masks{inner}", found)
    return [path for path in images if path not in set(alone)]


def _several(
    images: list[Path], masks: list[Path], of_images: Path, of_masks: Path, root: Path
) -> _Several | None:  # fmt: skip
    """What tells the masks of an image apart: their folder, or the end of their name."""
    stems = {path.stem for path in images}
    at = {path: path.relative_to(of_masks) for path in masks}
    folders = sorted({where.parts[0] for where in at.values() if len(where.parts) == 2})
    suffixes, types = {path.suffix for path in masks}, {path.suffix for path in images}
    if len(suffixes) > 1 or len(types) > 1 or any(path.parent != of_images for path in images):
        return None
    prefix, suffix = of_masks.relative_to(root).as_posix(), suffixes.pop()
    of: dict[str, dict[str, Path]] = defaultdict(dict)
    words = {word for words in SPLITS.values() for word in words}
    if len(folders) > 1 and all(len(where.parts) == 2 and where.stem in stems for where in at.values()):
        if words & {folder.lower() for folder in folders}:
            return None
        for path, where in at.items():
            of[where.stem][where.parts[0]] = path
        why = "the folders hold masks of the same images"
        return _Several(folders, below(prefix, f"{{class}}/{{name}}{suffix}"), of, why)
    if folders:
        return None
    ends = {path: _end(path.stem, stems) for path in masks}
    names = sorted(set(ends.values()))
    signs = {end[:1] for end in names}
    if "" in names or len(signs) > 1 or not 2 <= len(names) <= _MOST or len(masks) <= len(images):
        return None
    for path, end in ends.items():
        of[path.stem.removesuffix(end)][end[1:]] = path
    sign = signs.pop()
    why = "each mask is named like an image, with one of a few endings"
    return _Several([end[1:] for end in names], below(prefix, f"{{name}}{sign}{{class}}{suffix}"), of, why)


def _overlap(known: _Several) -> float | None:
    """The median intersection over union of the two masks of an image that share least; None where it is undefined."""
    shares: dict[tuple[str, str], list[float]] = defaultdict(list)
    some = list(known.of.values())
    for of in some[:: max(1, len(some) // _LOOKED_AT)][:_LOOKED_AT]:
        try:
            areas = {name: foreground(read_grey(path), path) for name, path in of.items()}
        except DataError:
            return None  # masks of ids or colours
        for (first, a), (second, b) in combinations(sorted(areas.items()), 2):
            union = 0 if a.shape != b.shape else int(np.count_nonzero(a | b))
            if union:
                shares[first, second].append(float(np.count_nonzero(a & b)) / union)
    return min((median(values) for values in shares.values()), default=None)


def _area(known: _Several, name: str) -> int:
    """The pixels of a class in the images that are looked at."""
    some = [of[name] for of in known.of.values() if name in of]
    return sum(int(np.count_nonzero(read_grey(path))) for path in some[:_LOOKED_AT])


def _kind(known: _Several, overlap: float | None, people: list[str], odd: list[str]) -> str:
    """Whether masks are classes' or annotators', by how much they share and how they are called."""
    if overlap is not None and overlap >= _OVERLAP and len(people) == len(known.names):
        return "annotators"
    if overlap is None or overlap <= _OVERLAP or odd:
        return "classes"
    raise ConfigError(
        f"masks that end in {', '.join(known.names[:4])} overlap by {overlap:.0%}; they may be "
        "nested classes or annotators of one class: use --masks-are classes or --masks-are annotators"
    )


def _annotators(
    images: list[Path], known: _Several, of_images: Path, root: Path, overlap: float | None,
    classes: Sequence[str] | None, void: Sequence[int] | None, found: Guess,
) -> list[Path]:  # fmt: skip
    """Keys for a mask of each annotator, and the images that all have annotated."""
    whole = [path for path in images if known.of.get(path.stem, {}).keys() == set(known.names)]
    if len(whole) < len(images) and not found.leaves_out:
        other = next(path for path in images if path not in set(whole))
        has = ", ".join(known.of.get(other.stem, {})) or "none"
        raise DataError(
            f"{other} has masks of {has}, wanted {', '.join(known.names[:4])}; {len(images) - len(whole)} of "
            f"{len(images)} images lack an annotator: complete them, or use --unlabelled leave-out"
        )
    if len(whole) < len(images):
        found.keys["unlabelled"] = "leave out"
        found.say(f"{len(images) - len(whole)} images are left out", "an annotator is missing", "complete them")
    masks = [known.of[path.stem][name] for path in whole for name in known.names]
    keys, said = keys_of(masks, masks[0].parent, classes, void, found.reading)
    found.keys |= keys
    found.keys["image"] = _image(images, of_images, root)
    found.keys["masks"] = [known.template.replace("{class}", name) for name in known.names]
    found.keys["annotators"] = len(known.names)
    shared = "" if overlap is None else f", overlap by {overlap:.0%}, and are not named like classes"
    found.say(
        f"{len(known.names)} annotators: {', '.join(known.names)}; training uses the first",
        f"the masks are of the same images{shared}",
        "--masks-are classes, or --set prepare.labels=majority",
    )
    found.say(*said)
    return whole


def _image(images: list[Path], of_images: Path, root: Path) -> str:
    return below(of_images.relative_to(root).as_posix(), "{name}" + images[0].suffix)


def _is_binary(path: Path) -> bool:
    """Whether a mask holds at most two grey values, or grey smoothed at edges."""
    try:
        foreground(read_grey(path), path)
    except DataError:
        return False
    return True


def _end(stem: str, stems: set[str]) -> str:
    """What follows the longest name of an image that a mask's name begins with."""
    for length in range(len(stem) - 1, 0, -1):
        if stem[:length] in stems and not stem[length].isalnum():
            return stem[length:]
    return ""
