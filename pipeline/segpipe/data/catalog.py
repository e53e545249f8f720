"""The samples of a dataset, and their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import ConfigError, DataError
from segpipe.core.registry import find
from segpipe.core.void import VOID
from segpipe.data.card import KINDS, LAYOUTS, LOCAL, Card, card, cards, read_card
from segpipe.data.layouts.found import Found
from segpipe.data.sample import SPLITS, Sample

__all__ = [
    "LOCAL",
    "SPLITS",
    "Card",
    "Sample",
    "card",
    "cards",
    "chosen",
    "found_in",
    "majority",
    "read_annotators",
    "read_card",
    "read_labels",
    "samples_of",
    "thin",
]


def read_labels(root: Path, sample: Sample, card: Card, choice: str) -> NDArray[np.uint8]:
    """The labels of a sample at its original size, (H, W) uint8.

    choice: "majority" of the annotators (void where no two agree), or "annotator 1", 2, ...
    """
    if choice == "majority":
        return majority(read_annotators(root, sample, card))
    return _labels(root / sample.labels[_number(choice, sample) - 1], card)


def chosen(annotators: tuple[NDArray[np.uint8], ...], sample: Sample, choice: str) -> NDArray[np.uint8]:
    """The labels of `choice` among those of each annotator."""
    return majority(annotators) if choice == "majority" else annotators[_number(choice, sample) - 1]


def _number(choice: str, sample: Sample) -> int:
    number = int(choice.split()[1])
    if number > len(sample.labels):
        raise ConfigError(f"prepare.labels: 'annotator {number}', but '{sample.id}' has {len(sample.labels)} masks")
    return number


def read_annotators(root: Path, sample: Sample, card: Card) -> tuple[NDArray[np.uint8], ...]:
    """The labels of each annotator of a sample, (H, W) uint8, at one size."""
    maps = tuple(_labels(root / path, card) for path in sample.labels)
    if len({labels.shape for labels in maps}) > 1:
        raise DataError(f"the masks of '{sample.id}' differ in size: {[labels.shape for labels in maps]}")
    return maps


def _labels(path: Path, card: Card) -> NDArray[np.uint8]:
    """The labels in one file."""
    return card.label_of(find(KINDS, "kind of labels", card.labels).load()(path, card), path)


def majority(annotators: tuple[NDArray[np.uint8], ...]) -> NDArray[np.uint8]:
    """The label that more than half of the annotators give, void where there is none; of one, its own."""
    if len(annotators) == 1:
        return annotators[0]
    found = np.full_like(annotators[0], VOID)
    for labels in annotators:
        votes = sum((labels == other).astype(np.uint8) for other in annotators)
        np.copyto(found, labels, where=2 * votes > len(annotators))
    return found


def found_in(card: Card, source: Path) -> Found:
    """What the card's layout finds in a folder, files that are missing included.

    Raises:
        DataError: the folder or a list is missing or does not fit.
    """
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; {card.instructions or 'give the folder of the dataset'}")
    found: Found = find(LAYOUTS, "layout", card.layout).load()(card, source, **card.options)
    return found


def samples_of(card: Card, source: Path) -> list[Sample]:
    """The samples in a folder, as the card's layout says.

    Raises:
        DataError: the folder, a list or a file is missing or does not fit.
    """
    found = found_in(card, source)
    found.refuse_missing(source)
    return found.samples


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
