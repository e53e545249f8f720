"""Command compare: is the difference between evaluated runs real?"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from segpipe.cli import options
from segpipe.core.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from segpipe.report.judgement import Judgement

METRICS = ("miou_dataset", "miou_image", "miou_class")
Find = Callable[[], tuple[Path, ...]]  # a result's folders, when they are asked for


NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="Runs (ce), their seeds (ce-0), 'ce+crf', ensembles, result folders; default: all of params.yaml.",
        show_default=False,
    ),
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        help="A score from counts, or ece_, nll_, brier_; repeatable; default: mIoU^D, ^I, ^C.", show_default=False
    ),
]
FigureOption = Annotated[
    Path | None, typer.Option(help="Write the critical-difference diagram to this .svg.", show_default=False)
]


def compare(
    names: NamesArgument = None,
    metric: MetricOption = None,
    split: Annotated[Literal["val", "test"], typer.Option(help="The split that is compared.")] = "test",
    resamples: Annotated[int, typer.Option(help="Resamples of the bootstrap.", min=100, max=100_000)] = 1000,
    figure: FigureOption = None,
    as_json: options.Json = False,
) -> None:
    """Say in words whether runs differ: paired bootstrap over images and seeds, Wilcoxon, Holm, Friedman."""
    from segpipe.core.files import write_text
    from segpipe.report import diagrams, judgement

    folders = _folders(names or [])
    if len(folders) < 2:
        raise ConfigError(f"found {len(folders)} result, wanted at least two to compare")
    if figure is not None and figure.suffix != ".svg":
        raise ConfigError(f"--figure {figure}: wanted a name that ends with .svg")
    metrics = list(dict.fromkeys(metric or METRICS))
    found = judgement.judge(folders, metrics, resamples=resamples, split=split)
    ranking = found.rankings.get(metrics[0])
    if figure is not None and ranking is not None:
        write_text(figure, diagrams.critical_difference(ranking))
    if as_json:
        print(json.dumps(_plain(found), allow_nan=False))
    elif len(folders) == 2:
        _print_two(found, split)
    else:
        _print_many(found, metrics)


def _print_two(found: Judgement, split: str) -> None:
    """The verdicts on two results."""
    for difference in found.differences:
        print(difference.verdict)
    first = found.differences[0]
    seeds = " and ".join(map(str, first.seeds))
    print(
        f"\n{first.units} {first.unit}s of {split}, {seeds} seeds, {found.resamples} paired resamples; "
        f"Wilcoxon over the mean IoU of the {first.unit}s: p = {_p(first.p_wilcoxon)}"
    )
    if found.caution:
        print(f"note: {found.caution}")


def _print_many(found: Judgement, metrics: list[str]) -> None:
    """A table by metric, and how the results rank."""
    from segpipe.metrics.comparison import pretty
    from segpipe.report import judgement

    for name in metrics:
        print(judgement.ranking_table(found, name).markdown())
    print(judgement.sentence(found, metrics[0]))
    ranking = found.rankings.get(metrics[0])
    if ranking is not None:
        groups = "; ".join(", ".join(clique) for clique in ranking.cliques()) or "none"
        print(
            f"Friedman over {pretty(metrics[0])} of {ranking.units} {found.unit}s: p = {_p(ranking.p)}; critical "
            f"difference of average ranks {ranking.critical_difference:.2f}; not told apart: {groups}"
        )


def _folders(names: list[str]) -> dict[str, tuple[Path, ...]]:
    """Result folders by name: folders as given, all else from params.yaml."""
    found: dict[str, tuple[Path, ...]] = {}
    known: dict[str, Find] | None = None
    for name in names:
        if (Path(name) / "counts.csv").is_file():
            found[Path(name).as_posix()] = (Path(name),)
            continue
        known = _known() if known is None else known
        choices = {_key(title): title for title in known}
        key = _key(name)
        key = key if key in choices else _key(f"ensemble: {name}")
        if key not in choices:
            raise ConfigError(f"'{name}' is no result folder and no result of params.yaml{suggestion(name, known)}")
        found[choices[key]] = known[choices[key]]()
    if not names:
        return {title: folders() for title, folders in _known().items() if "-" not in title}
    return found


def _known() -> dict[str, Find]:
    """By name, a function that finds the complete folders: runs, their seeds, with CRF, ensembles."""
    from segpipe.config.context import start

    context = start()
    params, known = context.params, dict[str, Find]()

    def of_run(keys: list[str], suffix: str) -> Find:
        return lambda: tuple(context.member(key + suffix).require("evaluate") for key in keys)

    def of_method(method: str) -> Find:
        return lambda: (context.of_ensemble(method).require("evaluate"),)

    refined = params.crf_keys()
    for suffix, words in (("", ""), ("-crf", " + CRF")):
        for run in params.runs:
            keys = [f"{run}-{seed}" for seed in params.seeds if not suffix or f"{run}-{seed}" in refined]
            if keys:
                known[run + words] = of_run(keys, suffix)
                known |= {key + words: of_run([key], suffix) for key in keys}
    return known | {f"ensemble: {method}": of_method(method) for method in params.ensemble}


def _key(name: str) -> str:
    return name.replace(" ", "").lower()


def _plain(found: Judgement) -> dict[str, Any]:
    return {
        "scores": {n: {m: None if isnan(v) else v for m, v in row.items()} for n, row in found.scores.items()},
        "resamples": found.resamples,
        "caution": found.caution,
        "intervals": found.bounds,
        "differences": [{**asdict(d), "shown": d.shown, "verdict": d.verdict} for d in found.differences],
        "rankings": {metric: asdict(ranking) for metric, ranking in found.rankings.items()},
    }


def _p(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3g}"
