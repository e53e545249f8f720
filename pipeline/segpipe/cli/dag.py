"""Command dag: keep dvc.yaml in step with params.yaml."""

from __future__ import annotations

from typing import Annotated

import typer

from segpipe.core.errors import ConfigError


def dag(
    write: Annotated[bool, typer.Option("--write", help="Write dvc.yaml.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 2 when dvc.yaml is out of date.")] = False,
) -> None:
    """Write or check dvc.yaml, whose fan-in lists every run by name."""
    from segpipe.config import dag as generator
    from segpipe.config import digests
    from segpipe.config import params as parameters
    from segpipe.core import files

    params = parameters.load()
    generator.check_names(params)
    old = generator.FILE.read_text(encoding="utf-8") if generator.FILE.is_file() else ""
    new = generator.text(params, old)
    if check:
        if old != new:
            raise ConfigError(
                f"{generator.FILE} does not fit params.yaml and the installed segpipe; run `segpipe dag --write`"
            )
        if changed := digests.changed(params):
            shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
            print(f"code or parameters changed since the last `dvc repro`: {shown}; run `dvc repro`")
        print(f"{generator.FILE} is up to date: {len(params.all_keys())} trainings")
    elif write:
        files.write_text(generator.FILE, new)
        print(f"wrote {generator.FILE}: {len(params.all_keys())} trainings")
        print("next: dvc repro")
    else:
        print(new, end="")
