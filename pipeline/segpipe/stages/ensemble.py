"""Stage ensemble: one prediction out of many; fitted on val, or out of fold, and never on what is reported."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import typer

from segpipe.core.errors import DataError
from segpipe.stages import SPLITS, options
from segpipe.stages.context import Context, start
from segpipe.stages.members import Work, agree, collect, combine, look, per_image
from segpipe.stages.probs import refuse_leak

Method = Annotated[str, typer.Option(help="An ensemble of params.yaml.", show_default=False)]


def ensemble(
    method: Method,
    jobs: options.Jobs = None,
    scheduler: options.Scheduler = None,
    settings: options.Set = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Combine the predictions of several members."""
    from threadpoolctl import threadpool_limits

    from segpipe.core.parallel import Pool

    context = start("ensemble", method=method, overrides=settings, dry_run=dry_run, as_json=as_json)
    out, keys = context.path("ensemble"), context.params.members_of(method)
    for key in keys:
        own = context.member(key)
        own.require("crf" if own.refined else "predict")
    if dry_run:
        context.announce(out, *(o.path("crf" if o.refined else "predict") for o in map(context.member, keys)))
        return
    # One thread an image: the bytes do not depend on the number of jobs.
    with context.writing(out), threadpool_limits(1):
        result = write(context, keys, Pool(jobs or context.params.threads, scheduler, partial(threadpool_limits, 1)))
    lines = [f"{out}: {context.params.ensemble[method].method} of {len(keys)} members", *_said(result)]
    context.finish(result, lines, context.command("evaluate"))


def write(context: Context, keys: list[str], pool: Any) -> dict[str, Any]:
    """Write probs (unless it votes) and labels of every image, `ensemble.json` (what it is and what it learned),
    `arrays.npz` (a learner's) and `members.npz` (what judges it: counts of members and of the first 1..M).
    """
    import numpy as np

    from segpipe.core import files
    from segpipe.ensembles import methods
    from segpipe.ensembles.diversity import Pairs
    from segpipe.metrics.counts import Counts
    from segpipe.metrics.scores import summarize

    section = context.params.ensemble[context.method]
    index = files.read_json(context.path("prepare") / "index.json")
    members, rows = collect(context, index, keys), index["splits"]["val"]
    method = methods.create(section.method)
    method.check(len(members))
    for member in members:
        refuse_leak(member.predicted, [row["id"] for row in rows], "choose and fit the ensemble")
    fitted_on = "train" if section.folds else "val"
    number = per_image(method, len(members), len(index["classes"]), len(index["splits"][fitted_on]))
    draws = "none" if section.folds else method.draws
    where = (context.path("download"), index["dataset"], index["labels"])
    work = Work(members, *where, len(index["classes"]), draws, number)
    counted, sample = _looked(work, pool, "val", rows, [tuple(m.folder for m in members)] * len(rows))
    by_member = [Counts.concat([counts[[m]] for counts in counted]) for m in range(len(members))]
    scores = [summarize(counts)["miou_dataset"] or 0.0 for counts in by_member]
    order = tuple(sorted(range(len(members)), key=lambda m: -scores[m]))
    if section.folds:
        sample = _out_of_fold(context, work, pool, method.draws, index)
    try:
        method.fit(sample, by_member)
    except ValueError as error:
        raise DataError(f"ensemble {context.method} cannot be fitted on {fitted_on}: {error}") from None
    with files.folder(context.path("ensemble"), {"config": context.digest("ensemble")}) as folder:
        for split in SPLITS:
            found = _written(context, folder, split, work, pool, method, order, index["splits"][split])
        counts = [image["counts"] for image in found]  # of test, the last split
        judged = {name: np.stack([getattr(c, name) for c in counts]) for name in vars(counts[0])}
        files.write_bytes(folder / "members.npz", _npz({"order": np.array(order), **judged}))
        definition = {
            "method": section.method,
            "classes": index["classes"],
            "fitted_on": "nothing" if method.draws == "none" and not method.learned else fitted_on,
            "pixels": 0 if sample is None else len(sample),
            "members": [{**m.described, "val_miou_dataset": s} for m, s in zip(members, scores, strict=True)],
            "best_member": members[order[0]].key,
            "learned": method.learned,
            "pairs": Pairs.total([image["pairs"] for image in found]).shares(),
        }
        if method.arrays:
            files.write_bytes(folder / "arrays.npz", _npz(method.arrays))
            definition["arrays"] = files.digest_file(folder / "arrays.npz")
        files.write_json(folder / "ensemble.json", definition)
    absent = [index["classes"][k] for k in method.learned.get("absent", [])]
    return {
        "path": str(context.path("ensemble")),
        "method": section.method,
        "members": keys,
        "best_member": members[order[0]].key,
        "learned": method.learned,
        "given": getattr(method, "given", None),
        "absent": absent,
    }


def _looked(
    work: Work,
    pool: Any,
    split: str,
    rows: Sequence[Any],
    folders: Sequence[Any],
    positions: Sequence[int] | None = None,
) -> tuple[list[Any], Any]:
    """By image the members' counts; and the sample of all images, or None."""
    from tqdm import tqdm

    from segpipe.ensembles.samples import Sample

    places = range(len(rows)) if positions is None else positions
    items = ((work, split, i, row, own) for i, row, own in zip(places, rows, folders, strict=True))
    looked = list(tqdm(pool.map(look, items), f"looking at {split}", len(rows), unit="image", disable=None))
    parts = [sample for _, sample in looked if sample is not None]
    return [counts for counts, _ in looked], Sample.concat(parts) if parts else None


def _out_of_fold(context: Context, work: Work, pool: Any, draws: str, index: dict[str, Any]) -> Any:
    """Pixels of the train images, each seen through networks that were trained without its fold."""
    from dataclasses import replace

    from segpipe.core import files

    rows: list[Any] = []
    folders: list[Any] = []
    positions: list[int] = []
    for fold in range(context.params.folds.number):
        own = tuple(context.member(member.key, fold).require("predict") for member in work.members)
        held_out = files.read_json(own[0] / "rows.json")
        for member, folder in zip(work.members, own, strict=True):
            agree(f"{member.key}-fold{fold}", files.read_json(folder / "made.json"), index, ("train",))
            if files.read_json(folder / "rows.json") != held_out:
                raise DataError(f"{folder} holds other images than {own[0]}; run `dvc repro` again")
        images = [index["splits"]["train"][i] for i in held_out]
        for folder in own:
            refuse_leak(folder, [row["id"] for row in images], "fit the ensemble")
        rows += images
        folders += [own] * len(images)
        positions += range(len(images))
    return _looked(replace(work, draws=draws), pool, "train", rows, folders, positions)[1]


def _written(
    context: Context, folder: Any, split: str, work: Work, pool: Any, method: Any, order: tuple[int, ...], rows: Any
) -> list[dict[str, Any]]:
    """Write the maps of a split as they come; what judges the ensemble is kept."""
    from contextlib import ExitStack

    import numpy as np
    from tqdm import tqdm

    from segpipe.data.maps import MapWriter

    kept: list[dict[str, Any]] = []
    kinds = {"labels": np.uint8} if method.votes else {"labels": np.uint8, "probs": np.float16}
    items = ((work, split, i, row, method, order) for i, row in enumerate(rows))
    with ExitStack() as stack:
        writers = {kind: stack.enter_context(MapWriter(folder / f"{split}_{kind}", d)) for kind, d in kinds.items()}
        done = pool.map(combine, items)
        for image in tqdm(done, f"{context.method} {split}", len(rows), unit="image", disable=None):
            for kind, writer in writers.items():
                writer.add(image[kind])
            kept.append({name: image[name] for name in ("counts", "pairs")})
    return kept


def _npz(arrays: dict[str, Any]) -> bytes:
    import io

    import numpy as np

    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _said(result: dict[str, Any]) -> list[str]:
    """What was learned, in words."""
    learned = result["learned"]
    lines = [f"best member on val: {result['best_member']}"]
    weights = learned.get("weights") or result["given"]
    if weights:
        pairs = zip(result["members"], weights, strict=True)
        lines.append("weights: " + ", ".join(f"{key} {weight:.3f}" for key, weight in pairs))
    if result["absent"]:
        lines.append(f"warning: no pixel of {', '.join(result['absent'])} to fit on: never predicted")
    return lines
