"""data/code.json: what the code of each stage means, as stage `code` wrote it and DVC compares it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segpipe.core import files, outputs
from segpipe.core.errors import ConfigError, DataError

FILE = Path("data/code.json")
ROOT = Path(__file__).parents[1]
STAGES = (
    "download",
    "prepare",
    "stats",
    "train",
    "predict",
    "import",
    "crf",
    "ensemble",
    "decide",
    "evaluate",
    "report",
)
_KEPT = Path(".segpipe/code.json")
_READ = ("params.yaml", "dvc.yaml")


def write(compute: Callable[[], dict[str, Any]]) -> None:
    """Write data/code.json; what an earlier call found is kept in .segpipe under a name for all that it follows from,
    so that nothing is parsed twice.
    """
    sources = [*sorted(ROOT.rglob("*.py")), *sorted(ROOT.glob("data/cards/*.toml")), *sorted(Path("cards").glob("*"))]
    read = [path for path in (*map(Path, _READ), *sources) if path.is_file()]
    name = outputs.digest_json([sys.version, [(str(path), outputs.digest_file(path)) for path in read]])
    try:
        kept = outputs.unsealed(files.read_json(_KEPT), _KEPT)
        found = kept["digests"] if kept["name"] == name else None
    except (DataError, KeyError, TypeError):
        found = None
    if found is None:
        found = compute()
        files.write_json(_KEPT, outputs.sealed({"name": name, "digests": found}))
    files.write_json(FILE, found)


def read() -> dict[str, Any]:
    """The digests, some by run or method.

    Raises:
        ConfigError: the file is missing or damaged; the message says how to make it.
    """
    try:
        found = files.read_json(FILE)
    except DataError:
        found = None
    if not isinstance(found, dict) or not set(STAGES) <= found.keys():
        if FILE.exists():
            raise ConfigError(f"{FILE} is damaged; run `dvc repro --force --single-item code`, then dvc repro")
        raise ConfigError(
            f"{FILE} is missing: dvc.yaml is of an older segpipe; run `segpipe dag --write`, then dvc repro"
        )
    return found
