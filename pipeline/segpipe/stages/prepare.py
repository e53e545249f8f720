"""Stage prepare: every image on the network's grid, in one array a split, with the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpipe.stages import options
from segpipe.stages.context import Context, start
from segpipe.stages.samples import read_samples


def prepare(settings: options.Set = None, dry_run: options.DryRun = False, as_json: options.Json = False) -> None:
    """Resize and pad images and labels into arrays; check every file on the way."""
    context = start("prepare", overrides=settings, dry_run=dry_run, as_json=as_json)
    source = context.require("download")
    if dry_run:
        context.announce(context.path("prepare"), source)
        return
    with context.writing(context.path("prepare")):
        result = run(context)
    lines = [f"{result['path']}: {result['images']} images of {result['size'][0]} x {result['size'][1]}"]
    context.finish(result, lines + [f"warning: {w}" for w in result["warnings"]], context.command("stats"))


def run(context: Context) -> dict[str, Any]:
    """Write `<split>_images.npy`, `<split>_labels.npy`, `index.json` and `check.json`."""
    from segpipe.core import files
    from segpipe.core.errors import DataError
    from segpipe.data import catalog

    settings = context.params.prepare
    source, out = context.path("download"), context.path("prepare")
    card = catalog.card(context.params.download.dataset)
    samples = read_samples(source)
    shares: list[float] = []
    with files.folder(out, {"config": context.digest("prepare")}) as folder:
        splits = {}
        for split in catalog.SPLITS:
            chosen = [sample for sample in samples if sample.split == split]
            if not chosen:
                raise DataError(f"{source} holds no image of split '{split}'; every split needs one")
            splits[split] = _write_split(context, folder, split, chosen, source, card, shares)
        warnings = _warnings(shares, settings.max_padding, splits)
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
        files.write_json(folder / "check.json", {"errors": [], "warnings": warnings})
    return {
        "path": str(out),
        "images": len(samples),
        "size": [settings.height, settings.width],
        "warnings": warnings,
    }


def _write_split(
    context: Context, folder: Path, split: str, samples: list[Any], source: Path, card: Any, shares: list[float]
) -> list[dict[str, Any]]:
    """The two arrays of a split, filled in place on disk, and its part of the index."""
    import numpy as np
    from tqdm import tqdm

    from segpipe.core.errors import DataError
    from segpipe.data import catalog
    from segpipe.data.files import read_image
    from segpipe.data.geometry import Geometry, place_image, place_labels

    settings = context.params.prepare
    grid = (settings.height, settings.width)
    open_array = np.lib.format.open_memmap
    images = open_array(folder / f"{split}_images.npy", "w+", np.uint8, (len(samples), *grid, 3))
    labels = open_array(folder / f"{split}_labels.npy", "w+", np.uint8, (len(samples), *grid))
    rows = []
    for position, sample in enumerate(tqdm(samples, split, unit="image", disable=None)):
        image = read_image(source / sample.image)
        ids = catalog.read_labels(source, sample, card, settings.labels)
        if image.shape[:2] != ids.shape:
            raise DataError(
                f"{source / sample.image} is {image.shape[0]} x {image.shape[1]}, but its mask is "
                f"{ids.shape[0]} x {ids.shape[1]}; they must match pixel by pixel"
            )
        geometry = Geometry.fit(ids.shape, grid)
        images[position], labels[position] = place_image(image, geometry), place_labels(ids, geometry)
        shares.append(geometry.padding_share)
        rows.append(
            {
                "id": sample.id,
                "group": sample.group,
                "image": sample.image,
                "labels": list(sample.labels),
                "geometry": geometry.as_dict(),
            }
        )
    images.flush()
    labels.flush()
    if split == "train":
        _write_annotators(folder, samples, source, card, rows)
    return rows


def _write_annotators(folder: Path, samples: list[Any], source: Path, card: Any, rows: list[dict[str, Any]]) -> None:
    """`train_annotators.npy` (N, A, H, W), where images have several; an annotator that is missing is void."""
    import numpy as np

    from segpipe.data import catalog
    from segpipe.data.geometry import Geometry, place_labels

    number = max(len(sample.labels) for sample in samples)
    if number == 1:
        return
    grid = (rows[0]["geometry"]["padded_height"], rows[0]["geometry"]["padded_width"])
    shape = (len(samples), number, *grid)
    maps = np.lib.format.open_memmap(folder / "train_annotators.npy", "w+", np.uint8, shape)
    maps[:] = 255
    for position, (sample, row) in enumerate(zip(samples, rows, strict=True)):
        for rater, ids in enumerate(catalog.read_annotators(source, sample, card)):
            maps[position, rater] = place_labels(ids, Geometry(**row["geometry"]))
    maps.flush()


def _warnings(shares: list[float], limit: float, splits: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What does not stop the work but should be known."""
    found = []
    mean = sum(shares) / len(shares)
    if mean > limit:
        found.append(
            f"padding takes {mean:.0%} of the grid; choose prepare.height and width nearer to the images' aspect"
        )
    groups = {split: {row["group"] for row in rows} for split, rows in splits.items()}
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = sorted(groups[first] & groups[second])
        if shared:
            found.append(f"{first} and {second} share groups {', '.join(shared[:3])}: scores may flatter")
    return found
