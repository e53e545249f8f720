"""How long trainings took here: kept outside of the outputs, whose bytes must not depend on it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

from segpipe.config.context import HIDDEN
from segpipe.core import files

_FOLDER = HIDDEN / "minutes"


def note(key: str, minutes: float) -> None:
    """Remember what the training of `run-seed` took."""
    files.write_text(_FOLDER / f"{key}.txt", f"{minutes:.3f}\n")


def of_runs(runs: Iterable[str]) -> dict[str, float]:
    """The median over the seeds of each run that was trained here."""
    found = {}
    for run in runs:
        known = [value for path in _FOLDER.glob(f"{run}-*.txt") if (value := _read(path, run)) is not None]
        if known:
            found[run] = statistics.median(known)
    return found


def _read(path: Path, run: str) -> float | None:
    """The minutes in a file; None of another run or of what is no number."""
    if not path.stem.removeprefix(f"{run}-").isdigit():
        return None
    try:
        return float(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
