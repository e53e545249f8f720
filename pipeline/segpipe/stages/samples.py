"""Reading what stage download wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_samples(folder: Path) -> list[Any]:
    """The samples of a downloaded dataset."""
    from segpipe.core.files import read_json
    from segpipe.data.catalog import Sample

    return [Sample(**{**row, "labels": tuple(row["labels"])}) for row in read_json(folder / "samples.json")]


def read_left_out(folder: Path) -> dict[str, str]:
    """The files of a dataset that are part of no sample, with the reason."""
    from segpipe.core.files import read_json

    path = folder / "left_out.json"
    return dict(read_json(path)) if path.is_file() else {}


def sample_of(row: dict[str, Any], split: str) -> Any:
    """The sample of a row of the index."""
    from segpipe.data.catalog import Sample

    return Sample(row["id"], split, row["group"], row["image"], tuple(row["labels"]))


def read_target(root: Path, dataset: str, labels: str, row: dict[str, Any], split: str) -> Any:
    """The label map (H, W) of a row of the index at its original size; labels: which annotator's."""
    from segpipe.data import catalog

    return catalog.read_labels(root, sample_of(row, split), catalog.card(dataset), labels)
