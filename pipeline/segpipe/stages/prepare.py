"""Stage prepare: every image on the network's grid, in one array a split, with the way back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from segpipe.stages import options
from segpipe.stages.context import HIDDEN, Context, start
from segpipe.stages.samples import read_left_out, read_samples

if TYPE_CHECKING:
    from segpipe.stages.progress import Progress


def prepare(
    jobs: options.Jobs = None,
    settings: options.Set = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Resize and pad images and labels into arrays; check every file on the way."""
    context = start("prepare", overrides=settings, dry_run=dry_run, as_json=as_json)
    source = context.require("download")
    if dry_run:
        context.announce(context.path("prepare"), source)
        return
    with context.writing(context.path("prepare")):
        result = run(context, jobs)
    lines = [f"{result['path']}: {result['images']} images of {result['size'][0]} x {result['size'][1]}"]
    context.finish(result, lines + [f"warning: {w}" for w in result["warnings"]], context.command("stats"))


def run(context: Context, jobs: int | None = None) -> dict[str, Any]:
    """Write `<split>_images.npy`, `<split>_labels.npy`, `index.json` and `check.json`."""
    import os

    from segpipe import __version__
    from segpipe.core import files
    from segpipe.core.errors import DataError
    from segpipe.core.parallel import Pool
    from segpipe.data import catalog, check
    from segpipe.stages.progress import progress

    settings = context.params.prepare
    source, out = context.path("download"), context.path("prepare")
    card = catalog.card(context.params.download.dataset)
    samples = read_samples(source)
    for split in catalog.SPLITS:
        if not any(sample.split == split for sample in samples):
            raise DataError(f"{source} holds no image of split '{split}'; every split needs one")
    seen: list[Any] = []
    pool = Pool(jobs or context.params.threads)
    key = f"{__version__} {context.digest('prepare')} {os.stat(source / files.MARKER).st_mtime_ns}"
    with (
        progress(HIDDEN / "checkpoints" / "prepare", key) as work,
        files.folder(out, {"config": context.digest("prepare")}) as folder,
    ):
        splits = {}
        for split in catalog.SPLITS:
            chosen = [sample for sample in samples if sample.split == split]
            splits[split] = _write_split(context, work, chosen, source, card, seen, pool)
        findings = [finding for one in seen for finding in one.findings] + check.together(seen, card)
        check.refuse(findings)
        for split in catalog.SPLITS:
            work.take(f"{split}_images", folder)
            work.take(f"{split}_labels", folder)
        _write_annotators(folder, [s for s in samples if s.split == "train"], source, card, splits["train"])
        report = check.report(findings, read_left_out(source))
        warnings = [row["what"] for row in report["warnings"]] + _padding(splits, settings.max_padding)
        index = {
            "dataset": card.name,
            "classes": card.classes,
            "palette": card.palette,
            "labels": settings.labels,
            "normalization": settings.normalization,
            "height": settings.height,
            "width": settings.width,
            "splits": splits,
        }
        files.write_json(folder / "index.json", index)
        files.write_json(folder / "check.json", report)
    return {
        "path": str(out),
        "images": len(samples),
        "size": [settings.height, settings.width],
        "warnings": warnings,
    }


def _write_split(
    context: Context, work: Progress, samples: list[Any], source: Path, card: Any, seen: list[Any], pool: Any
) -> list[dict[str, Any]]:
    """The two arrays of a split, filled in place on disk, and its part of the index; `seen` grows.

    Images that a killed process had done are taken over.
    """
    from tqdm import tqdm

    from segpipe.core.errors import DataError

    settings, split = context.params.prepare, samples[0].split
    grid = (settings.height, settings.width)
    shapes = {f"{split}_images": (len(samples), *grid, 3), f"{split}_labels": (len(samples), *grid)}
    (images, labels), records = work.resume(split, shapes)
    if any(_sum(images[k], labels[k]) != found for k, (_, _, found) in enumerate(records)):
        raise DataError(f"what an earlier `segpipe prepare` left in {work.folder} is damaged; run it again")
    done = [(one, geometry) for one, geometry, _ in records]
    if done:
        context.log(f"{split}: {len(done)} of {len(samples)} images were done before; going on")
    items = ((source, sample, card, settings.labels, grid) for sample in samples[len(done) :])
    bar = tqdm(pool.map(place, items), split, len(samples), initial=len(done), unit="image", disable=None)
    with work.journal(split) as note:
        for position, (one, geometry, image, ids) in enumerate(bar, len(done)):
            if geometry is not None:
                images[position], labels[position] = image, ids
            note((one, geometry, _sum(images[position], labels[position])))
            done.append((one, geometry))
    images.flush()
    labels.flush()
    seen += [one for one, _ in done]
    return [
        {
            "id": sample.id,
            "group": sample.group,
            "image": sample.image,
            "labels": list(sample.labels),
            "geometry": geometry.as_dict(),
        }
        for sample, (_, geometry) in zip(samples, done, strict=True)
        if geometry is not None
    ]


def _sum(image: Any, labels: Any) -> int:
    """A checksum of what an image became: after a power cut the journal may know more than the arrays."""
    import zlib

    return zlib.crc32(labels.data, zlib.crc32(image.data))


def place(source: Path, sample: Any, card: Any, choice: str, grid: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """One image: what was seen of it, without its pixels, its geometry, and image and labels on the grid."""
    from dataclasses import replace

    from segpipe.data.check import look
    from segpipe.data.geometry import Geometry, place_image, place_labels

    seen = look(source, sample, card, choice)
    if seen.image is None or seen.labels is None:
        return replace(seen, image=None, labels=None), None, None, None
    geometry = Geometry.fit(seen.labels.shape, grid)
    image, labels = place_image(seen.image, geometry), place_labels(seen.labels, geometry)
    return replace(seen, image=None, labels=None), geometry, image, labels


def _write_annotators(folder: Path, samples: list[Any], source: Path, card: Any, rows: list[dict[str, Any]]) -> None:
    """`train_annotators.npy` (N, A, H, W), where images have several; an annotator that is missing is void."""
    from segpipe.data import catalog
    from segpipe.data.geometry import Geometry, place_labels
    from segpipe.stages.progress import new_array

    number = max(len(sample.labels) for sample in samples)
    if number == 1:
        return
    grid = (rows[0]["geometry"]["padded_height"], rows[0]["geometry"]["padded_width"])
    maps = new_array(folder / "train_annotators.npy", (len(samples), number, *grid))
    maps[:] = 255
    for position, (sample, row) in enumerate(zip(samples, rows, strict=True)):
        for rater, ids in enumerate(catalog.read_annotators(source, sample, card)):
            maps[position, rater] = place_labels(ids, Geometry(**row["geometry"]))
    maps.flush()


def _padding(splits: dict[str, list[dict[str, Any]]], limit: float) -> list[str]:
    """A warning when much of the grid is padding."""
    from segpipe.data.geometry import Geometry

    shares = [Geometry(**row["geometry"]).padding_share for rows in splits.values() for row in rows]
    mean = sum(shares) / len(shares)
    if mean <= limit:
        return []
    return [f"padding takes {mean:.0%} of the grid; choose prepare.height and width nearer to the images' aspect"]
