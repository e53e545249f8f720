"""Command losses: what losses there are and what their options mean."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from segpipe.cli import options

app = typer.Typer(help="The losses and their options.", no_args_is_help=True)


@app.command("list")
def list_losses(as_json: options.Json = False) -> None:
    """All losses with a one-line meaning."""
    from segpipe.core import registry
    from segpipe.losses.compound import PACKAGE

    entries = registry.entries(PACKAGE)
    if as_json:
        print(json.dumps({name: {"options": e.options, "source": e.source} for name, e in entries.items()}))
        return
    width = max(map(len, entries))
    for name, entry in entries.items():
        print(f"{name:<{width}}  {entry.summary}")


@app.command("show")
def show_loss(name: Annotated[str, typer.Argument(help="A loss, e.g. focal.")]) -> None:
    """One loss: options with defaults, meaning, source."""
    import inspect

    from segpipe.core import registry
    from segpipe.losses.compound import PACKAGE

    entry = registry.find(PACKAGE, "loss", name)
    shown = ", ".join(f"{key}={value!r}" for key, value in entry.options.items())
    print(f"{name}({shown})\n\n{inspect.getdoc(entry.load())}\n\nsource: {entry.source}")


@app.command("check")
def check_losses(
    loss: Annotated[
        str | None,
        typer.Argument(
            help="A loss, a compound, or path/to/own_loss.py:function (the file is executed); default: all.",
            show_default=False,
        ),
    ] = None,
    slow: Annotated[bool, typer.Option("--slow", help="Also torch.compile and two processes.")] = False,
    as_json: options.Json = False,
) -> None:
    """Run what every loss promises over one loss or all; exit 1 when something fails.

    A function of your own takes (logits, target) and returns a scalar; 255 is void. The file is executed like any
    Python program: check only files that you trust.
    """
    from tqdm import tqdm

    from segpipe.core import registry
    from segpipe.core.errors import SegpipeError
    from segpipe.losses import contract
    from segpipe.losses.compound import PACKAGE

    names = [loss] if loss is not None else list(registry.entries(PACKAGE))
    subjects = [contract.subject_of(name) for name in names]
    promises = {**contract.PROMISES, **(contract.SLOW if slow else {})}
    found = {s.name: list(contract.check_loss(s, promises)) for s in tqdm(subjects, desc="losses", disable=None)}
    if as_json:
        print(json.dumps({name: [vars(finding) for finding in rows] for name, rows in found.items()}))
    elif loss is not None:
        _print_one(found[loss])
    else:
        _print_all(found)
    failed = sum(finding.verdict == "fails" for rows in found.values() for finding in rows)
    if failed:
        raise SegpipeError(f"{failed} of {len(found) * len(promises)} promises fail; see the table above")


def _print_one(rows: list[Any]) -> None:
    """A promise a line."""
    width = max(len(row.promise) for row in rows)
    for row in rows:
        print(f"{row.promise:<{width}}  {row.verdict:<5}  {row.detail}".rstrip())


def _print_all(found: dict[str, list[Any]]) -> None:
    """A loss a line, a promise a column; then what the columns are, and what failed."""
    first, *_ = found.values()
    width = max(map(len, found))
    signs = {"holds": "yes", "fails": "NO", "-": "-"}
    print(" " * width + "".join(f"{number:>4}" for number in range(1, len(first) + 1)))
    for name, rows in found.items():
        print(f"{name:<{width}}" + "".join(f"{signs[row.verdict]:>4}" for row in rows))
    print()
    for number, row in enumerate(first, 1):
        print(f"{number:>2}  {row.promise}")
    for name, rows in found.items():
        for row in rows:
            if row.verdict == "fails":
                print(f"{name}: {row.promise}: {row.detail}")
