"""Command download."""

from __future__ import annotations

from segpipe.cli import options


def download(settings: options.Set = None, dry_run: options.DryRun = False, as_json: options.Json = False) -> None:
    """Get the dataset named in params.yaml into data/download."""
    from segpipe.cli.printing import announce, finish
    from segpipe.config.context import start
    from segpipe.stages import download as stage

    context = start(overrides=settings, quiet=as_json)
    if dry_run:
        announce(context, context.path("download"))
        return
    with context.writing(context.path("download")):
        result = stage.run(context)
    counts = ", ".join(f"{number} {split}" for split, number in result["images"].items())
    finish(context, result, [f"{result['path']}: {counts} images"], context.command("prepare"))
