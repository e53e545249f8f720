"""How long trainings took here: kept outside of the outputs, whose bytes must not depend on it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

from segpipe.config.context import HIDDEN
from segpipe.core import files

_FOLDER = HIDDEN / "minutes"


def note(key: str, digest: str, minutes: float) -> None:
    """Remember what the training of `run-seed` took; of the same parameters the longest, for some went on where they
    had been stopped.
    """
    path = _FOLDER / f"{key}.txt"
    known = _read(path)
    longest = max(minutes, known[1]) if known is not None and known[0] == digest else minutes
    files.write_text(path, f"{digest} {longest:.3f}\n")


def of_runs(runs: Iterable[str]) -> dict[str, float]:
    """The median over the seeds of each run that was trained here."""
    found = {}
    for run in runs:
        paths = (path for path in _FOLDER.glob(f"{run}-*.txt") if path.stem.removeprefix(f"{run}-").isdigit())
        known = [read[1] for path in paths if (read := _read(path)) is not None]
        if known:
            found[run] = statistics.median(known)
    return found


def _read(path: Path) -> tuple[str, float] | None:
    """Digest and minutes in a file; None where there is none or it says something else."""
    try:
        digest, minutes = path.read_text(encoding="utf-8").split()
        return digest, float(minutes)
    except (OSError, ValueError):
        return None
