"""Command table: a table of the benchmark from the results of params.yaml, in the form that a paper or page wants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from segpipe.cli import options
from segpipe.core.errors import ConfigError

if TYPE_CHECKING:
    from segpipe.report.judgement import Judgement

NameArgument = Annotated[
    str | None, typer.Argument(help="losses, dropout, targets, sampling, models, ...", show_default=False)
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option("--column", help="A score, or class:NAME; repeatable, instead of NAME.", show_default=False),
]
OnlyOption = Annotated[
    list[str] | None, typer.Option(help="Patterns of runs, e.g. 'ce*'; repeatable.", show_default=False)
]


def table(
    name: NameArgument = None,
    columns: ColumnOption = None,
    only: OnlyOption = None,
    form: Annotated[Literal["md", "csv", "tex"], typer.Option(help="Markdown, CSV or LaTeX.")] = "md",
    out: Annotated[Path | None, typer.Option(help="Write to this file instead.", show_default=False)] = None,
    settings: options.Set = None,
) -> None:
    """Print a table of all results with seeds' spread, the best and its ties, as Markdown, CSV or LaTeX."""
    from fnmatch import fnmatch

    from segpipe.config.context import start
    from segpipe.core import files, outputs
    from segpipe.metrics.scores import NOT_BY_IMAGE
    from segpipe.report import benchmark, judgement
    from segpipe.report.collect import collect_results

    if name is not None and columns:
        raise ConfigError("give the name of a table, or --column, not both")
    context = start(overrides=settings)
    entries = [e for e in collect_results(context) if not only or any(fnmatch(e.name, pattern) for pattern in only)]
    if not entries:
        raise ConfigError(f"--only {' '.join(only or ())}: no result is called so")
    place = context.require("stats")
    statistics = outputs.unsealed(files.read_json(place), place)
    wanted = benchmark.columns_of(name, columns or (), statistics["classes"], statistics["share"])
    unknown = [c for c in wanted if not c.startswith("class:") and not any(e.mean(c) is not None for e in entries)]
    if unknown:
        raise ConfigError(f"no result has the score '{unknown[0]}'; see docs/metrics.md")
    usable = [column for column in wanted if not column.startswith("class:") and column not in NOT_BY_IMAGE]
    folders = {entry.name: entry.folders for entry in entries}
    region = context.params.report.equivalence / 100
    judged = judgement.judge(folders, usable, equivalence=region, imported=context.params.imports) if usable else None
    found = benchmark.cells(entries, judged, wanted, statistics["classes"])
    seeds = len(context.params.seeds)
    note = (
        f"{context.params.download.dataset}, test, {seeds} seed{'s: mean ± standard deviation' if seeds > 1 else ''}. "
        f"Bold: the best; =: tied with it{_about(judged)}."
    )
    if judged is not None and judged.caution:
        note += f" Note: {judged.caution}."
    text = benchmark.text(form, [entry.name for entry in entries], wanted, found, note)
    if out is None:
        print(text, end="")
    else:
        files.write_text(out, text)
        print(out)


def _about(judged: Judgement | None) -> str:
    """What the comparisons behind the marks are about."""
    claims = {claim for metric in judged.sample.metrics if (claim := judged.claim(metric))} if judged else set()
    longest = max(claims, key=len, default="")
    return f" (these {longest}, 95 % over all pairs)" if longest else ""
