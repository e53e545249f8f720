"""What the masks of a folder are: ids, two values or colours, and the classes they name."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from colorsys import hsv_to_rgb
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.core.errors import ConfigError, DataError
from segpipe.core.opencv import cv2
from segpipe.data.files import ColorMask, read_colors, read_ids
from segpipe.data.layouts.names import is_nothing
from segpipe.data.reading import PLAIN, Reading

SPLITS = {
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
NAMES = ("classes.txt", "codes.txt", "labels.txt", "class_names.txt")
TWO = ("background", "foreground")  # of masks with the ids 0 and 1, or 0 and 255
LOOKED_AT = 64  # masks whose pixels are read
_DARK, _BRIGHT = 24, 231  # greys that JPEG makes of 0 and of 255 stay beyond these
_STEP = 16  # between evenly spaced codes of classes
_MOST_COLORS = 64  # more, and the masks are photographs


def keys_of(
    masks: list[Path], folder: Path, classes: Sequence[str] | None, void: Sequence[int] | None, reading: Reading = PLAIN
) -> tuple[dict[str, Any], tuple[str, str, str]]:
    """The card's keys, and the guess: what, why, and the option that says otherwise.

    Raises:
        DataError: masks that cannot be read, that are photographs or all void.
        ConfigError: names that do not fit.
    """

    looked = masks[:: max(1, len(masks) // LOOKED_AT)][:LOOKED_AT]
    if looked[0].suffix == ".mat":
        raise ConfigError(f"{looked[0]} is a MATLAB file; write a card with `key` (docs/datasets.md)")
    names = list(classes) if classes is not None else _names(folder)
    values: Counter[int] = Counter()
    for path in looked:
        try:
            values.update(np.unique(read_ids(path, reading)).tolist())
        except ColorMask:
            return _colors(looked, names, reading)
    if set(values) <= {0, 255} and 255 in values:
        check_names(names, 2, "values")
        keys: dict[str, Any] = {"labels": "binary", "void": [], "classes": names or list(TWO)}
        keys["palette"] = palette(2, nothing=True)
        return keys, ("two classes, split at 128", "the masks hold 0 and 255 alone", "the card's labels and values")
    if void is None and not names[2:] and _smoothed(looked, values, reading):
        check_names(names, 2, "values")
        keys = {"labels": "binary", "void": [], "classes": names or list(TWO)}
        keys["palette"] = palette(2, nothing=True)
        why = f"the masks hold {len(values)} greys, and those between black and white lie only at edges"
        return keys, ("two classes, split at 128", why, "--void, or the card's labels and values")
    return _ids(looked, values, names, void)


def _smoothed(looked: list[Path], values: Counter[int], reading: Reading) -> bool:
    """Whether masks of two values were smoothed or saved as JPEG.

    Then there are many greys between, none of which has half of their pixels, as a thin class would, and they lie at
    edges: they fill no square of 5 pixels.
    """
    if not (0 <= min(values) <= _DARK and max(values) >= _BRIGHT) or not any(
        _DARK < value < _BRIGHT for value in values
    ):
        return False
    square, pixels = np.ones((5, 5), np.uint8), np.zeros(256, np.int64)
    for path in looked:
        ids = read_ids(path, reading)
        between = ((ids > _DARK) & (ids < _BRIGHT)).astype(np.uint8)
        if ids.max() > 255 or cv2.erode(between, square, borderValue=0).any():
            return False
        pixels += np.bincount(ids.ravel(), minlength=256)
    return bool(pixels[1:255].max() < pixels[1:255].sum() / 2)


def _colors(looked: list[Path], names: list[str], reading: Reading) -> tuple[dict[str, Any], tuple[str, str, str]]:
    """A class for each colour."""

    colors: set[tuple[int, ...]] = set()
    for path in looked:
        red, green, blue = np.moveaxis(read_colors(path, reading).astype(np.uint32), -1, 0)
        packed = np.unique(red << 16 | green << 8 | blue)
        colors |= {(int(color) >> 16, int(color) >> 8 & 255, int(color) & 255) for color in packed}
        if len(colors) > _MOST_COLORS:
            raise DataError(
                f"{path} brings the masks to {len(colors)} colours, wanted one a class; they are photographs, or "
                "were saved as JPEG or resized with blur: get the originals"
            )
    named = {} if names else _colors_named(looked[0].parent)
    used = sorted(named, key=list(named).index) if colors <= set(named) else sorted(colors)
    check_names(names, len(used), "colours")
    classes = names or [named.get(color) or _hex(color) for color in used]
    keys = {"labels": "colors", "void": [255], "classes": classes}
    why = f"the masks are in colour and hold {len(used)} of them"
    return keys | {"palette": [list(color) for color in used]}, (f"{len(used)} classes by colour", why, "--classes")


def _ids(
    looked: list[Path], values: Counter[int], names: list[str], void: Sequence[int] | None
) -> tuple[dict[str, Any], tuple[str, str, str]]:
    """A class for each id, void left out."""
    steps = np.diff(sorted(values))
    codes = len(steps) > 1 and steps.min() >= _STEP and steps.max() - steps.min() <= 1  # 0, 128, 255: all are classes
    below = {value for value in values if value < 0}  # no class has such an id
    unused = set(void) if void is not None else below if codes else below | ({255} & set(values))
    used = sorted(set(values) - unused)
    if not used:
        raise DataError(f"all of the masks in {looked[0].parent} is void ({sorted(unused)}); give --void")
    known = (
        list(range(len(names))) if names and max(used) < len(names) and not unused & set(range(len(names))) else used
    )
    if len(known) > 255:
        raise DataError(f"{looked[0]} and others hold {len(known)} values, wanted at most 255 classes")
    check_names(names, len(known), f"values ({_some(known)})")
    two = not names and known == [0, 1]
    names = names or (list(TWO) if two else [f"class_{value}" for value in known])
    keys: dict[str, Any] = {"void": sorted(unused) or ([] if 255 in known else [255]), "classes": names}
    if known != list(range(len(known))):
        keys["values"] = [[value] for value in known]
    keys["palette"] = palette(len(known), nothing=is_nothing(names[0]))
    what = f"{len(known)} classes by id, void {keys['void']}"
    return keys, (what, f"{len(looked)} masks hold {_some(sorted(values))}", "--classes, --void")


def _colors_named(folder: Path) -> dict[tuple[int, ...], str]:
    """Names by colour from class_dict.csv (name, r, g, b) near the masks."""

    for place in (folder, *list(folder.parents)[:2]):
        path = place / "class_dict.csv"
        if path.is_file():
            rows = list(csv.reader(path.read_text(encoding="utf-8-sig", errors="replace").splitlines()))
            found = {
                tuple(int(value) for value in row[1:4]): row[0].strip()
                for row in rows
                if len(row) == 4 and all(value.strip().isdigit() for value in row[1:4])
            }
            return found if len(set(found.values())) == len(found) else {}
    return {}


def _some(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")


def _names(folder: Path) -> list[str]:
    """Names of classes from a file beside the masks, one a line."""
    for place, name in product((folder, folder.parent), NAMES):
        path = place / name
        if path.is_file():
            lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
            return [line.strip() for line in lines if line.strip()]
    return []


def check_names(names: Sequence[str], number: int, what: str) -> None:
    """ConfigError unless there are as many different names as there should be, or none."""
    if names and len(names) != number:
        raise ConfigError(f"{len(names)} names of classes for {number} {what}; give one each with --classes a,b,...")
    if len(set(names)) != len(names):
        raise ConfigError("two classes have one name; give each its own with --classes a,b,...")


def palette(number: int, *, nothing: bool = False) -> list[list[int]]:
    """Colours far from each other: steps of the golden ratio around the circle of hues.

    nothing: the first class means that nothing is there, and is black.
    """

    hues = ((0.618034 * k % 1, 0.55 + 0.4 * (k % 3 == 0), 0.95 - 0.3 * (k % 2)) for k in range(number))
    colors = [[round(255 * c) for c in hsv_to_rgb(*hue)] for hue in hues]
    return [[0, 0, 0], *colors[:-1]] if nothing else colors


def _hex(color: Sequence[int]) -> str:
    return "color_" + "".join(f"{c:02x}" for c in color)
