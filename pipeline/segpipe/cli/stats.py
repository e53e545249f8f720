"""Command stats."""

from __future__ import annotations

from segpipe.cli import options


def stats(settings: options.Set = None, dry_run: options.DryRun = False, as_json: options.Json = False) -> None:
    """Count pixels and images per class; derive class weights and normalisation."""
    from segpipe.cli.printing import announce, finish
    from segpipe.config.context import first_run, start
    from segpipe.stages import stats as stage

    context = start(overrides=settings, quiet=as_json)
    source, prepared = context.require("download"), context.require("prepare")
    if dry_run:
        announce(context, context.path("stats"), source, prepared)
        return
    with context.writing(context.path("stats")):
        result = stage.run(context)
    width = max(len(name) for name in result["classes"])
    rows = zip(result["classes"], result["share"], result["images"], result["weights"]["median_frequency"], strict=True)
    lines = [f"{'class':<{width}}  share    images  median-frequency weight"]
    lines += [f"{name:<{width}}  {share:6.2%}  {images:6d}  {weight:.3f}" for name, share, images, weight in rows]
    following = first_run(context)
    finish(context, result, lines, following.command("predict" if following.imported else "train"))
