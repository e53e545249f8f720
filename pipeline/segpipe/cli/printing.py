"""What a command says: a dry run's plan, its result, and the next command."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segpipe.config.context import Context, inside_dvc


def announce(context: Context, writes: Path, *reads: Path) -> None:
    """What a dry run says."""
    if context.quiet:
        print(json.dumps({"reads": [str(path) for path in reads], "writes": str(writes)}))
    else:
        print(f"would read {', '.join(map(str, reads)) or 'nothing'} and write {writes}")


def finish(context: Context, result: Mapping[str, Any], lines: Sequence[str], following: str) -> None:
    """Print the result and the next command."""
    for line in lines:
        context.log(line)
    if not inside_dvc():
        context.log(f"next: {following}")
    if context.quiet:
        print(json.dumps(result, allow_nan=False))


def say(line: str, result: Mapping[str, Any], *, as_json: bool) -> None:
    """A line for people, or the result as JSON."""
    print(json.dumps(result) if as_json else line)
