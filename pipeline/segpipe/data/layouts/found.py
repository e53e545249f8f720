"""What a layout finds in a folder: samples with names, groups and splits, and what is left out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from segpipe.core.errors import DataError
from segpipe.core.outputs import digest
from segpipe.data.card import Card
from segpipe.data.sample import Sample

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm")


@dataclass(frozen=True)
class Found:
    """The samples of a folder.

    write: makes the files of a sample in another folder, where the dataset does not hold them as they are read:
        slices of volumes, polygons, one file for each class. None: they are copied.
    left_out: files that are no part of any sample, with the reason.
    """

    samples: list[Sample]
    write: Callable[[Sample, Path], None] | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    def missing(self, root: Path) -> list[tuple[str, str]]:
        """Files that samples name and that are not there: the path, and what it would be."""
        if self.write is not None:
            return []
        return [
            (path, "an image" if path == sample.image else f"the mask of {sample.image}")
            for sample in self.samples
            for path in (sample.image, *sample.labels)
            if not os.path.isfile(root / path)
        ]

    def refuse_missing(self, root: Path) -> None:
        """DataError when files are missing; the first are named."""
        missing = self.missing(root)
        if missing:
            path, what = missing[0]
            others = ", ".join(other for other, _ in missing[1:4])
            more = f" (and {len(missing) - 1} more: {others}{', ...' if len(missing) > 4 else ''})" if others else ""
            raise DataError(f"{root / path} is missing, {what}{more}; complete the dataset")


def finished(samples: list[Sample], card: Card, source: Path) -> list[Sample]:
    """Samples with unique names, groups and splits, all of them below `source`."""
    seen: dict[str, Sample] = {}
    for sample in samples:
        if sample.id in seen:
            if seen[sample.id].image == sample.image:
                raise DataError(f"{source}: image '{sample.id}' is listed twice; remove one of the lines")
            raise DataError(
                f"{source}: {seen[sample.id].image} and {sample.image} are both called '{sample.id}'; give them names "
                "of their own with the card's `id`"
            )
        seen[sample.id] = sample
        for path in (sample.image, *sample.labels):
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise DataError(f"{source}: '{path}' leads out of the dataset; correct the list or the card")
    samples = _grouped(samples, card)
    if card.groups:
        split_of = {group: split for split, groups in card.groups.items() for group in groups}
        samples = [replace(sample, split=split_of.get(sample.group, sample.split)) for sample in samples]
    for split, share in (("test", card.cut_test), ("val", card.cut_val)):
        if not any(sample.split == split for sample in samples):
            samples = cut(samples, split, share)
    return samples


def cut(samples: list[Sample], into: str, share: float) -> list[Sample]:
    """Move whole groups of train into a split until it has about `share` of the images; drawn by the groups' names.

    A group that would overshoot by more than what is wanted is left, so that one large group cannot take most; where
    all are too large, the smallest is taken.
    """

    sizes: dict[str, int] = {}
    for sample in samples:
        if sample.split == "train":
            sizes[sample.group] = sizes.get(sample.group, 0) + 1
    wanted, moved = share * sum(sizes.values()), set[str]()
    drawn = sorted(sizes, key=lambda name: digest(f"{into}/{name}".encode()))
    for group in drawn:
        if 0 < sizes[group] - wanted <= wanted or sizes[group] <= wanted:
            moved.add(group)
            wanted -= sizes[group]
    if share and not moved and len(sizes) > 1:
        moved.add(min(drawn, key=sizes.__getitem__))
    return [replace(s, split=into) if s.split == "train" and s.group in moved else s for s in samples]


def _grouped(samples: list[Sample], card: Card) -> list[Sample]:
    """Samples with their group: the sequence in their name, cut into blocks of consecutive frames."""
    counts: dict[str, int] = {}
    groups: dict[str, str] = {}
    for sample in sorted(samples, key=lambda sample: natural(sample.id)) if card.group_block else samples:
        match = re.search(card.group_pattern, sample.id) if card.group_pattern else None
        group = match.group(1) if match else sample.group or sample.id
        if card.group_block:
            key = f"{sample.split}/{group}"
            counts[key] = counts.get(key, -1) + 1
            group = f"{group}_{counts[key] // card.group_block:02d}"
        groups[sample.id] = group
    return [replace(sample, group=groups[sample.id]) for sample in samples]


def natural(name: str) -> list[str | int]:
    """A key that sorts names as people do: frame_2 before frame_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
