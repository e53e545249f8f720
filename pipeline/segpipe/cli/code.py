"""Command code: what the code of each stage means, for DVC to compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def code() -> None:
    """Write data/code.json, which tells DVC which stages a code change affects."""
    print(f"wrote {write()}")


def write() -> Path:
    """The same without a word; the path of the file."""
    from segpipe.config import code as file

    file.write(_compute)
    return file.FILE


def _compute() -> dict[str, Any]:
    """The digests, once dvc.yaml is known to fit."""
    from segpipe.config import dag, digests
    from segpipe.config import params as parameters
    from segpipe.core.errors import ConfigError

    params = parameters.load()
    dag.check_names(params)
    if not dag.is_fresh(params):
        raise ConfigError("dvc.yaml does not fit params.yaml; run `segpipe dag --write`, then dvc repro")
    return digests.every(params)
