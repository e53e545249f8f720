"""How a report was made: every command, the versions, the parameters."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from segpipe import __version__
from segpipe.config.context import Context
from segpipe.report.agreement import environment
from segpipe.report.tables import Table


def commands(context: Context) -> Iterator[str]:
    """Every stage's command line, in an order that runs."""
    params, refined = context.params, context.params.crf_keys()
    yield from (f"segpipe {stage}" for stage in ("download", "prepare", "stats"))
    ordered = sorted(params.trained_keys(), key=lambda key: len(params.teachers_of(key.rpartition("-")[0])))
    for key in (*ordered, *(key for run in params.imports for key in params.keys_of(run))):
        member = context.member(key)
        stages = ("predict", "evaluate") if member.imported else ("train", "predict", "evaluate")
        yield from (member.command(stage) for stage in stages)
        if key in refined:
            yield member.command("crf")
            yield context.member(f"{key}-crf").command("evaluate")
    for key in params.fold_keys():
        for fold in range(params.folds.number):
            member = context.member(key, fold)
            yield from (member.command(stage) for stage in ("train", "predict"))
        yield context.of_folds(key).command("evaluate")
    extra = {key: None for method in params.ensemble for key in params.members_of(method)}
    for key in extra:
        member = context.member(key)
        if member.snapshot is not None or member.look is not None:
            yield member.command("predict")
    for method in params.ensemble:
        own = context.of_ensemble(method)
        yield from (own.command(stage) for stage in ("ensemble", "evaluate"))
    for rule in params.decide.metrics:
        for key in params.decided_keys():
            own = context.decided(key, rule)
            yield from (own.command(stage) for stage in ("decide", "evaluate"))
    yield context.command("report")


def versions(context: Context) -> Table:
    """What the last bits depend on, as it is where the report is made."""
    found = environment(context.params.threads)
    rows = {"segpipe": __version__, "python": found["python"], **found["packages"]}
    rows |= {"system": f"{found['system']} {found['machine']}", "instructions": found["capability"]}
    rows |= {"threads of torch": str(found["threads"])}
    return Table(["what", "version"], [[name, str(value)] for name, value in rows.items()])


def parameters(context: Context) -> str:
    """params.yaml as it was read, with every default."""
    values = context.params.model_dump(mode="json")
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    return text
