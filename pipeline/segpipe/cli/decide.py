"""Command decide: which labels are read from the probabilities of a result."""

from __future__ import annotations

from typing import Annotated

import typer

from segpipe.cli import options
from segpipe.core.errors import ConfigError
from segpipe.refine import ARGMAX

CrfOption = Annotated[bool, typer.Option("--crf", help="Read the run's predictions after the CRF.")]
RuleOption = Annotated[str, typer.Option(help="The score that the rule is fitted to.")]


def decide(
    run: options.Run = None,
    loss: options.Loss = None,
    seed: options.Seed = 0,
    ensemble: options.Ensemble = None,
    crf: CrfOption = False,
    rule: RuleOption = "miou_dataset",
    jobs: options.Jobs = None,
    scheduler: options.Scheduler = None,
    settings: options.Set = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Fit the rule that reads labels from probabilities on val; arg max stays where no rule is surely better."""
    from segpipe.cli.printing import announce, finish
    from segpipe.config.context import start
    from segpipe.metrics.naming import lower_is_better
    from segpipe.metrics.scores import names

    if sum(value is not None for value in (run, loss, ensemble)) != 1 or (crf and ensemble):
        raise ConfigError("give one of --run NAME, --loss NAME, --ensemble NAME; --crf goes with a run")
    context = start(
        run=run, loss=loss, seed=seed, refined=crf, method=ensemble, rule=rule, overrides=settings, jobs=jobs,
        scheduler=scheduler, quiet=as_json,
    )  # fmt: skip
    evaluated = context.params.evaluate
    known = [n for n in names(evaluated.quantiles, evaluated.thresholds, evaluated.measures) if not lower_is_better(n)]
    if rule not in known:
        raise ConfigError(
            f"--rule {rule}: wanted a score that is better when larger, for example {', '.join(known[:4])}"
        )
    source, target = context.require(context.probabilities), context.path("decide")
    if dry_run:
        announce(context, target, source)
        return
    from segpipe.stages import decide as stage

    with context.writing(target):
        result = stage.run(context)
    lines = [f"{target}: {rule} on val, out of fold:"]
    for one in result["candidates"]:
        gain = 100 * (one["score"] - one["score_of_argmax"])
        lines.append(f"  {one['chain']}: {gain:+.2f} points against arg max, {one['reason']}")
    effect = result["effect"]["test"]
    if result["rule"] == ARGMAX:
        lines.append("taken: arg max, as no rule is surely better")
    else:
        lines.append(f"taken: {result['rule']}; test: {effect['verdict']}. {effect['sentence']}")
    finish(context, result, lines, context.command("evaluate"))
