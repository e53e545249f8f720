"""Command predict."""

from __future__ import annotations

from segpipe.cli import options
from segpipe.core.errors import ConfigError


def predict(
    run: options.Run = None,
    loss: options.Loss = None,
    seed: options.Seed = 0,
    fold: options.Fold = None,
    snapshot: options.Snapshot = None,
    look: options.Look = None,
    settings: options.Set = None,
    device: options.Device = "auto",
    scheduler: options.Scheduler = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Compute the logits of a trained run on val and test; section `predict` says from how many looks."""
    from segpipe.cli.printing import announce, finish
    from segpipe.config.context import refuse_import, start

    if run is None and loss is None:
        raise ConfigError("give --run NAME or --loss NAME: whose model shall predict?")
    context = start(
        run=run, loss=loss, seed=seed, fold=fold, snapshot=snapshot, look=look, overrides=settings, device=device,
        scheduler=scheduler, quiet=as_json,
    )  # fmt: skip
    refuse_import(context)
    model, prepared, out = context.require("train"), context.require("prepare"), context.path("predict")
    if dry_run:
        announce(context, out, model, prepared)
        return
    from segpipe.stages import predict as stage

    with context.writing(out):
        result = stage.run(context)
    lines = [f"{out}: logits of {', '.join(f'{n} {split}' for split, n in result['images'].items())} images"]
    member = {"*-snap*": snapshot, "*-look*": look}
    named = [pattern for pattern, number in member.items() if number is not None]
    following = f"an ensemble whose members name {named[0]}" if named else context.command("evaluate")
    finish(context, result, lines, following if fold is None else "segpipe audit")
