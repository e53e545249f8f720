"""Command crf: a run's predictions refined, or one image without any pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli import options
from segpipe.core.errors import ConfigError

ImageOption = Annotated[
    Path | None, typer.Option("--image", help="One image instead of a run, without any pipeline.", show_default=False)
]
ProbsOption = Annotated[
    Path | None, typer.Option("--probs", help="Its probabilities (C, H, W) as .npy.", show_default=False)
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Where the label map (.png) or the probabilities (.npy) go.", show_default=False),
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter", metavar="NAME=VALUE", help="Of dense_crf, e.g. bi_xy_std=30; repeatable.", show_default=False
    ),
]
TunedOption = Annotated[
    Path | None,
    typer.Option("--tuned", help="A crf.json of this stage: use the parameters found there.", show_default=False),
]


def crf(
    run: options.Run = None,
    loss: options.Loss = None,
    seed: options.Seed = 0,
    jobs: options.Jobs = None,
    scheduler: options.Scheduler = None,
    image: ImageOption = None,
    probs: ProbsOption = None,
    out: OutOption = None,
    tuned: TunedOption = None,
    parameter: ParameterOption = None,
    settings: options.Set = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Refine a run's predictions with a fully connected CRF; or one image with --image, --probs and --out."""
    from segpipe.cli.printing import announce, finish
    from segpipe.config.context import start

    if image or probs or out or tuned or parameter:
        if run or loss or settings or jobs or scheduler:
            raise ConfigError("--image, --probs and --out stand alone: no --run, --loss, --jobs, --scheduler or --set")
        from segpipe.cli.one_image import refine_image

        refine_image(image, probs, out, tuned, parameter or (), dry_run=dry_run, as_json=as_json)
        return
    if run is None and loss is None:
        raise ConfigError("give --run NAME or --loss NAME (whose predictions shall be refined?), or --image FILE")
    context = start(
        run=run, loss=loss, seed=seed, refined=True, overrides=settings, jobs=jobs, scheduler=scheduler, quiet=as_json
    )
    source, target = context.require("predict"), context.path("crf")
    if dry_run:
        announce(context, target, source)
        return
    from segpipe.stages import crf as stage

    with context.writing(target):
        result = stage.run(context)
    chosen = result["parameters"]
    tuning = f"{result['metric']} of {len(result['tuned_on'])} val images {result['score_without']:.4f}"
    shown = ", ".join(f"{name} {value:g}" for name, value in (chosen or {}).items())
    lines = [
        f"{target}: {tuning} -> {result['score']:.4f} with {shown}"
        if chosen
        else f"{target}: {tuning}, and no candidate is better: the predictions stay as they are",
        f"test: {result['effect']['test']['verdict']}. {result['effect']['test']['sentence']}",
    ]
    finish(context, result, lines, context.command("evaluate"))
