"""What to take and what to run next: the best result for a goal, how sure that is, and what would make it surer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from segpipe.metrics.comparison import digits, lower_is_better, pretty, scale
from segpipe.report.judgement import Judgement, beaten, listed

GOALS = {
    "D": "miou_dataset",
    "I": "miou_image",
    "C": "miou_class",
    "worst": "miou_image_q5",
    "calibration": "ece_dataset",
    "likelihood": "nll_dataset",
    "speed": "miou_dataset",  # of those that are not shown to be worse than the best, the cheapest
}
_LEVEL = 0.05
_ALONE = 1.2  # times the data: less, and only the correction for many comparisons makes the tie
_HOPELESS = 25  # times the data: more, and the difference is too small to be worth it


@dataclass(frozen=True)
class Advice:
    """The result to take for a metric.

    same: results with the numbers of the best. ties: others that are not shown to differ from it. shares: by result,
    the share of resamples in which it, or one with the same numbers, is the best. cost: multiply-adds of an image by
    result, where it is known; a CRF's is not. kinds: of each result.
    """

    goal: str
    metric: str
    take: str
    best: str
    same: list[str]
    ties: list[str]
    shares: dict[str, float]
    cost: dict[str, float]
    next: list[str]
    kinds: dict[str, str]


def advise(
    goal: str,
    judged: Judgement,
    cost: Mapping[str, float],
    missing: Sequence[str],
    kinds: Mapping[str, str],
    *,
    metric: str = "",
) -> Advice:
    """The advice for a goal.

    Args:
        goal: one of GOALS, or a name of the caller's with its `metric`.
        judged: all results compared, by the goal's metric among others.
        cost: multiply-adds of an image, where they are known.
        missing: what nobody has tried yet, in words.
        kinds: of each result: "run", "crf" or "ensemble".
        metric: instead of the goal's.
    """
    metric = metric or GOALS[goal]
    standing = judged.standing(metric)
    best, same, ties = standing.best, standing.same, standing.ties
    alike = [name for name in (best, *same, *ties) if name in cost]
    by_cost = goal == "speed" and alike and not _without_cost((best, *same, *ties), cost, kinds)
    take = min(alike, key=lambda name: cost[name]) if by_cost else best
    steps = [*_surer(judged, best, ties, metric, kinds), *missing]
    return Advice(goal, metric, take, best, same, ties, _shares(judged, metric), dict(cost), steps, dict(kinds))


def words(advice: Advice, judged: Judgement) -> list[tuple[str, str]]:
    """The advice as (heading, sentence)."""
    title, take = pretty(advice.metric), advice.take
    if len(judged.order(advice.metric)) < 2:
        alone = "it is the only result that has this score, so nothing was compared"
        return [(f"take {take}", f"{title} {scored(advice, judged)}"), ("how sure", alone)]
    tied = (*advice.same, *advice.ties)
    unknown = _without_cost((advice.best, *tied), advice.cost, advice.kinds)
    why = "the best"
    if advice.goal == "speed" and unknown:
        why += f"; which is the cheapest is not known without the predictions of {listed(unknown)} (`segpipe predict`)"
    elif advice.goal == "speed" and take in advice.cost:
        why = "the cheapest that is not shown to be worse than the best"
    found = [(f"take {take}", f"{title} {scored(advice, judged)}, {why}")]
    if judged.caution:
        found.append(("how sure", judged.caution))
    else:
        both = " and the seeds" if max(judged.seeds.values()) > 1 else ""
        other = take not in (advice.best, *advice.same)
        told = (
            f"best in {_percent(advice, take)} of {judged.resamples} resamples of {judged.units} {judged.unit}s{both}"
        )
        more = f"; {advice.best} in {_percent(advice, advice.best)}" if other else ""
        found.append(("how sure", told + more))
    standing = judged.standing(advice.metric)
    if advice.same:
        found.append(("the same", f"{listed(advice.same)}: the {title} of {advice.best} in every resample"))
    if advice.ties:
        groups = [group for group in judged.twins(advice.metric) if group[0] in advice.ties]
        named = [f"{' = '.join(group)} (best in {_percent(advice, group[0])})" for group in groups]
        found.append((f"not shown to differ from {advice.best}", listed(named)))
    elif standing.worse:
        found.append(("shown", f"{advice.best} is better than {beaten(standing)}"))
    if standing.undefined:
        found.append(("undefined", f"the difference to {listed(standing.undefined)}, in most resamples"))
    cheaper = [n for n in tied if take in advice.cost and advice.cost.get(n, math.inf) < 0.9 * advice.cost[take]]
    if cheaper and advice.goal != "speed":
        least = min(cheaper, key=lambda name: advice.cost[name])
        found.append(
            ("cheaper", f"{least} takes {100 * advice.cost[least] / advice.cost[take]:.0f} % of its multiply-adds")
        )
    return [*found, *(("next", step) for step in advice.next)]


def scored(advice: Advice, judged: Judgement) -> str:
    """The score of what is taken, with its interval."""
    bounds = judged.bounds[advice.take].get(advice.metric)
    shown = "" if bounds is None else f" (95 % interval {bounds[0]:.4f} to {bounds[1]:.4f})"
    return f"{judged.scores[advice.take][advice.metric]:.4f}{shown}"


def _without_cost(names: Sequence[str], cost: Mapping[str, float], kinds: Mapping[str, str]) -> list[str]:
    """Those whose cost could be known and is not; a CRF's work is never counted."""
    return [name for name in names if name not in cost and kinds[name] != "crf"]


def _percent(advice: Advice, name: str) -> str:
    return f"{100 * advice.shares[name]:.0f} %"


def _shares(judged: Judgement, metric: str) -> dict[str, float]:
    """How often each result, or one with its numbers, is the best of those that define the metric; different ones
    that are equal in a resample share it.
    """
    sign, twins = -1 if lower_is_better(metric) else 1, judged.twins(metric)
    table = sign * np.stack([judged.drawn[group[0]][metric] for group in twins])  # (different results, resamples)
    table = table[:, ~np.isnan(table).all(0)]
    first = table == np.nanmax(table, 0)
    shares = ((first / first.sum(0)).mean(1) if table.size else np.zeros(len(twins))).tolist()
    return {name: share for group, share in zip(twins, shares, strict=True) for name in group}


def _surer(judged: Judgement, best: str, ties: Sequence[str], metric: str, kinds: Mapping[str, str]) -> list[str]:
    """What would tell the best from the results next to it."""
    steps = []
    alone = [name for name, seeds in judged.seeds.items() if seeds == 1 and kinds[name] != "ensemble"]
    if alone:
        steps.append(
            f"more seeds (params.yaml): {', '.join(alone[:4])}{', ...' if len(alone) > 4 else ''} "
            f"{'has' if len(alone) == 1 else 'have'} one, so that chance in training is in no interval"
        )
    for name in ties[:1]:
        difference = abs(judged.scores[best][metric] - judged.scores[name][metric])
        error = float(np.nanstd(judged.drawn[best][metric] - judged.drawn[name][metric]))
        pairs = sum(d.metric == metric and d.p is not None for d in judged.differences)
        sure = NormalDist().inv_cdf(1 - _LEVEL / (2 * max(pairs, 1)))  # standard errors, corrected as p is
        factor, unit = scale(metric)
        told = f"{factor * difference:.{digits(factor)}f}{unit}"
        times = (sure * error / difference) ** 2 if difference else math.inf
        if times > _HOPELESS:
            steps.append(f"nothing more for {name}: it is {told} behind, too little to be told apart")
        elif times > _ALONE:
            data = f"{times:.1f} times the test images and seeds"
            steps.append(f"to tell {name} apart, which is {told} behind, about {data}")
        else:
            steps.append(
                f"compare {best} and {name} alone, which is {told} behind: among {pairs} pairs it is nearly shown"
            )
    return steps
