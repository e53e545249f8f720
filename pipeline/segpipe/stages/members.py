"""The members of an ensemble: where their probabilities lie, and what is done with those of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.core.errors import DataError
from segpipe.stages import SPLITS
from segpipe.stages.context import Context

_FIT = 384 * 2**20  # bytes that a fit may take, its own copies included


@dataclass(frozen=True)
class Member:
    """A member: `folder` holds its probabilities, `predicted` what the network said."""

    key: str
    folder: Path
    predicted: Path
    made: dict[str, Any]
    recipe: dict[str, Any]  # what `segpipe infer` needs to do the same with a new image

    @property
    def described(self) -> dict[str, Any]:
        """Who it is, what it costs and how it looks, as ensemble.json says it."""
        return {"key": self.key, **{k: self.made[k] for k in ("model", "looks", "multiply_adds")}, **self.recipe}


@dataclass(frozen=True)
class Work:
    """What every image needs."""

    members: tuple[Member, ...]
    root: Path
    dataset: str
    labels: str  # which annotator's
    classes: int
    draws: str
    per_image: int  # uniform: pixels; stratified: of each class


def collect(context: Context, index: dict[str, Any], keys: list[str]) -> tuple[Member, ...]:
    """The members of an ensemble, checked against the data.

    Raises:
        DataError: one is missing, or was made with other classes, images or parameters.
    """
    from segpipe.core import files

    found = []
    for key in keys:
        own = context.member(key)
        predicted = own.require("predict")
        folder = own.require("crf") if own.refined else predicted
        made = files.read_json(predicted / "made.json")
        agree(key, made, index)
        found.append(Member(key, folder, predicted, made, _recipe(own)))
    return tuple(found)


def _recipe(own: Context) -> dict[str, Any]:
    from segpipe.core import files

    section = own.params.predict_of(own.run)
    tuned = files.read_json(own.path("crf") / "crf.json") if own.refined else {}
    return {
        "train": own.path("train").as_posix(),
        "seed": own.seed,
        "snapshot": own.snapshot,
        "predict": {**section.model_dump(mode="json", exclude={"batch_size"}), "look": own.look},
        "crf": {**tuned["parameters"], "iterations": tuned["iterations"]} if tuned.get("parameters") else None,
    }


def agree(key: str, made: dict[str, Any], index: dict[str, Any], splits: Sequence[str] = SPLITS) -> None:
    """DataError when a member knows other classes or images than the data."""
    from segpipe.core import files

    if made["classes"] != index["classes"]:
        raise DataError(
            f"member {key} knows the classes {', '.join(made['classes'][:4])}, ... ({len(made['classes'])}), the data "
            f"have {', '.join(index['classes'][:4])}, ... ({len(index['classes'])}); predict it anew"
        )
    for split in splits:
        rows = index["splits"][split]
        if made["splits"][split] != files.digest_json([row["id"] for row in rows]):
            raise DataError(f"member {key} was predicted on other {split} images than the {len(rows)} of the data")


def per_image(method: Any, members: int, classes: int, images: int) -> int:
    """Pixels of an image (uniform), or of each of its classes (stratified), within the memory of a fit."""
    pixels: int = max(1, _FIT // (4 * method.numbers(members, classes) * max(1, images)))
    if method.draws != "stratified":
        return pixels
    return min(int(method.pixels), max(1, pixels // classes))


def look(work: Work, split: str, i: int, row: dict[str, Any], folders: tuple[Path, ...]) -> tuple[Any, Any]:
    """One image of a fit: the counts of every member (M rows), and the pixels that are fitted on, or None.

    folders: of each member's probabilities; i: the position there.
    """
    import numpy as np

    from segpipe.core import files
    from segpipe.ensembles import samples
    from segpipe.metrics.counts import count

    target, probs, labels = _read(work, split, i, row, folders)
    counts = count(labels, np.broadcast_to(target, labels.shape), work.classes)
    if work.draws == "none":
        return counts, None
    draw = samples.uniform if work.draws == "uniform" else samples.stratified
    # Seeded by the image's name: another image in the split moves no pixel of this one.
    positions, weight = draw(target, work.per_image, int(files.digest_json(row["id"])[:15], 16))
    return counts, samples.Sample.of(probs, target, positions, weight, i)


def combine(work: Work, split: str, i: int, row: dict[str, Any], method: Any, order: tuple[int, ...]) -> dict[str, Any]:
    """One image: the ensemble's map, the counts of the members and of the first 1..M in `order`, and their pairs."""
    import numpy as np

    from segpipe.core.argmax import label_and_confidence
    from segpipe.ensembles.diversity import Pairs
    from segpipe.metrics.counts import count

    target, probs, labels = _read(work, split, i, row, [member.folder for member in work.members])
    found = method.combine(probs)
    own = found if method.votes else label_and_confidence(found)[0]
    grown = []
    judged = split == "test"
    for number in range(1, len(order) + 1) if judged and method.grows else ():
        part = method.combine(probs[list(order[:number])])
        grown.append(part if method.votes else label_and_confidence(part)[0])
    maps = np.stack([*labels, *grown])
    return {
        "probs": None if method.votes else found.astype(np.float16),
        "labels": own,
        "counts": count(maps, np.broadcast_to(target, maps.shape), work.classes),
        "pairs": Pairs.of(list(labels), target) if judged else None,
    }


def _read(work: Work, split: str, i: int, row: dict[str, Any], folders: Sequence[Path]) -> tuple[Any, Any, Any]:
    """Target (H, W), probabilities (M, C, H, W) and labels (M, H, W) of an image; one map at a time is held twice."""
    import numpy as np

    from segpipe.core.argmax import label_and_confidence
    from segpipe.stages.probs import probs_at
    from segpipe.stages.samples import read_target

    target = read_target(work.root, work.dataset, work.labels, row, split)
    probs = np.empty((len(folders), work.classes, *target.shape), np.float32)
    for own, folder in zip(probs, folders, strict=True):
        own[:] = probs_at(folder, split, row, i)
    return target, probs, np.stack([label_and_confidence(p)[0] for p in probs])
