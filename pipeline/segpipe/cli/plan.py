"""Command plan: how many seeds and images a comparison needs, and what tables of papers are worth."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segpipe.cli import options
from segpipe.core.errors import ConfigError

if TYPE_CHECKING:
    from segpipe.metrics.planning import Design, Variances

NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Runs whose differences are meant; default: all of params.yaml.", show_default=False),
]
SpreadOption = Annotated[
    float | None,
    typer.Option(
        help="Standard deviation over seeds, in points, as a paper states it, instead of results at hand.",
        min=1e-6,
        max=1000,
        show_default=False,
    ),
]
ImageSpreadOption = Annotated[
    float | None,
    typer.Option(
        help="With --spread: standard deviation over groups of images of the paired difference, in points (a paper's "
        "spread over images is larger, since it is not paired); without it images are taken to have no part.",
        min=0,
        max=1000,
        show_default=False,
    ),
]
GroupsOption = Annotated[
    int | None, typer.Option(help="With --spread: groups of test images; default 20.", min=5, show_default=False)
]
SeedsOption = Annotated[
    int | None, typer.Option(help="With --spread: seeds of each run; default 3.", min=1, show_default=False)
]
RunsOption = Annotated[
    int | None, typer.Option(help="With --spread: runs compared together; default 2.", min=2, show_default=False)
]
ClaimOption = Annotated[
    Path | None,
    typer.Option(
        help="A paper's table in CSV (method, mean, spread, n): how probable is it that its best method is not really "
        "better than the others?",
        show_default=False,
    ),
]


_POINTS = 2.0  # that are planned for unless told otherwise


@dataclass(frozen=True)
class _Plan:
    """What is known and wanted; difference and region in points, or as the score is."""

    metric: str
    difference: float
    power: float
    of: Variances
    design: Design
    minutes: float | None  # of one training
    unit: str
    region: float  # within which differences are called practically equal
    images: bool = True  # whether images have a part in it


def plan(
    names: NamesArgument = None,
    difference: Annotated[
        float, typer.Option(help="True difference to be shown, in points (NLL and Brier: as they are).", min=1e-6)
    ] = _POINTS,
    power: Annotated[float, typer.Option(help="Probability with which it shall be shown.", min=0.05, max=0.99)] = 0.8,
    metric: Annotated[
        str, typer.Option(help="The score that counts; its name says whether lower is better.")
    ] = "miou_dataset",
    spread: SpreadOption = None,
    image_spread: ImageSpreadOption = None,
    groups: GroupsOption = None,
    seeds: SeedsOption = None,
    runs: RunsOption = None,
    claim: ClaimOption = None,
    correlation: Annotated[
        float, typer.Option(help="With --claim: between the scores of two methods; 0 if unknown.", min=0, max=0.99)
    ] = 0.0,
    settings: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Say how many seeds and images show a difference, what today's could show, and what a paper's table is worth."""
    from segpipe.metrics.naming import scale
    from segpipe.metrics.planning import Design, Variances

    own = {"--image-spread": image_spread, "--groups": groups, "--seeds": seeds, "--runs": runs}
    beside = [name for name, value in own.items() if value is not None]
    _refuse(beside, bool(names or settings), claim=claim is not None, spread=spread is not None)
    if correlation and claim is None:
        raise ConfigError("--correlation goes with --claim")
    if claim is not None:
        _claims(claim, correlation, metric, as_json=as_json)
        return
    if spread is not None:
        factor, _ = scale(metric)
        of = Variances(((image_spread or 0.0) / factor) ** 2, 2 * (spread / factor) ** 2)
        number = runs or 2
        design = Design(groups or 20, seeds or 3, number, number * (number - 1) // 2)
        region = min(1.0, difference / 2)
        found = _Plan(metric, difference, power, of, design, None, "group", region, image_spread is not None)
    else:
        found = _of_results(names or [], difference, power, metric, settings)
    _refuse_small(found)
    if as_json:
        print(json.dumps(_plain(found), allow_nan=False))
    else:
        _print(found)


def _refuse(beside: list[str], results: bool, *, claim: bool, spread: bool) -> None:
    """ConfigError where options do not go together."""
    if (claim or spread) and (results or (claim and spread)):
        what = "--claim" if claim else "--spread"
        raise ConfigError(f"{what} stands for results: give no runs, --set or other source beside it")
    if beside and not spread:
        raise ConfigError(f"{beside[0]} goes with --spread; without it the results at hand say how many there are")


def _refuse_small(found: _Plan) -> None:
    """ConfigError for a difference that nothing shows, or that nobody named."""
    from segpipe.metrics.naming import scale

    if scale(found.metric)[0] == 1 and found.difference == _POINTS:
        raise ConfigError(
            f"say which --difference in {found.metric} matters: {_POINTS:g} is the default for points alone"
        )
    if found.difference <= found.region:
        raise ConfigError(
            f"--difference {found.difference:g}: differences within {found.region:g} are called practically equal; ask "
            "for a larger one, or change report.equivalence"
        )


def _of_results(
    names: list[str], difference: float, power: float, metric: str, settings: list[str] | None
) -> _Plan:  # fmt: skip
    """Variances from the results of params.yaml."""
    from segpipe.config import minutes
    from segpipe.config.context import start
    from segpipe.core.errors import suggestion
    from segpipe.metrics import planning
    from segpipe.metrics.naming import scale
    from segpipe.report.collect import collect_results, judge_entries

    context = start(overrides=settings, quiet=True)
    entries = [entry for entry in collect_results(context) if entry.kind == "run"]
    known = [entry.name for entry in entries]
    for name in names:
        if name not in known:
            raise ConfigError(f"'{name}' is no run of params.yaml{suggestion(name, known)}")
    if len(set(names)) == 1:
        raise ConfigError(f"found one run, {names[0]}, wanted two or more, or none for all")
    judged = judge_entries(entries, context, [metric])
    chosen = list(dict.fromkeys(names)) or known
    of = planning.variances(judged.sample.only(chosen), metric)  # as `compare` of these would have it
    if of is None:
        raise ConfigError(
            "these results do not say how much trainings vary: wanted two runs or more with two seeds or more "
            "(params.yaml); or give --spread, as a paper states it"
        )
    pairs = len(chosen) * (len(chosen) - 1) // 2
    fewest = min(judged.seeds[name] for name in chosen)
    design = planning.Design(judged.units, fewest, len(chosen), pairs)
    took = minutes.of_runs(chosen)
    mean = sum(took.values()) / len(took) if took else None
    region = context.params.report.equivalence / 100 * scale(metric)[0]
    return _Plan(metric, difference, power, of, design, mean, judged.unit, region)


def _print(found: _Plan) -> None:
    """What today's design could show, and what is needed."""
    from segpipe.metrics import planning
    from segpipe.metrics.naming import pretty, scale

    factor, unit = scale(found.metric)
    design, title, share = found.design, pretty(found.metric), f"{10 * found.power:g} of 10 experiments"
    least = planning.smallest(found.of, design, found.power)
    now = "no difference at all" if least == float("inf") else f"a true difference of {factor * least:.3g}{unit}"
    print(
        f"{title}. Spread of a difference: {factor * found.of.training**0.5:.3g}{unit} between seeds, "
        f"{factor * found.of.group**0.5:.3g} between {found.unit}s of images."
    )
    print(
        f"Now: {design.seeds} seed{'s' if design.seeds > 1 else ''}, {design.groups} {found.unit}s, {design.pairs} "
        f"pair{'s' if design.pairs > 1 else ''} at once. Shown in {share}: {now}."
    )
    print(f"To show {found.difference:g}{unit} in {share}:")
    if not found.images:
        print("  (the chance of images is left out: give --image-spread)")
    wanted = found.difference / factor
    for seeds, groups in planning.designs(wanted, found.of, design, found.power) if found.images else ():
        needed = f"{groups} {found.unit}s of images" if groups else "no number of images is enough"
        print(f"  {seeds:3d} seeds: {needed}{_cost(found, seeds) if groups else ''}")
    enough = planning.seeds_for(wanted, found.of, design, found.power)
    here = f"with the {design.groups} {found.unit}s at hand"
    print(
        f"  {here}: {enough} seeds{_cost(found, enough)}"
        if enough
        else f"  {here}: no {planning.MOST_SEEDS} seeds are enough"
    )


def _cost(found: _Plan, seeds: int) -> str:
    """What the trainings that are missing take."""
    more = max(0, seeds - found.design.seeds)
    if found.minutes is None or not more:
        return ""
    every = more * found.minutes * found.design.runs
    return f", {more} more trainings of each run, about {every:.0f} minutes in all"


def _plain(found: _Plan) -> dict[str, Any]:
    from segpipe.metrics import planning
    from segpipe.metrics.naming import scale

    least = planning.smallest(found.of, found.design, found.power)
    factor, _ = scale(found.metric)
    wanted = found.difference / factor
    return {
        **asdict(found),
        "smallest_now": None if least == float("inf") else factor * least,
        "power_now": planning.power(wanted, found.of, found.design),
        "seeds": planning.seeds_for(wanted, found.of, found.design, found.power),
        "groups_by_seeds": dict(planning.designs(wanted, found.of, found.design, found.power)),
    }


def _claims(path: Path, correlation: float, metric: str, *, as_json: bool) -> None:
    """The probability that the best method of a paper's table is not better than each other one."""
    from segpipe.metrics.claimed import doubts, read_claims

    found = doubts(read_claims(path), correlation, metric=metric)
    if as_json:
        print(json.dumps([asdict(doubt) for doubt in found], allow_nan=False))
        return
    for doubt in found:
        print(
            f"{doubt.best} over {doubt.other}: {doubt.difference:+.3g}, standard error {doubt.error:.2g}; not better "
            f"with probability {doubt.probability:.2f}"
        )
    print("From means, spreads and n alone. Where the winner was picked from many methods, the probability is higher.")
