"""Reading the list that stage download wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_samples(folder: Path) -> list[Any]:
    """The samples of a downloaded dataset."""
    from segpipe.core.files import read_json
    from segpipe.data.catalog import Sample

    return [Sample(**{**row, "labels": tuple(row["labels"])}) for row in read_json(folder / "samples.json")]
