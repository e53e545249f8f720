"""Command prepare."""

from __future__ import annotations

from segpipe.cli import options


def prepare(
    jobs: options.Jobs = None,
    settings: options.Set = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Resize and pad images and labels into arrays; check every file on the way."""
    from segpipe.cli.printing import announce, finish
    from segpipe.config.context import start
    from segpipe.stages import prepare as stage

    context = start(overrides=settings, jobs=jobs, quiet=as_json)
    source = context.require("download")
    if dry_run:
        announce(context, context.path("prepare"), source)
        return
    with context.writing(context.path("prepare")):
        result = stage.run(context)
    lines = [f"{result['path']}: {result['images']} images of {result['size'][0]} x {result['size'][1]}"]
    finish(context, result, lines + [f"warning: {w}" for w in result["warnings"]], context.command("stats"))
