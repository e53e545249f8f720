"""Stage decide: which labels are read from probabilities, by a rule fitted on val and judged out of fold."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from segpipe.config.context import Context
from segpipe.core import files, outputs
from segpipe.core.argmax import label_and_confidence
from segpipe.core.errors import DataError
from segpipe.data import catalog
from segpipe.data.dataset import Index, Row, read_target
from segpipe.data.files import read_image
from segpipe.data.maps import MapWriter
from segpipe.data.packed import Packed
from segpipe.data.predictions import read_probs, refuse_leak
from segpipe.refine.chain import Chain, Decision, decide, refused
from segpipe.refine.effect import Measured, effect
from segpipe.refine.evidence import Evidence, Shown
from segpipe.stages import SPLITS

KEPT = 2**27  # probabilities of val that stay in memory: half a gigabyte


def run(context: Context) -> dict[str, Any]:
    """Write the labels of every image at its original size, and `decide.json`: the rule, how the candidates did on
    val, and what it changes.
    """
    with threadpool_limits(1):  # one thread an image: the bytes do not depend on the number of jobs
        return _run(context)


def _run(context: Context) -> dict[str, Any]:
    source, index = context.require(context.probabilities), Index.read(context.path("prepare"))
    if not context.method:
        refuse_leak(context.path("predict"), [row.id for row in index.splits["val"]], "fit the rule")
    val = _Split(context, index, source, "val")
    rules, fitted = context.params.decide.rules, _fitted_on_val(context, source)
    decision = refused(rules, val, context.rule, fitted) if fitted else decide(rules, val, context.rule)
    summary: dict[str, Any] = {
        "rule": decision.text,
        "links": decision.chain.describe(),
        "metric": context.rule,
        "classes": index.classes,
        "fitted_on": "val",
        "made_of": _made_of(context, source),
        "candidates": [vars(judged) for judged in decision.judged],
        "effect": {},
    }
    measured = context.params.evaluate
    with outputs.folder(context.path("decide"), context.describe("decide")) as folder:
        for split in SPLITS:
            images = val if split == "val" else _Split(context, index, source, split)
            sides = _write(context, folder, images, decision)
            summary["effect"][split] = effect(
                *sides, index.groups(split), metric=context.rule, widths=measured.trimap,
                quantiles=measured.quantiles, what="the rule",
            )  # fmt: skip
        files.write_json(folder / "decide.json", summary)
    return {"path": str(context.path("decide")), **summary}


def _fitted_on_val(context: Context, source: Path) -> str:
    """Why no part of val is unseen by an ensemble; empty where it is, and of a run."""
    if not context.method or files.read_json(source / "ensemble.json")["fitted_on"] != "val":
        return ""
    return "the ensemble was fitted on val, so that no part of val is unseen; fit it out of fold (folds=true)"


def _made_of(context: Context, source: Path) -> str:
    """The digest of the network's weights, or of the ensemble's definition."""
    if context.method:
        return outputs.digest_file(source / "ensemble.json")
    return str(files.read_json(context.path("predict") / "made.json")["model"])


class _Split(Evidence):
    """The images of a split as they were predicted."""

    def __init__(self, context: Context, index: Index, source: Path, split: str) -> None:
        self.root, self.index, self.source, self.split = context.path("download"), index, source, split
        self.rows: list[Row] = index.splits[split]
        self.kept: dict[int, Shown] = {}  # val is looked at many times
        self.groups = sequences(index.groups(split), catalog.card(index.dataset).group_block)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Shown:
        if position not in self.kept:
            row = self.rows[position]
            probs = read_probs(self.source, self.split, row, position)
            shown = Shown(
                read_image(self.root / row.image, self.index.reading), probs,
                read_target(self.root, self.index, row, self.split),
            )  # fmt: skip
            if self.split != "val" or probs.size * len(self) > KEPT:
                return shown
            self.kept[position] = shown
        return self.kept[position]


def sequences(groups: list[str], block: int) -> list[str]:
    """What images really depend on: blocks of consecutive frames are of one sequence, whose rule is its own.

    >>> sequences(["clip_00", "clip_01", "other_00"], 15), sequences(["a_0", "a_1"], 0)
    (['clip', 'clip', 'other'], ['a_0', 'a_1'])
    """
    return [group.rpartition("_")[0] for group in groups] if block else groups


def _write(context: Context, folder: Path, split: _Split, decision: Decision) -> tuple[list[Measured], list[Measured]]:
    """The labels of a split; what was measured before and after."""
    work = partial(_image, split, decision.chain, context.params.evaluate.trimap, context.params.evaluate.bins)
    done: Iterator[Any] = context.pool(partial(threadpool_limits, 1)).map(work, ((i,) for i in range(len(split))))
    before, after = [], []
    with MapWriter(folder / f"{split.split}_labels") as writer:
        name = f"deciding {context.method or context.key} {split.split}"
        for labels, one, other in tqdm(done, name, len(split), unit="image", disable=None):
            writer.add(labels)
            before.append(one)
            after.append(other)
    return before, after


def _image(
    split: _Split, chain: Chain, widths: list[int], bins: int, position: int
) -> tuple[Packed, Measured, Measured]:
    """The labels of an image, and its measures by arg max and by the rule."""
    shown = split[position]
    plain: NDArray[np.uint8] = label_and_confidence(shown.probs)[0]
    try:
        labels = chain.labels(shown.image, shown.probs)
        refined = chain.refine(shown.image, shown.probs)
    except ValueError as error:
        raise DataError(f"image {split.rows[position].id}: {error}") from None
    return (
        Packed.labels(labels),
        Measured.of(plain, shown.probs, shown.target, widths, bins),
        Measured.of(labels, refined, shown.target, widths, bins),
    )
