"""The members of an ensemble: where their probabilities lie, and what is done with those of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core import outputs
from segpipe.core.argmax import label_and_confidence
from segpipe.core.errors import DataError
from segpipe.data.dataset import Index, Row, read_target
from segpipe.data.packed import Packed
from segpipe.data.predictions import read_probs
from segpipe.ensembles.diversity import Pairs
from segpipe.ensembles.methods import Method
from segpipe.ensembles.samples import Sample, stratified, uniform
from segpipe.metrics.counts import Counts, count

_FIT = 384 * 2**20  # bytes that a fit may take, its own copies included


@dataclass(frozen=True)
class Member:
    """A member: `folder` holds its probabilities, `predicted` what the network said.

    made: what stage predict wrote down of it. repeat: what `segpipe infer` needs to do the same with a new image.
    """

    key: str
    folder: Path
    predicted: Path
    made: dict[str, Any]
    repeat: dict[str, Any]

    @property
    def described(self) -> dict[str, Any]:
        """Who it is, what it costs and how it looks, as ensemble.json says it."""
        return {"key": self.key, **{k: self.made[k] for k in ("model", "looks", "multiply_adds")}, **self.repeat}


@dataclass(frozen=True)
class Combined:
    """One image: the ensemble's map, the counts of the members and of the first 1..M in order, and their pairs."""

    labels: Packed
    probs: Packed | None  # None of votes
    counts: Counts
    pairs: Pairs | None  # of test alone


@dataclass(frozen=True)
class Gathering:
    """What every image of a split needs. root: of the dataset; draws: how pixels are drawn that a fit sees."""

    members: tuple[Member, ...]
    root: Path
    index: Index
    split: str
    draws: str
    per_image: int  # uniform: pixels; stratified: of each class

    def sample(self, i: int, row: Row, folders: Sequence[Path]) -> tuple[Counts, Sample | None]:
        """One image of a fit: the counts of every member (M rows), and the pixels that are fitted on, or None.

        folders: of each member's probabilities; i: the position there.
        """
        target, probs, labels = self._read(i, row, folders)
        counts = count(labels, np.broadcast_to(target, labels.shape), len(self.index.classes))
        if self.draws == "none":
            return counts, None
        draw = uniform if self.draws == "uniform" else stratified
        # Seeded by the image's name: another image in the split moves no pixel of this one.
        positions, weight = draw(target, self.per_image, int(outputs.digest_json(row.id)[:15], 16))
        return counts, Sample.of(probs, target, positions, weight, i)

    def combine(self, i: int, row: Row, method: Method, order: Sequence[int]) -> Combined:
        """One image through the fitted method."""
        target, probs, labels = self._read(i, row, [member.folder for member in self.members])
        found = method.combine(probs)
        own = found if method.votes else label_and_confidence(found)[0]
        grown = []
        judged = self.split == "test"
        for number in range(1, len(order) + 1) if judged and method.grows else ():
            part = method.combine(probs[list(order[:number])])
            grown.append(part if method.votes else label_and_confidence(part)[0])
        maps = np.stack([*labels, *grown])
        counts = count(maps, np.broadcast_to(target, maps.shape), len(self.index.classes))
        stored = None if method.votes else Packed.probs(found)
        pairs = Pairs.of(list(labels), target) if judged else None
        return Combined(Packed.labels(own), stored, counts, pairs)

    def _read(
        self, i: int, row: Row, folders: Sequence[Path]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
        """Target (H, W), probabilities (M, C, H, W) and labels (M, H, W); one map at a time is held twice."""
        target = read_target(self.root, self.index, row, self.split)
        probs = np.empty((len(folders), len(self.index.classes), *target.shape), np.float32)
        for own, folder in zip(probs, folders, strict=True):
            own[:] = read_probs(folder, self.split, row, i)
        return target, probs, np.stack([label_and_confidence(p)[0] for p in probs])


def agree(key: str, made: dict[str, Any], index: Index, splits: Sequence[str]) -> None:
    """DataError when a member knows other classes or images than the data."""
    if made["classes"] != index.classes:
        raise DataError(
            f"member {key} knows the classes {', '.join(made['classes'][:4])}, ... ({len(made['classes'])}), the data "
            f"have {', '.join(index.classes[:4])}, ... ({len(index.classes)}); predict it anew"
        )
    for split in splits:
        if made["splits"][split] != index.digest(split):
            number = len(index.splits[split])
            raise DataError(f"member {key} was predicted on other {split} images than the {number} of the data")


def per_image(method: Method, members: int, classes: int, images: int) -> int:
    """Pixels of an image (uniform), or of each of its classes (stratified), within the memory of a fit."""
    pixels: int = max(1, _FIT // (4 * method.numbers(members, classes) * max(1, images)))
    if method.draws != "stratified":
        return pixels
    return min(method.pixels, max(1, pixels // classes))
