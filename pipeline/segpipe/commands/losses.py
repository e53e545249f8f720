"""Command losses: what losses there are and what their options mean."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from segpipe.stages import options

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
