"""Stage ensemble: one prediction out of many; fitted on val, or out of fold, and never on what is reported."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from segpipe.config.context import Context
from segpipe.core import files, outputs
from segpipe.core.errors import DataError
from segpipe.core.parallel import Pool
from segpipe.data.dataset import Index, Row
from segpipe.data.maps import MapWriter
from segpipe.data.packed import Packed
from segpipe.data.predictions import refuse_leak
from segpipe.ensembles import methods
from segpipe.ensembles.diversity import Pairs
from segpipe.ensembles.members import Combined, Gathering, Member, agree, per_image
from segpipe.ensembles.methods import Method
from segpipe.ensembles.samples import Sample
from segpipe.metrics.counts import Counts
from segpipe.metrics.scores import miou_dataset
from segpipe.stages import SPLITS

_WRITTEN = Packed("labels", b"", ())  # stands for a map that is in its file


def run(context: Context) -> dict[str, Any]:
    """Write the maps of val and test, `ensemble.json` (all that combines new images alike), `arrays.npz` (a
    learner's) and `members.npz` (what judges it: counts of members and of the first 1..M).
    """
    # One thread an image: the bytes do not depend on the number of jobs.
    with threadpool_limits(1):
        return _run(context, context.pool(partial(threadpool_limits, 1)))


def _run(context: Context, pool: Pool) -> dict[str, Any]:
    section, index = context.params.ensemble[context.method], Index.read(context.path("prepare"))
    members, rows = _members(context, index), index.splits["val"]
    method = methods.create(section.method)
    method.check(len(members))
    for member in members:
        refuse_leak(member.predicted, [row.id for row in rows], "choose and fit the ensemble")
    fitted_on = "train" if section.folds else "val"
    number = per_image(method, len(members), len(index.classes), len(index.splits[fitted_on]))
    draws = "none" if section.folds else method.draws
    gathering = Gathering(members, context.path("download"), index, "val", draws, number)
    counted, sample = _samples(gathering, pool, rows, [tuple(m.folder for m in members)] * len(rows))
    by_member = [Counts.concat([counts[[m]] for counts in counted]) for m in range(len(members))]
    scores = [miou_dataset(counts) or 0.0 for counts in by_member]
    order = tuple(sorted(range(len(members)), key=lambda m: -scores[m]))
    if section.folds:
        sample = _out_of_fold(context, replace(gathering, split="train", draws=method.draws), pool)
    try:
        method.fit(sample, by_member)
    except ValueError as error:
        raise DataError(f"ensemble {context.method} cannot be fitted on {fitted_on}: {error}") from None
    definition = {
        "method": section.method,
        "classes": index.classes,
        "fitted_on": "nothing" if method.draws == "none" and not method.learned else fitted_on,
        "pixels": 0 if sample is None else len(sample),
        "members": [{**m.described, "val_miou_dataset": s} for m, s in zip(members, scores, strict=True)],
        "best_member": members[order[0]].key,
        "learned": method.learned,
    }
    with outputs.folder(context.path("ensemble"), context.describe("ensemble")) as folder:
        for split in SPLITS:
            found = _write_maps(folder, replace(gathering, split=split), pool, method, order, context.method)
        _write_definition(folder, definition, method, found, order)
    return {
        "path": str(context.path("ensemble")),
        "method": section.method,
        "members": [member.key for member in members],
        "best_member": members[order[0]].key,
        "learned": method.learned,
        "given": getattr(method, "given", None),
        "absent": [index.classes[k] for k in method.learned.get("absent", [])],
    }


def _members(context: Context, index: Index) -> tuple[Member, ...]:
    """The members, checked against the data; DataError when one is missing or was made with other data."""
    found = []
    for key in context.params.members_of(context.method):
        own = context.member(key)
        predicted = own.require("predict")
        folder = own.require("crf") if own.refined else predicted
        made = files.read_json(predicted / "made.json")
        agree(key, made, index, SPLITS)
        found.append(Member(key, folder, predicted, made, _repeat(own)))
    return tuple(found)


def _repeat(own: Context) -> dict[str, Any]:
    """What `segpipe infer` needs to do the same with a new image; "train" is None of an import, which it cannot ask."""
    looks = {} if own.imported else own.params.predict_of(own.run).model_dump(mode="json", exclude={"batch_size"})
    tuned = files.read_json(own.path("crf") / "crf.json") if own.refined else {}
    fixed = {name: tuned[name] for name in own.params.crf.fixed} if tuned else {}
    return {
        "train": None if own.imported else own.path("train").as_posix(),
        "seed": own.seed,
        "snapshot": own.snapshot,
        "predict": {**looks, "look": own.look},
        "crf": {**tuned["parameters"], **fixed} if tuned.get("parameters") else None,
        **({"refiner": own.params.crf.refiner} if own.params.crf.refiner != "crf" else {}),
    }


def _samples(
    gathering: Gathering,
    pool: Pool,
    rows: Sequence[Row],
    folders: Sequence[tuple[Path, ...]],
    positions: Sequence[int] | None = None,
) -> tuple[list[Counts], Sample | None]:
    """By image the members' counts; and the sample of all images, or None."""
    places = range(len(rows)) if positions is None else positions
    items = zip(places, rows, folders, strict=True)
    done = pool.map(gathering.sample, items)
    taken = list(tqdm(done, f"sampling {gathering.split}", len(rows), unit="image", disable=None))
    parts = [sample for _, sample in taken if sample is not None]
    return [counts for counts, _ in taken], Sample.concat(parts) if parts else None


def _out_of_fold(context: Context, gathering: Gathering, pool: Pool) -> Sample | None:
    """Pixels of the train images, each seen through networks that were trained without its fold."""
    index = gathering.index
    rows: list[Row] = []
    folders: list[tuple[Path, ...]] = []
    positions: list[int] = []
    for fold in range(context.params.folds.number):
        own = tuple(context.member(member.key, fold).require("predict") for member in gathering.members)
        held_out = files.read_json(own[0] / "rows.json")
        for member, folder in zip(gathering.members, own, strict=True):
            agree(f"{member.key}-fold{fold}", files.read_json(folder / "made.json"), index, ("train",))
            if files.read_json(folder / "rows.json") != held_out:
                raise DataError(f"{folder} holds other images than {own[0]}; run `dvc repro` again")
        images = [index.splits["train"][i] for i in held_out]
        for folder in own:
            refuse_leak(folder, [row.id for row in images], "fit the ensemble")
        rows += images
        folders += [own] * len(images)
        positions += range(len(images))
    return _samples(gathering, pool, rows, folders, positions)[1]


def _write_maps(
    folder: Path, gathering: Gathering, pool: Pool, method: Method, order: Sequence[int], name: str
) -> list[Combined]:
    """Write the maps of a split as they come; what judges the ensemble is kept."""
    rows, kept = gathering.index.splits[gathering.split], []
    kinds = ("labels",) if method.votes else ("labels", "probs")
    items = ((i, row, method, order) for i, row in enumerate(rows))
    with ExitStack() as stack:
        writers = {kind: stack.enter_context(MapWriter(folder / f"{gathering.split}_{kind}")) for kind in kinds}
        done = pool.map(gathering.combine, items)
        for image in tqdm(done, f"{name} {gathering.split}", len(rows), unit="image", disable=None):
            for kind, writer in writers.items():
                writer.add(getattr(image, kind))
            kept.append(replace(image, labels=_WRITTEN, probs=None))
    return kept


def _write_definition(
    folder: Path, definition: dict[str, Any], method: Method, images: Sequence[Combined], order: Sequence[int]
) -> None:
    """What judges the ensemble on test, and what combines new images alike."""
    counts = [image.counts for image in images]
    judged = {name: np.stack([getattr(c, name) for c in counts]) for name in vars(counts[0])}
    files.write_bytes(folder / "members.npz", files.npz_bytes({"order": np.array(order), **judged}))
    definition["pairs"] = Pairs.total([image.pairs for image in images if image.pairs is not None]).shares()
    if method.arrays:
        files.write_bytes(folder / "arrays.npz", files.npz_bytes(method.arrays))
        definition["arrays"] = outputs.digest_file(folder / "arrays.npz")
    files.write_json(folder / "ensemble.json", definition)
