"""Dataset cards and the samples that a dataset's layout yields."""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import ConfigError, DataError, suggestion
from segpipe.data.files import read_ids

SPLITS = ("train", "val", "test")
LAYOUTS = ("generated", "lists", "pairs")
VOID = 255


@dataclass(frozen=True)
class Card:
    """What segpipe knows of a dataset.

    Class ids are positions in `classes`; `void` are raw values of the masks, and `values` the raw
    values of each class where these are not the ids themselves. In layout "pairs" the folder holds
    `image_files` (a pattern) and, for each, the `mask_files` with {stem} for its name; `groups` says which
    groups belong to val and test, the rest trains.
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
    annotators: int = 1
    instructions: str = ""
    group_pattern: str = ""
    group_block: int = 0
    image_files: str = ""
    mask_files: list[str] = field(default_factory=list)
    groups: dict[str, list[str]] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """C, without void."""
        return len(self.classes)

    def label_of(self, ids: NDArray[np.int64], path: Path | str) -> NDArray[np.uint8]:
        """Raw mask values as labels 0..C-1 and 255 for void; DataError names file and value."""
        labels = np.full(ids.shape, VOID, np.uint8)
        known = (ids >= 0) & (ids < self.num_classes)
        if self.values:
            known = np.isin(ids, [raw for group in self.values for raw in group])
            for k, group in enumerate(self.values):
                labels[np.isin(ids, group)] = k
        else:
            labels[known] = ids[known]
        void = np.isin(ids, self.void)
        labels[void] = VOID
        if not (known | void).all():
            wrong = np.unique(ids[~(known | void)])
            wanted = f"0..{self.num_classes - 1}" if not self.values else f"one of {self.values}"
            raise DataError(
                f"{path} holds label {', '.join(map(str, wrong[:5]))}, wanted {wanted} or void "
                f"{self.void}; correct the mask or the classes of dataset '{self.name}'"
            )
        return labels


@dataclass(frozen=True)
class Sample:
    """One image with the mask of each annotator; paths are relative to the dataset's folder."""

    id: str
    split: str
    group: str
    image: str
    labels: tuple[str, ...]


LOCAL = Path("cards")  # of a workspace: cards of its own, which win over the packaged ones


def cards() -> dict[str, Card]:
    """All cards by name: the packaged ones and those in `cards/` of the workspace."""
    return _cards(Path.cwd())


@cache
def _cards(workspace: Path) -> dict[str, Card]:
    packaged = (file for file in resources.files("segpipe.data.cards").iterdir() if file.name.endswith(".toml"))
    found = [read_card(file) for file in (*packaged, *(workspace / LOCAL).glob("*.toml"))]
    return {card.name: card for card in sorted(found, key=lambda card: card.name)}


def read_card(file: Any) -> Card:
    """The card in a .toml file, named as the file; ConfigError says what is wrong with it."""
    name = file.name.removesuffix(".toml")
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
        card = Card(name=name, **values)
    except FileNotFoundError:
        raise ConfigError(f"{file} is missing; give the path of a dataset card") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
    except TypeError:
        known = [f.name for f in fields(Card) if f.name != "name"]
        wanted = [f.name for f in fields(Card) if f.default is MISSING and f.default_factory is MISSING]
        unknown = [key for key in values if key not in known]
        if unknown:
            raise ConfigError(f"{file}: unknown key '{unknown[0]}'{suggestion(unknown[0], known)}") from None
        missing = [key for key in wanted if key not in values and key != "name"]
        raise ConfigError(f"{file}: missing {', '.join(missing)}") from None
    if len(card.classes) != len(card.palette) or not 1 <= len(card.classes) <= 255:
        raise ConfigError(
            f"{file}: {len(card.classes)} classes and {len(card.palette)} colours, wanted one each, 1..255"
        )
    raw = [value for group in card.values for value in group]
    if card.values and (len(card.values) != len(card.classes) or len(set(raw)) != len(raw)):
        raise ConfigError(f"{file}: values must list the raw mask values of each class, each value once")
    if card.layout not in LAYOUTS:
        raise ConfigError(f"{file}: unknown layout '{card.layout}'{suggestion(card.layout, LAYOUTS)}")
    return card


def card(name: str) -> Card:
    """The card called `name`; ConfigError names the near miss."""
    if name not in cards():
        raise ConfigError(f"unknown dataset '{name}'{suggestion(name, cards())}")
    return cards()[name]


def read_labels(root: Path, sample: Sample, card: Card, choice: str) -> NDArray[np.uint8]:
    """The labels of a sample at its original size, (H, W) uint8.

    choice: "majority" of the annotators (void where no two agree), or "annotator 1", 2, ...
    """
    if choice == "majority":
        return majority(read_annotators(root, sample, card))
    number = int(choice.split()[1])
    if number > len(sample.labels):
        raise ConfigError(f"prepare.labels: 'annotator {number}', but '{sample.id}' has {len(sample.labels)} masks")
    path = root / sample.labels[number - 1]
    return card.label_of(read_ids(path), path)


def read_annotators(root: Path, sample: Sample, card: Card) -> tuple[NDArray[np.uint8], ...]:
    """The labels of each annotator of a sample, (H, W) uint8, at one size."""
    maps = tuple(card.label_of(read_ids(root / path), root / path) for path in sample.labels)
    if len({labels.shape for labels in maps}) > 1:
        raise DataError(f"the masks of '{sample.id}' differ in size: {[labels.shape for labels in maps]}")
    return maps


def majority(annotators: tuple[NDArray[np.uint8], ...]) -> NDArray[np.uint8]:
    """The label that more than half of the annotators give, void where there is none; of one, its own."""
    found = np.full_like(annotators[0], VOID)
    for labels in annotators:
        votes = sum((labels == other).astype(np.uint8) for other in annotators)
        np.copyto(found, labels, where=2 * votes > len(annotators))
    return found


def samples_of(card: Card, source: Path) -> list[Sample]:
    """The samples in a folder of the user's, as the card's layout says.

    Raises:
        DataError: the folder, a list or a file is missing or does not fit.
    """
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; {card.instructions or 'give the folder of the dataset'}")
    return _samples_of_pairs(card, source) if card.layout == "pairs" else _samples_of_lists(card, source)


def _samples_of_pairs(card: Card, source: Path) -> list[Sample]:
    """Images beside their masks, split by group."""
    images = sorted(path.name for path in source.glob(card.image_files))
    if not images:
        raise DataError(f"{source} holds no {card.image_files}; {card.instructions}")
    samples = []
    for image in images:
        masks = tuple(name.format(stem=Path(image).stem) for name in card.mask_files)
        for mask in masks:
            if not (source / mask).is_file():
                raise DataError(f"{source / mask} is missing, the mask of {image}; complete the dataset")
        samples.append(Sample(Path(image).stem, "train", "", image, masks))
    grouped = _grouped(samples, card)
    split_of = {group: split for split, groups in card.groups.items() for group in groups}
    return [replace(sample, split=split_of.get(sample.group, "train")) for sample in grouped]


def _samples_of_lists(card: Card, source: Path) -> list[Sample]:
    """The samples named by `train.txt`, `val.txt`, `test.txt`: lines of `image mask`.

    Absolute paths of another machine are re-rooted: the longest tail that exists below `source`.
    """
    samples: list[Sample] = []
    for split in SPLITS:
        listing = source / f"{split}.txt"
        if not listing.is_file():
            raise DataError(f"{listing} is missing; {card.instructions}")
        try:
            lines = listing.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise DataError(f"{listing} is not UTF-8 text; save it as UTF-8") from None
        for number, line in enumerate(lines, 1):
            parts = line.split()
            if len(parts) not in (0, 2):
                raise DataError(f"{listing}:{number} has {len(parts)} fields, wanted 'image mask'")
            if parts:
                image, mask = (_reroot(part, source, f"{listing}:{number}") for part in parts)
                samples.append(Sample(Path(image).stem, split, "", image, (mask,)))
    if not samples:
        raise DataError(f"{source} lists no image; fill train.txt, val.txt and test.txt")
    _refuse_repeats(samples, source)
    return _grouped(samples, card)


def thin(samples: list[Sample], limit: int | None) -> list[Sample]:
    """At most `limit` samples a split, evenly spaced in their order (None: all)."""
    if limit is None:
        return samples
    kept = []
    for split in SPLITS:
        of_split = [sample for sample in samples if sample.split == split]
        number = min(limit, len(of_split))
        kept += [of_split[i * len(of_split) // number] for i in range(number)]
    return kept


def _reroot(path: str, source: Path, where: str) -> str:
    parts = Path(path).parts
    for start in range(len(parts)):
        tail = Path(*parts[start:])
        if ".." not in tail.parts and not tail.is_absolute() and (source / tail).is_file():
            return tail.as_posix()
    raise DataError(f"{where} names {path}, which is not below {source}; complete the dataset or its list")


def _refuse_repeats(samples: list[Sample], source: Path) -> None:
    """An id that occurs twice would overwrite its twin."""
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise DataError(f"{source}: image '{sample.id}' is listed twice; remove one of the lines")
        seen.add(sample.id)


def _grouped(samples: list[Sample], card: Card) -> list[Sample]:
    """Samples with their group: the sequence in their name, cut into blocks of consecutive frames."""
    counts: dict[str, int] = {}
    grouped = []
    for sample in samples:
        match = re.search(card.group_pattern, sample.id) if card.group_pattern else None
        group = match.group(1) if match else sample.id
        if card.group_block:
            key = f"{sample.split}/{group}"
            counts[key] = counts.get(key, -1) + 1
            group = f"{group}_{counts[key] // card.group_block:02d}"
        grouped.append(Sample(sample.id, sample.split, group, sample.image, sample.labels))
    return grouped
