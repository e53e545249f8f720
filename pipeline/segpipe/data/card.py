"""Dataset cards: what segpipe knows of a dataset, as data; one `.toml` each."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core import registry
from segpipe.core.errors import ConfigError, DataError, suggestion
from segpipe.core.opencv import cv2
from segpipe.core.void import VOID
from segpipe.data import reading
from segpipe.data.reading import Reading

_UNKNOWN = 254  # what no label is, where there are fewer than 254 classes
LAYOUTS = "segpipe.data.layouts"  # by name: who reads cards alone needs none of their code
KINDS = "segpipe.data.masks"
GENERATED = "generated"
DIGESTS = ("sha256", "sha1", "md5")  # the strongest first
_FIELD = re.compile(r"\{(\w+)\}")  # of a template
_WITH_PATHS = ("template", "labelme", "yolo", "geojson", "per_class", "volumes")  # layouts that match paths
_FILE = {"name", "urls", "bytes", "into", "login", *DIGESTS}


@dataclass(frozen=True)
class Remote:
    """A file that a dataset is made of: where it is, and what it must be."""

    name: str
    urls: Sequence[str] = ()
    bytes: int | None = None
    digests: dict[str, str] = field(default_factory=dict)  # by kind; what publishers give
    into: str = ""  # the folder that its content is unpacked into
    login: bool = False


@dataclass(frozen=True)
class Card:
    """What segpipe knows of a dataset.

    Class ids are positions in `classes`; `void` are raw values of the masks, and `values` the raw values of each
    class where these are not the ids themselves. `labels` is the kind of the masks (see `segpipe.data.masks`);
    for kind "colors" a class is its colour in `palette`, or one of its `colors`.

    `files` are the archives that a download gets. How samples are found in them, or in a folder of the user's, says
    `layout` (see `segpipe.data.layouts`): in layout "template" `image` and `masks` are paths with fields in braces,
    `lists` names a file of ids for each split, and `splits` what each split is called there; `options` are those
    of the layout. Where no split is
    called val (or test), `cut_val` (`cut_test`) of the groups of train become it. `groups` says which groups
    belong to val and test. `depth` says how images of 16 bits become 8 (see `segpipe.data.reading`), `page` which page
    of a file with several is read, from 1; without them such files are refused. `unlabelled` is "leave out" where
    images without a mask, or without one of several annotators, are left out; without it they are an error.
    """

    name: str
    title: str
    licence: str
    source: str
    layout: str
    classes: list[str]
    palette: list[list[int]]
    void: list[int]
    values: list[list[int]] = field(default_factory=list)
    labels: str = "ids"
    colors: list[list[list[int]]] = field(default_factory=list)
    void_colors: list[list[int]] = field(default_factory=list)
    key: str = ""
    annotators: int = 1
    depth: str = ""
    page: int = 0
    unlabelled: str = ""
    instructions: str = ""
    notes: str = ""
    files: list[dict[str, Any]] = field(default_factory=list)
    image: str = ""
    masks: list[str] = field(default_factory=list)
    lists: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    id: str = "{name}"
    splits: dict[str, str] = field(default_factory=dict)
    cut_val: float = 0.1
    cut_test: float = 0.0
    group_pattern: str = ""
    group_block: int = 0
    groups: dict[str, list[str]] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """C, without void."""
        return len(self.classes)

    @property
    def reading(self) -> Reading:
        """How images and masks are read."""
        return Reading(self.depth, self.page)

    @property
    def remotes(self) -> list[Remote]:
        """The archives."""
        plain = [{k: v for k, v in file.items() if k not in DIGESTS} for file in self.files]
        digests = [{k: v.lower() for k, v in file.items() if k in DIGESTS} for file in self.files]
        return [Remote(**own, digests=known) for own, known in zip(plain, digests, strict=True)]

    @property
    def tests_alone(self) -> bool:
        """Whether it holds test images only, on which nothing can be trained."""
        return bool(self.splits) and "train" not in self.splits

    @property
    def downloads(self) -> bool:
        """Whether segpipe can get every archive by itself: publishers may ask who downloads."""
        return bool(self.files) and all(file.get("urls") and not file.get("login") for file in self.files)

    def label_of(self, ids: NDArray[Any], path: Path | str) -> NDArray[np.uint8]:
        """Raw mask values as labels 0..C-1 and 255 for void; DataError names file and value."""
        labels, known = _tables(
            tuple(tuple(group) for group in self.values) or tuple((k,) for k in range(self.num_classes)),
            tuple(self.void),
        )
        if ids.dtype == np.uint8 and self.num_classes < _UNKNOWN:
            found = cv2.LUT(ids, np.where(known[:256], labels[:256], _UNKNOWN).astype(np.uint8))
            if not cv2.countNonZero(cv2.inRange(found, _UNKNOWN, _UNKNOWN)):
                return np.asarray(found, np.uint8)
        inside = (ids >= 0) & (ids < len(known))
        at = np.where(inside, ids, 0)
        below = np.isin(ids, [value for value in self.void if value < 0])  # -1, as many tools write void
        wrong = ~(inside & known[at]) & ~below
        if wrong.any():
            values, counts = np.unique(ids[wrong], return_counts=True)
            shown = ", ".join(f"{value} ({n} px)" for value, n in zip(values[:5], counts[:5], strict=True))
            wanted = f"0..{self.num_classes - 1}" if not self.values else f"one of {_short(self.values)}"
            raise DataError(
                f"{path} holds label {shown}, wanted {wanted} or void "
                f"{_short(self.void)}; correct the mask or the classes of dataset '{self.name}'"
            )
        return np.where(below, np.uint8(VOID), labels[at])


@cache
def _tables(values: tuple[tuple[int, ...], ...], void: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The label of each raw value from 0 on, and whether it has one."""
    raw = [value for group in values for value in group]
    size = max(256, *(value + 1 for value in (*raw, *void)))
    labels, known = np.full(size, VOID, np.uint8), np.zeros(size, bool)
    for k, group in enumerate(values):
        labels[list(group)] = k
    known[[*raw, *(value for value in void if value >= 0)]] = True
    return labels, known


LOCAL = Path("cards")  # of a workspace: cards of its own, which win over the packaged ones


def cards() -> dict[str, Card]:
    """All cards by name: the packaged ones and those in `cards/` of the workspace."""
    return _cards(Path.cwd())


@cache
def _cards(workspace: Path) -> dict[str, Card]:
    packaged = (file for file in resources.files("segpipe.data.cards").iterdir() if file.name.endswith(".toml"))
    found = [read_card(file) for file in (*packaged, *(workspace / LOCAL).glob("*.toml"))]
    return {card.name: card for card in sorted(found, key=lambda card: card.name)}


def card(name: str) -> Card:
    """The card called `name`; ConfigError names the near miss."""
    if name not in cards():
        raise ConfigError(f"unknown dataset '{name}'{suggestion(name, cards())}")
    return cards()[name]


def read_card(file: Any) -> Card:
    """The card in a .toml file, named as the file; ConfigError says what is wrong with it."""
    name = file.name.removesuffix(".toml")
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
        card = Card(name=name, **values)
    except FileNotFoundError:
        raise ConfigError(f"{file} is missing; give the path of a dataset card") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
    except TypeError:
        known = [f.name for f in fields(Card) if f.name != "name"]
        wanted = [f.name for f in fields(Card) if f.default is MISSING and f.default_factory is MISSING]
        unknown = [key for key in values if key not in known]
        if unknown:
            raise ConfigError(f"{file}: unknown key '{unknown[0]}'{suggestion(unknown[0], known)}") from None
        missing = [key for key in wanted if key not in values and key != "name"]
        raise ConfigError(f"{file}: missing {', '.join(missing)}") from None
    problem = _problem(card)
    if problem:
        raise ConfigError(f"{file}: {problem}")
    return card


_TYPES: dict[str, tuple[type, ...]] = {
    "list": (list,),
    "dict": (dict,),
    "str": (str,),
    "int": (int,),
    "float": (int, float),
}


def _problem(card: Card) -> str | None:
    """What is wrong with a card, or None."""
    for f in fields(Card):
        if not isinstance(getattr(card, f.name), _TYPES[str(f.type).split("[")[0]]):
            return f"{f.name} is {getattr(card, f.name)!r}, wanted {f.type}"
    if len(card.classes) != len(card.palette) or not 1 <= len(card.classes) <= 255:
        return f"{len(card.classes)} classes and {len(card.palette)} colours, wanted one each, 1..255"
    layouts, kinds = registry.entries(LAYOUTS), registry.entries(KINDS)
    if card.layout not in (GENERATED, *layouts):
        return f"unknown layout '{card.layout}'{suggestion(card.layout, [GENERATED, *layouts])}"
    if card.labels not in kinds:
        return f"unknown kind of labels '{card.labels}'{suggestion(card.labels, kinds)}"
    if card.layout != GENERATED:
        try:
            registry.check_options("layout", layouts[card.layout], card.options)
        except ConfigError as error:
            return str(error)
    if card.unlabelled not in ("", "leave out"):
        return f"unlabelled is '{card.unlabelled}', wanted 'leave out' or nothing"
    if card.page < 0:
        return f"page is {card.page}, wanted the number of a page, from 1"
    wrong = reading.problem(card.depth) or _problem_of_values(card)
    return wrong or _problem_of_colors(card) or _problem_of_paths(card) or _problem_of_files(card)


def _problem_of_values(card: Card) -> str | None:
    """Of `values` and `void`: an id must mean one thing."""
    groups = card.values or [[k] for k in range(card.num_classes)]
    if not all(isinstance(group, list) for group in groups):
        return "values must list the raw mask values of each class, each value once"
    raw = [value for group in groups for value in group]
    whole = all(type(value) is int and value < 2**16 for value in (*raw, *card.void))
    if not whole or min(raw, default=0) < 0 or min(card.void, default=0) < -(2**15):
        return "values must be whole numbers from 0 to 65535, void from -32768"
    if len(groups) != len(card.classes) or len(set(raw)) != len(raw):
        return "values must list the raw mask values of each class, each value once"
    both = sorted(set(raw) & set(card.void))
    if both:
        return f"{both[0]} is void and a value of a class; give each one meaning, with `values`"
    return None


def _problem_of_colors(card: Card) -> str | None:
    """Of the palette and of masks in colours."""
    if card.colors and len(card.colors) != len(card.classes):
        return "colors must list the colours of each class"
    if card.void_colors and not card.void:
        return "void_colors need a value in void that stands for them, for example void = [255]"
    for color in (*card.palette, *card.void_colors, *(color for group in card.colors for color in group)):
        if not (isinstance(color, list) and len(color) == 3 and all(type(c) is int and 0 <= c <= 255 for c in color)):
            return f"{color!r} is no colour, wanted [red, green, blue] from 0 to 255"
    return None


def _problem_of_paths(card: Card) -> str | None:
    """Of templates and of the expression for groups."""
    if card.layout == "csv" and not card.lists:
        return "layout 'csv' needs lists, the path of the .csv"
    if card.layout == "coco" and not card.image:
        return "layout 'coco' needs image, where the file {name} of the JSON is"
    if card.layout in _WITH_PATHS:
        if not card.image or not card.masks:
            return f"layout '{card.layout}' needs image and masks"
        known = {*_FIELD.findall(card.image), *(("split", "name") if card.lists else ())}
        for text in (*card.masks, card.id, *([card.lists] if card.lists else [])):
            unknown = (
                set(_FIELD.findall(str(text))) - known - {"split", *(("class",) if card.layout == "per_class" else ())}
            )
            if unknown:
                return f"'{text}' has a field {{{unknown.pop()}}} that image has not: {card.image}"
    try:
        if card.group_pattern and re.compile(card.group_pattern).groups < 1:
            return f"group_pattern '{card.group_pattern}' has no brackets around what names the group"
    except re.error as error:
        return f"group_pattern '{card.group_pattern}' is no expression: {error}"
    return None


def _problem_of_files(card: Card) -> str | None:
    """Of the archives."""
    for file in card.files:
        if "name" not in file or not file.keys() <= _FILE:
            return f"a file has the keys {', '.join(sorted(file))}, wanted name and some of {', '.join(sorted(_FILE))}"
        if not isinstance(file.get("urls", []), list):
            return f"urls of {file['name']} must be a list"
        for kind, length in zip(DIGESTS, (64, 40, 32), strict=True):
            if not re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", str(file.get(kind, "0" * length))):
                return f"{kind} of {file['name']} is {file[kind]!r}, wanted {length} hexadecimal digits"
    return None


def _short(values: list[Any]) -> str:
    return str(values) if len(values) <= 12 else f"{str(values[:12])[:-1]}, ...]"
