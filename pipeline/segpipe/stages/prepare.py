"""Stage prepare: every image on the network's grid or at its own size, in one array a split, with the way back."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from segpipe import __version__
from segpipe.config.context import HIDDEN, Context
from segpipe.core import files, outputs
from segpipe.core.errors import DataError
from segpipe.core.parallel import Pool
from segpipe.core.spoken import spoken
from segpipe.core.void import VOID
from segpipe.data import catalog, check
from segpipe.data.catalog import Card, Sample
from segpipe.data.check import Checked
from segpipe.data.dataset import Index, Row, read_left_out, read_samples
from segpipe.data.decode import size_of
from segpipe.data.geometry import Geometry, place_image, place_labels
from segpipe.data.journal import Journal, journal
from segpipe.data.prepared import Ragged, Stack, flush, shape_of

Bytes = NDArray[np.uint8]
Record = tuple[dict[str, Any], dict[str, int] | None, int]  # what was found, where it was placed, checksum
ANNOTATORS = "train_annotators"  # (N, A, H, W), where images have several


def run(context: Context) -> dict[str, Any]:
    """Write `<split>_images.npy`, `<split>_labels.npy`, `index.json` and `check.json`."""
    settings = context.params.prepare
    source, out = context.path("download"), context.path("prepare")
    card = catalog.card(context.params.download.dataset)
    samples = read_samples(source)
    for split in catalog.SPLITS:
        if not any(sample.split == split for sample in samples):
            raise DataError(f"{source} holds no image of split '{split}'; every split needs one")
    key = f"{__version__} {context.digest('prepare')} {os.stat(source / outputs.MARKER).st_mtime_ns}"
    with (
        journal(HIDDEN / "checkpoints" / "prepare", key) as work,
        outputs.folder(out, context.describe("prepare")) as folder,
    ):
        placing = _Placing(context, source, card, work, context.pool())
        splits = {
            split: placing.split(split, [sample for sample in samples if sample.split == split])
            for split in catalog.SPLITS
        }
        findings = [finding for one in placing.checked for finding in one.findings]
        findings += check.together(placing.checked, card)
        check.refuse(findings)
        for split in catalog.SPLITS:
            work.take(f"{split}_images", folder)
            work.take(f"{split}_labels", folder)
        if max(len(sample.labels) for sample in samples if sample.split == "train") > 1:
            work.take(ANNOTATORS, folder)
        report = check.report(findings, read_left_out(source))
        index = Index(
            card.name, card.classes, card.palette, settings.labels, settings.normalization, settings.height,
            settings.width, card.reading, splits,
        )  # fmt: skip
        index.write(folder)
        files.write_json(folder / "check.json", report)
    return {
        "path": str(out),
        "images": len(samples),
        "size": list(settings.grid or ()) or "native",
        "warnings": [row["what"] for row in report["warnings"]] + _padding(splits, settings.max_padding),
    }


@dataclass
class _Placing:
    """The work on all images; `checked` grows image by image."""

    context: Context
    source: Path
    card: Card
    work: Journal
    pool: Pool
    checked: list[Checked] = field(default_factory=list)

    def split(self, split: str, samples: Sequence[Sample]) -> list[Row]:
        """The arrays of a split, filled in place on disk, and its rows. What a killed process did is taken over."""
        settings, number = self.context.params.prepare, len(samples)
        raters = max(len(sample.labels) for sample in samples)
        arrays, records = self._arrays(split, samples, raters)
        try:
            known = zip(samples, records, strict=False)
            done = [_restored(sample, record, arrays, k) for k, (sample, record) in enumerate(known)]
        except (ValueError, TypeError, KeyError):
            self.context.log(f"{split}: the progress of an earlier run is damaged; starting anew")
            self.work.forget(split)
            done = []
        if done:
            self.context.log(f"{split}: {len(done)} of {number} images were done before; going on")
        items = ((self.source, sample, self.card, settings.labels, settings.grid) for sample in samples[len(done) :])
        placed = self.pool.map(place, items)
        bar = tqdm(placed, split, number, initial=len(done), unit="image", disable=None)
        with self.work.appending(split) as append:
            for position, (one, geometry, *maps) in enumerate(bar, len(done)):
                if geometry is not None:
                    _put(arrays, position, *maps)
                placed_at = None if geometry is None else geometry.as_dict()
                append([one.record(), placed_at, _checksum(*(array[position] for array in arrays))])
                done.append((one, geometry))
        for array in arrays:
            flush(array)
        self.checked += [one for one, _ in done]
        return [Row.of(sample, geometry) for sample, (_, geometry) in zip(samples, done, strict=True) if geometry]

    def _arrays(self, split: str, samples: Sequence[Sample], raters: int) -> tuple[list[Stack], list[Record]]:
        """What the images of a split are put into, and the records of those that an earlier run put there."""
        grid, kinds = self.context.params.prepare.grid, ["images", "labels"]
        kinds += ["annotators"] if split == "train" and raters > 1 else []
        if grid is not None:
            of_grid = {f"{split}_{kind}": (len(samples), *shape_of(kind, grid, raters)) for kind in kinds}
            return self.work.resume(split, of_grid)
        sizes = [size_of(self.source / sample.image, self.card.reading.page) for sample in samples]
        shapes = {f"{split}_{kind}": [shape_of(kind, size, raters) for size in sizes] for kind in kinds}
        flat: dict[str, tuple[int, ...]] = {name: (sum(map(math.prod, each)),) for name, each in shapes.items()}
        arrays, records = self.work.resume(split, flat)
        return [Ragged(array, each) for array, each in zip(arrays, shapes.values(), strict=True)], records


def _restored(
    sample: Sample, record: Record, arrays: Sequence[Stack], position: int
) -> tuple[Checked, Geometry | None]:  # fmt: skip
    """A sample that was done before; ValueError, TypeError or KeyError when the journal says what is not so."""
    checked, geometry, checksum = record
    if checksum != _checksum(*(array[position] for array in arrays)):
        raise ValueError("the arrays hold something else")
    return Checked.restored(sample, checked), None if geometry is None else Geometry(**geometry)


def _put(arrays: Sequence[Stack], position: int, image: Bytes, labels: Bytes, annotators: Sequence[Bytes]) -> None:
    """An image's maps in their arrays; an annotator that is missing is void."""
    arrays[0][position], arrays[1][position] = image, labels
    for array in arrays[2:]:
        array[position][...] = VOID
        for rater, ids in enumerate(annotators):
            array[position][rater] = ids


def _checksum(*arrays: Bytes) -> int:
    """Of what an image became: after a power cut the journal may know more than the arrays."""
    found = 0
    for array in arrays:
        found = zlib.crc32(array.data, found)
    return found


def place(
    source: Path, sample: Sample, card: Card, labels_of: str, grid: tuple[int, int] | None
) -> tuple[Checked, Geometry | None, Bytes | None, Bytes | None, list[Bytes]]:
    """One image: what its check found, without its pixels; its geometry; image, labels and, where there are several,
    those of every annotator on the grid.
    """
    one = check.check_image(source, sample, card, labels_of)
    seen = replace(one, image=None, labels=None, annotators=())
    if one.image is None or one.labels is None:
        return seen, None, None, None, []
    geometry = Geometry.fit((one.labels.shape[0], one.labels.shape[1]), grid)
    raters = [place_labels(ids, geometry) for ids in one.annotators] if len(one.annotators) > 1 else []
    return seen, geometry, place_image(one.image, geometry), place_labels(one.labels, geometry), raters


def _padding(splits: dict[str, list[Row]], limit: float) -> list[str]:
    """A warning when much of the grid is padding."""
    shares = [row.geometry.padding_share for rows in splits.values() for row in rows]
    mean = sum(shares) / len(shares)
    if mean <= limit:
        return []
    return [
        spoken(f"padding takes {mean:.0%} of the grid; choose prepare.height and width nearer to the images' aspect")
    ]
