"""Stage download: the files of a dataset, from its generator or from a folder, and their list."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tqdm import tqdm

from segpipe.config.context import HIDDEN, Context
from segpipe.core import files, outputs
from segpipe.core.errors import DataError
from segpipe.data import catalog, scenes
from segpipe.data.card import GENERATED
from segpipe.data.catalog import Card, Sample
from segpipe.data.files import png_bytes
from segpipe.data.obtain import obtained


def run(context: Context) -> dict[str, Any]:
    """Write the dataset's folder: its files and `samples.json`."""
    settings, out = context.params.download, context.path("download")
    card = catalog.card(settings.dataset)
    with outputs.folder(out, context.describe("download")) as folder:
        generated = card.layout == GENERATED
        samples = _generate(card, folder, settings.limit) if generated else _copy(context, card, folder)
        files.write_json(folder / "samples.json", [vars(sample) for sample in samples])
    images = {split: sum(s.split == split for s in samples) for split in catalog.SPLITS}
    return {"path": str(out), "images": images}


def _generate(card: Card, folder: Path, limit: int | None) -> list[Sample]:
    """Render the scenes; the planted label errors go to truth.json, which no stage reads."""
    palette = [tuple(color) for color in card.palette] + [(0, 0, 0)] * (256 - len(card.palette))
    samples, truth = [], {}
    for split in scenes.SIZES:
        total = scenes.SIZES[split] if limit is None else min(limit, scenes.SIZES[split])
        for item in tqdm(scenes.generate(split, limit), split, total, unit="image", disable=None):
            image = f"images/{item.id}.png"
            files.write_bytes(folder / image, png_bytes(item.image))
            labels = tuple(f"annotator_{k}/{item.id}.png" for k in range(1, 1 + len(item.annotators)))
            for path, ids in zip(labels, item.annotators, strict=True):
                files.write_bytes(folder / path, png_bytes(ids, palette))
            samples.append(Sample(item.id, split, item.group, image, labels))
            if item.planted:
                truth[item.id] = item.planted
    files.write_text(folder / "truth.json", json.dumps(truth, indent=1) + "\n")
    return samples


def _copy(context: Context, card: Card, folder: Path) -> list[Sample]:
    """Take or draw the files of the samples; a folder of the user's is never written."""
    settings = context.params.download
    given = Path(settings.source).expanduser() if settings.source is not None else None
    store = HIDDEN / "downloads" / card.name
    with obtained(card, given, store, log=context.log) as (root, ours):
        found = catalog.found_in(card, root)
        found.refuse_missing(root)
        samples = found.samples
        for split, wanted in card.images.items():
            number = sum(sample.split == split for sample in samples)
            if number != wanted:
                context.log(f"warning: {split} holds {number} images, {card.name} is known to have {wanted}")
        if found.left_out:
            path, why = next(iter(found.left_out.items()))
            context.log(
                f"warning: {len(found.left_out)} files are left out, such as {path}: {why}; see `segpipe check`"
            )
        files.write_json(folder / "left_out.json", found.left_out)
        samples = catalog.thin(samples, settings.limit)
        for sample in tqdm(samples, "copy" if found.write is None else "convert", unit="image", disable=None):
            if found.write is not None:
                found.write(sample, folder)
            else:
                _take(sample, root, folder, move=ours)
    return samples


def _take(sample: Sample, root: Path, folder: Path, *, move: bool) -> None:
    """The files of a sample as they are."""
    take = shutil.move if move else shutil.copyfile
    for path in (sample.image, *sample.labels):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            take(root / path, folder / path)
        except OSError as error:
            raise DataError(f"{root / path} cannot be copied: {error.strerror}") from None
