"""Stage import: predictions of another tool, checked and kept as stage predict keeps its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from segpipe.config.context import Context
from segpipe.config.imported import Import
from segpipe.core import files, outputs
from segpipe.core.argmax import label_and_confidence
from segpipe.core.errors import DataError
from segpipe.data.dataset import Index, Row
from segpipe.data.foreign.files import Files, find
from segpipe.data.foreign.values import Meaning, labels_of, probs_of, read_values
from segpipe.data.maps import MapWriter
from segpipe.data.packed import Packed


def run(context: Context) -> dict[str, Any]:
    """Write the labels of each image of val and test at its original size; where there are any, probabilities."""
    section, index = context.params.imports[context.run], Index.read(context.path("prepare"))
    place = context.params.seeds_of(context.run).index(context.seed)
    folder = Path(section.predictions[place]).expanduser()
    splits: dict[str, list[Row]] = {split: index.splits[split] for split in section.splits}
    found = find(folder, splits, index.classes, [r for s in index.splits.keys() - splits for r in index.splits[s]])
    number = {}
    with outputs.folder(context.path("predict"), context.describe("predict")) as out:
        for split, rows in splits.items():
            refuse_missing(folder, split, rows, found)
            _write(context, out, split, index, found)
            number[split] = len(rows)
        ids = [row.id for row in index.splits["train"]]
        files.write_json(out / "train_ids.json", {"sha256": outputs.digest_json(sorted(ids)), "ids": ids})
        files.write_json(out / "made.json", _made(section, index, found))
    return {"path": str(context.path("predict")), "images": number}


def refuse_missing(folder: Path, split: str, rows: list[Row], found: dict[str, Files]) -> None:
    """DataError when images have no prediction."""
    missing = [Path(row.image).name for row in rows if row.id not in found]
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(
            f"{folder} has no prediction for {len(missing)} of {len(rows)} {split} images: {shown}; write all of them"
        )


def meaning_of(section: Import) -> Meaning:
    """What the values say, for the library."""
    ids = {int(number): kind for number, kind in section.ids.items()}
    return Meaning(section.holds, ids, section.shift, section.resize)


def _write(context: Context, out: Path, split: str, index: Index, found: dict[str, Files]) -> None:
    """The maps of a split as they come."""
    rows, section = index.splits[split], context.params.imports[context.run]
    work = partial(_image, index.classes, index.palette, meaning_of(section))
    done: Iterator[Any] = context.pool().map(work, ((row, found[row.id]) for row in rows))
    kinds = ("labels",) if section.holds == "labels" else ("labels", "probs")
    with ExitStack() as stack:
        writers = [stack.enter_context(MapWriter(out / f"{split}_{kind}")) for kind in kinds]
        for maps in tqdm(done, f"{context.key} {split}", len(rows), unit="image", disable=None):
            for writer, packed in zip(writers, maps, strict=False):
                writer.add(packed)


def _image(
    classes: list[str], palette: list[list[int]], meaning: Meaning, row: Row, paths: Files
) -> tuple[Packed, Packed | None]:
    """Labels and probabilities of an image at its original size."""
    where, size = str(paths[0] if paths else row.id), (row.geometry.original_height, row.geometry.original_width)
    values = read_values(paths, size, len(classes), palette)
    if meaning.holds == "labels":
        return Packed.labels(labels_of(values, where, size, len(classes), meaning)), None
    probs = probs_of(values, where, size, len(classes), meaning)
    return Packed.labels(label_and_confidence(probs)[0]), Packed.probs(probs)


def _made(section: Import, index: Index, found: dict[str, Files]) -> dict[str, Any]:
    """What an ensemble checks before it takes the predictions as a member; what they cost, if that is known."""
    digests = {image: [outputs.digest_file(path) for path in paths] for image, paths in found.items()}
    return {
        "classes": index.classes,
        "splits": {split: index.digest(split) for split in index.splits},
        "model": outputs.digest_json(digests),
        "looks": 1,
        "multiply_adds": section.multiply_adds,
    }
