"""Command verify: does a repro give the numbers that are committed?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segpipe.cli import options
from segpipe.core.errors import ConfigError, DataError, SegpipeError

ENVIRONMENT = Path("results/environment.json")  # in git, but no output of DVC


def verify(
    against: Annotated[
        Path | None,
        typer.Option(help="A results folder to compare with; default: the one of git's HEAD.", show_default=False),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write down which machine made results/, to be committed with them.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Compare results/ with the committed ones: bytes on the same kind of machine, a test of the scores elsewhere.

    On any machine, also recompute the committed tables from the committed counts of each image.
    """
    import json
    import tempfile

    from segpipe.config import params as parameters
    from segpipe.core import files
    from segpipe.report import agreement, derived

    if record:
        files.write_json(ENVIRONMENT, agreement.environment(parameters.load().threads))
        print(f"wrote {ENVIRONMENT}; commit it with results/")
        return
    if not Path("results").is_dir():
        raise DataError("results/ is missing; run `dvc repro` first")
    with tempfile.TemporaryDirectory() as scratch:
        reference = against or _committed(Path(scratch))
        if not reference.is_dir():
            raise ConfigError(f"{reference} is not a folder of results")
        found = agreement.compare(Path("results"), reference, parameters.load().threads)
        if against is None:
            found["derived"] = derived.differences(reference.parent)
            found["agrees"] = found["agrees"] and not found["derived"]
    if as_json:
        print(json.dumps(found))
    else:
        _print(found)
    if not found["agrees"]:
        raise SegpipeError(f"results/ do not agree with {against or 'the committed ones'}; see the list above")


def _committed(scratch: Path) -> Path:
    """results/ of git's HEAD, extracted."""
    import io
    import subprocess
    import tarfile

    wanted = ["results", "params.yaml", *(["cards"] if Path("cards").is_dir() else [])]
    call = subprocess.run(["git", "archive", "HEAD", *wanted], capture_output=True, check=False)
    if call.returncode:
        raise ConfigError(f"git holds no committed results/ here ({call.stderr.decode().strip()}); use --against DIR")
    with tarfile.open(fileobj=io.BytesIO(call.stdout)) as archive:
        archive.extractall(scratch, filter="data")
    return scratch / "results"


def _print(found: dict[str, Any]) -> None:
    kind = (
        "the same kind of machine: bytes must agree"
        if found["same_machine"]
        else "another kind of machine: scores may differ as much as those of two seeds"
    )
    print(f"{found['files']} {found['unit']}, made on {kind}")
    for line in found["differences"]:
        print(f"  {line}")
    for line in found.get("derived", ()):
        print(f"  committed: {line}")
    if found["noticed"]:
        sizes = ", ".join(f"{name} {size:.3f}" for name, size in found["noticed"].items())
        print(f"  the smallest error of one score that this finds in 19 of 20 cases: {sizes}")
    print("agrees" if found["agrees"] else "does not agree")
