"""How a report was made: every command, the versions, the parameters."""

from __future__ import annotations

from collections.abc import Iterator

from segpipe.stages.context import Context
from segpipe.stages.gathered import of_method


def commands(context: Context) -> Iterator[str]:
    """Every stage's command line, in an order that runs."""
    params, refined = context.params, context.params.crf_keys()
    yield from (f"segpipe {stage}" for stage in ("download", "prepare", "stats"))
    ordered = sorted(params.all_keys(), key=lambda key: len(params.teachers_of(key.rpartition("-")[0])))
    for key in ordered:
        member = context.member(key)
        yield from (member.command(stage) for stage in ("train", "predict", "evaluate"))
        if key in refined:
            yield from (member.command("crf"), member.command("evaluate", "crf"))
    for key in params.fold_keys():
        for fold in range(params.folds.number):
            member = context.member(key, fold)
            yield from (member.command(stage) for stage in ("train", "predict"))
    extra = {key: None for method in params.ensemble for key in params.members_of(method)}
    for key in extra:
        member = context.member(key)
        if member.snapshot is not None or member.look is not None:
            yield member.command("predict")
    for method in params.ensemble:
        own = of_method(context, method)
        yield from (own.command(stage) for stage in ("ensemble", "evaluate"))
    yield context.command("report")


def versions() -> str:
    """Markdown: what the last bits depend on, as it is where the report is made."""
    from segpipe import __version__
    from segpipe.reporting.agreement import environment
    from segpipe.reporting.tables import markdown

    found = environment()
    rows = {"segpipe": __version__, "python": found["python"], **found["packages"]}
    rows |= {"system": f"{found['system']} {found['machine']}", "instructions": found["capability"]}
    rows |= {"threads of torch": str(found["threads"])}
    return markdown(["what", "version"], [[name, str(value)] for name, value in rows.items()])


def parameters(context: Context) -> str:
    """params.yaml as it was read, with every default."""
    import yaml

    values = context.params.model_dump(mode="json")
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    return text
