"""What to take and what to run next: the best result for a goal, how sure that is, and what would make it surer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from segpipe.metrics import planning
from segpipe.metrics.comparison import EQUIVALENCE
from segpipe.metrics.naming import digits, lower_is_better, pretty, scale
from segpipe.report.judgement import Judgement, beaten, leading, listed

GOALS = {
    "D": "miou_dataset",
    "I": "miou_image",
    "C": "miou_class",
    "worst": "miou_image_q5",
    "calibration": "ece_dataset",
    "likelihood": "nll_dataset",
    "speed": "miou_dataset",  # of those that are not shown to be worse than the best, the cheapest
}
FEW = 20  # groups of images: on fewer, one training is no reason to take anything
POWER = 0.8  # with which the next experiment shall show what it looks for


@dataclass(frozen=True)
class Advice:
    """The result to take for a metric, "" where nothing is to be taken yet, for the reason in `caution`.

    same: results with the numbers of the best. ties: others that are not shown to differ from it. shares: by result,
    the probability that it, or one with the same numbers, is the best. shrinkage: what the score of `take` is expected
    to lose for having been chosen on the images that it is told of. cost: multiply-adds of an image by result, where it
    is known; a CRF's is not. kinds: of each result.
    """

    goal: str
    metric: str
    take: str
    best: str
    same: list[str]
    ties: list[str]
    claim: str
    shares: dict[str, float]
    shrinkage: float
    cost: dict[str, float]
    next: list[str]
    kinds: dict[str, str]
    caution: str = ""


def advise(
    goal: str,
    judged: Judgement,
    cost: Mapping[str, float],
    missing: Sequence[str],
    kinds: Mapping[str, str],
    *,
    metric: str = "",
    minutes: Mapping[str, float] | None = None,
) -> Advice:
    """The advice for a goal.

    Args:
        goal: one of GOALS, or a name of the caller's with its `metric`.
        judged: all results compared, by the goal's metric among others.
        cost: multiply-adds of an image, where they are known.
        missing: what nobody has tried yet, in words.
        kinds: of each result: "run", "import", "crf", "ensemble" or "decided".
        metric: instead of the goal's.
        minutes: of one training of each run, where they are known.
    """
    metric = metric or GOALS[goal]
    standing = judged.standing(metric)
    best, caution = standing.best, _caution(judged, metric, kinds) if len(judged.order(metric)) > 1 else ""
    priced = [name for name in standing.leaders if name in cost]
    by_cost = goal == "speed" and priced and not _without_cost(standing.leaders, cost, kinds)
    take = min(priced, key=lambda name: cost[name]) if by_cost else best
    chances = judged.chances[metric]
    values = [judged.scores[name][metric] for name in judged.order(metric)]
    lost = chances.shrinkage(values, judged.scores[best][metric]) if best else 0.0
    steps = [*_surer(judged, best, standing.ties, metric, kinds, minutes or {}), *missing]
    return Advice(
        goal, metric, "" if caution else take, best, standing.same, standing.ties, judged.claim(metric), chances.best,
        lost, dict(cost), steps, dict(kinds), caution,
    )  # fmt: skip


def _caution(judged: Judgement, metric: str, kinds: Mapping[str, str]) -> str:
    """Why nothing is to be taken yet; empty where something is."""
    caution = judged.caution_of(metric)
    trained = [n for name, n in judged.seeds.items() if kinds[name] == "run"]
    if not caution and trained and max(trained) == 1 and judged.units < FEW:
        return f"{judged.units} {judged.unit}s with one seed per run are too few to choose from"
    return caution


def words(advice: Advice, judged: Judgement, reported: Judgement | None = None) -> list[tuple[str, str]]:
    """The advice as (heading, sentence), ties first.

    reported: where the score is told from, if the choice was made on another split.
    """
    title, take = pretty(advice.metric), advice.take
    if advice.caution:
        return [
            ("take nothing yet", advice.caution),
            (_extreme(advice.metric), f"{advice.best}, {title} {scored(advice, judged)}"),
            *(("next", step) for step in advice.next),
        ]
    if len(judged.order(advice.metric)) < 2:
        alone = "it is the only result that has this score, so nothing was compared"
        return [(f"take {take}", f"{title} {scored(advice, judged)}"), ("how sure", alone)]
    tied = (*advice.same, *advice.ties)
    unknown = _without_cost((advice.best, *tied), advice.cost, advice.kinds)
    why = f"the {_extreme(advice.metric)}"
    if advice.goal == "speed" and unknown:
        why += f"; which is the cheapest is not known without the predictions of {listed(unknown)} (`segpipe predict`)"
    elif advice.goal == "speed" and take in advice.cost:
        why = "the cheapest that is not shown to be worse than the best"
    found = [("undecided", leading(judged, advice.metric))] if advice.ties else []
    if reported is None:
        choice = "if you must choose now: " if advice.ties else ""
        found.append((f"take {take}", f"{choice}{title} {scored(advice, judged)}, {why}"))
    else:
        found.append((f"take {take}", f"{title} {scored(advice, reported)} on test, {why} on val"))
        advice = replace(advice, shrinkage=0.0)
    return [*found, *_sure(advice, judged), *_cheaper(advice, tied), *(("next", step) for step in advice.next)]


def _sure(advice: Advice, judged: Judgement) -> list[tuple[str, str]]:
    """How sure the choice is, and against whom."""
    title, take, standing = pretty(advice.metric), advice.take, judged.standing(advice.metric)
    about = "new images and trainings of the runs" if judged.chances[advice.metric].trainings else "new images alone"
    told = f"the best with probability {_percent(advice, take)} ({judged.units} {judged.unit}s; {about})"
    if take not in (advice.best, *advice.same):
        told += f"; {advice.best} with {_percent(advice, advice.best)}"
    found = [("how sure", told)]
    if advice.same:
        found.append(("the same", f"{listed(advice.same)}: the {title} of {advice.best}, image by image"))
    if advice.ties:
        groups = [group for group in judged.twins(advice.metric) if group[0] in advice.ties]
        named = [f"{' = '.join(group)} (best with probability {_percent(advice, group[0])})" for group in groups]
        found.append((f"tied with {advice.best}", listed(named)))
    elif standing.worse:
        about = judged.claim(advice.metric, standing.worse)
        found.append((f"shown, these {about}", f"{advice.best} is better than {beaten(standing)}"))
    if standing.undefined:
        found.append(("undefined", f"the difference to {listed(standing.undefined)}"))
    factor, unit = scale(advice.metric)
    lost = f"{factor * advice.shrinkage:.{digits(factor)}f}"
    if float(lost) > 0:
        found.append(("on other data", f"expect about {lost}{unit} less of a lead: it was chosen on these images"))
    return found


def _cheaper(advice: Advice, tied: Sequence[str]) -> list[tuple[str, str]]:
    """The cheapest result that cannot be told from the one to take."""
    take = advice.take
    cheaper = [n for n in tied if take in advice.cost and advice.cost.get(n, math.inf) < 0.9 * advice.cost[take]]
    if not cheaper or advice.goal == "speed":
        return []
    least = min(cheaper, key=lambda name: advice.cost[name])
    share = 100 * advice.cost[least] / advice.cost[take]
    return [("cheaper", f"{least} takes {share:.0f} % of its multiply-adds")]


def _extreme(metric: str) -> str:
    return "lowest" if lower_is_better(metric) else "highest"


def scored(advice: Advice, judged: Judgement) -> str:
    """The score of what is taken, or leads, with its interval."""
    name = advice.take or advice.best
    bounds = judged.bounds[name].get(advice.metric)
    shown = "" if bounds is None else f" (95 % interval {bounds[0]:.4f} to {bounds[1]:.4f})"
    return f"{judged.scores[name][advice.metric]:.4f}{shown}"


def _without_cost(names: Sequence[str], cost: Mapping[str, float], kinds: Mapping[str, str]) -> list[str]:
    """Those whose cost could be known and is not; a CRF's work is never counted, an import's only where it is
    told.
    """
    return [name for name in names if name not in cost and kinds[name] not in ("import", "crf", "decided")]


def _percent(advice: Advice, name: str) -> str:
    share = advice.shares[name]
    return "over 99 %" if 0.99 < share < 1 else "under 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def _surer(
    judged: Judgement,
    best: str,
    ties: Sequence[str],
    metric: str,
    kinds: Mapping[str, str],
    minutes: Mapping[str, float],
) -> list[str]:
    """What would tell the best from the result next to it: groups, seeds, and what they cost."""
    if judged.caution:
        return [f"more groups of images to test on: {judged.sample.units.groups} are here"]
    alone = [name for name, seeds in judged.seeds.items() if seeds == 1 and kinds[name] == "run"]
    if alone:
        return [
            f"more seeds (params.yaml): {', '.join(alone[:4])}{', ...' if len(alone) > 4 else ''} "
            f"{'has' if len(alone) == 1 else 'have'} one, so that chance in training is in no interval"
        ]
    rivals = [name for name in ties if judged.between(best, name, metric).claim == "methods"]
    of = planning.variances(judged.sample, metric)
    if not rivals or of is None:
        return ["more groups of images to test on would tell these networks apart"] if ties else []
    pair, runs = judged.between(best, rivals[0], metric), [name for name, kind in kinds.items() if kind == "run"]
    design = planning.Design(judged.units, min(pair.seeds), len(runs), pair.pairs)
    target = 2 * (pair.equivalence or EQUIVALENCE)
    factor, unit = scale(metric)
    shown, seeds = f"{factor * target:.{digits(factor)}f}{unit}", planning.seeds_for(target, of, design, POWER)
    if seeds is not None and seeds <= design.seeds:
        return [
            f"nothing for {shown}: these seeds would show it in 8 of 10 experiments, so {rivals[0]} is likely closer"
        ]
    if seeds is None:
        smallest = f"{factor * planning.smallest(of, design, POWER):.{digits(factor)}f}{unit}"
        return [
            f"no {planning.MOST_SEEDS} seeds would show {shown} between {best} and {rivals[0]} on these {judged.units} "
            f"{judged.unit}s in 8 of 10 experiments; {smallest} is what they show now"
        ]
    more = seeds - design.seeds
    known = [minutes[name] for name in runs if name in minutes]
    cost = f", about {more * sum(known):.0f} minutes of training" if len(known) == len(runs) else ""
    return [
        f"{more} more seed{'s' if more > 1 else ''} of every run{cost}: {seeds} seeds show a true difference of "
        f"{shown} in 8 of 10 experiments (`segpipe plan`)"
    ]
