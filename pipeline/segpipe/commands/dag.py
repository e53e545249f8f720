"""Command dag: keep dvc.yaml in step with params.yaml."""

from __future__ import annotations

from typing import Annotated

import typer

from segpipe.core.errors import ConfigError


def dag(
    write: Annotated[
        bool, typer.Option("--write", help="Write dvc.yaml (and .segpipe/code.json outside a clone).")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 2 when dvc.yaml is out of date.")] = False,
) -> None:
    """Write or check dvc.yaml, whose fan-in lists every run by name."""
    from segpipe import dag as generator
    from segpipe import params as parameters
    from segpipe.core import files

    params = parameters.load()
    generator.check_names(params)
    old = generator.FILE.read_text(encoding="utf-8") if generator.FILE.is_file() else ""
    new = generator.text(params, old)
    workspace = not generator.in_repository()
    code_is_old = workspace and (
        not generator.CODE.is_file() or generator.CODE.read_text(encoding="utf-8") != generator.code_text()
    )
    if check:
        if old != new or code_is_old:
            what = generator.FILE if old != new else generator.CODE
            raise ConfigError(f"{what} does not fit params.yaml and the installed segpipe; run `segpipe dag --write`")
        print(f"{generator.FILE} is up to date: {len(params.all_keys())} trainings")
    elif write:
        files.write_text(generator.FILE, new)
        if workspace:
            files.write_text(generator.CODE, generator.code_text())
        print(f"wrote {generator.FILE}: {len(params.all_keys())} trainings")
        print("next: dvc repro")
    else:
        print(new, end="")
