"""Command evaluate: a result of the pipeline, or two folders of label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli import options
from segpipe.core.errors import ConfigError

CrfOption = Annotated[bool, typer.Option("--crf", help="Evaluate the run's predictions after the CRF.")]
FoldsOption = Annotated[
    bool,
    typer.Option(
        "--folds", help="Score the train images instead, each through the network that was trained without its fold."
    ),
]
RuleOption = Annotated[
    str | None,
    typer.Option(help="Score the labels that the rule for this score reads, see `segpipe decide`.", show_default=False),
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(help="A folder of label maps (PNG of class ids), without any pipeline.", show_default=False),
]
PredictionsOption = Annotated[
    Path | None, typer.Option(help="A folder of predicted label maps named as those of --labels.", show_default=False)
]
ClassesOption = Annotated[int | None, typer.Option(help="Number of classes of the folders.", show_default=False)]
IgnoreOption = Annotated[int, typer.Option(help="The void id in the folder of labels.")]
ConventionOption = Annotated[
    str | None, typer.Option(help="Print what mmseg, smp, torchmetrics, paddle or monai would say.", show_default=False)
]


def evaluate(
    run: options.Run = None,
    loss: options.Loss = None,
    seed: options.Seed = 0,
    ensemble: options.Ensemble = None,
    crf: CrfOption = False,
    folds: FoldsOption = False,
    rule: RuleOption = None,
    labels: LabelsOption = None,
    predictions: PredictionsOption = None,
    classes: ClassesOption = None,
    ignore_index: IgnoreOption = 255,
    convention: ConventionOption = None,
    jobs: options.Jobs = None,
    scheduler: options.Scheduler = None,
    settings: options.Set = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Score a run, its CRF or an ensemble on val and test; or two folders of label maps."""
    from segpipe.cli.printing import announce, finish
    from segpipe.cli.score_folders import print_convention, score_folders
    from segpipe.config.context import start

    if labels is not None or predictions is not None:
        if run or loss or ensemble or crf or rule or settings:
            raise ConfigError("--labels and --predictions stand alone, without a result of the pipeline and --set")
        score_folders(labels, predictions, classes, ignore_index, convention, as_json)
        return
    _check(run, loss, ensemble, crf=crf, folds=folds, ruled=rule is not None)
    context = start(
        run=run, loss=loss, seed=seed, refined=crf, crossed=folds, method=ensemble, rule=rule, overrides=settings,
        jobs=jobs, scheduler=scheduler, quiet=as_json,
    )  # fmt: skip
    out = context.path("evaluate")
    if convention is not None:
        print_convention(context.require("evaluate"), convention, as_json)
        return
    from segpipe.stages import evaluate as stage

    sources = stage.sources(context)
    if dry_run:
        announce(context, out, *sources)
        return
    with context.writing(out):
        result = stage.run(context)
    split = stage.splits(context)[-1]
    shown = ", ".join(f"{name} {_number(value)}" for name, value in result[split].items())
    finish(context, result, [f"{out}: {split} {shown}"], context.command("report"))


def _check(run: str | None, loss: str | None, ensemble: str | None, *, crf: bool, folds: bool, ruled: bool) -> None:
    """ConfigError unless one result is named."""
    if folds and ruled:
        raise ConfigError("--folds scores train images, for which no rule is fitted; leave --rule out")
    if sum(value is not None for value in (run, loss, ensemble)) != 1 or (crf and ensemble):
        raise ConfigError(
            "give one of --run NAME, --loss NAME, --ensemble NAME (--crf goes with a run), "
            "or --labels DIR --predictions DIR --classes N"
        )
    if folds and (crf or ensemble or loss):
        raise ConfigError("--folds goes with --run NAME: its networks of every fold score the train images")


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
