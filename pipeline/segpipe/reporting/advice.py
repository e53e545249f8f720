"""What to take and what to run next: the best result for a goal, how sure that is, and what would make it surer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.metrics.bootstrap import Resampling, Tables, resampled
from segpipe.metrics.comparison import digits, enough, lower_is_better, pretty, scale
from segpipe.reporting.judgement import Judgement

GOALS = {
    "D": "miou_dataset",
    "I": "miou_image",
    "C": "miou_class",
    "worst": "miou_image_q5",
    "calibration": "ece_dataset",
    "likelihood": "nll_dataset",
    "speed": "miou_dataset",  # of those that are not shown to be worse than the best, the cheapest
}
_SURE = 1.96  # standard errors
_HOPELESS = 25  # times the data: more, and the difference is too small to be worth it


@dataclass(frozen=True)
class Advice:
    """The result to take for a metric.

    shares: by result, the share of resamples in which it is the best. cost: multiply-adds of an image by result,
    where it is known; a CRF's is not.
    """

    goal: str
    metric: str
    take: str
    best: str
    ties: list[str]
    shares: dict[str, float]
    cost: dict[str, float]
    next: list[str]


def advise(
    goal: str,
    judged: Judgement,
    runs: Mapping[str, Sequence[Tables]],
    groups: Sequence[str],
    cost: Mapping[str, float],
    missing: Sequence[str],
) -> Advice:
    """The advice for a goal.

    Args:
        goal: one of GOALS.
        judged: all results compared by the goal's metric.
        runs: the tables of each result's seeds.
        groups: of each image.
        cost: multiply-adds of an image, where they are known.
        missing: what nobody has tried yet, in words.
    """
    metric = GOALS[goal]
    order, ties = judged.order(metric), judged.ties(metric)
    best = order[0]
    cheap = [name for name in (best, *ties) if name in cost]
    take = min(cheap, key=lambda name: (cost[name], order.index(name))) if goal == "speed" and cheap else best
    drawn = _drawn(runs, groups, metric, judged.resamples)
    return Advice(
        goal, metric, take, best, ties, _shares(drawn, metric), dict(cost),
        [*_surer(judged, runs, drawn, best, ties, metric), *missing],
    )  # fmt: skip


def words(advice: Advice, judged: Judgement) -> list[str]:
    """The advice in sentences."""
    title, take = pretty(advice.metric), advice.take
    bounds = judged.bounds[take].get(advice.metric)
    shown = "" if bounds is None else f" (95 % interval {bounds[0]:.4f} to {bounds[1]:.4f})"
    why = "the cheapest that is not shown to be worse than the best" if advice.goal == "speed" else "the best"
    lines = [f"take {take}: {title} {judged.scores[take][advice.metric]:.4f}{shown}, {why}"]
    if judged.caution:
        lines.append(f"how sure: {judged.caution}")
    else:
        lines.append(
            f"how sure: best in {advice.shares[advice.best]:.0%} of {judged.resamples} resamples of {judged.units} "
            f"{judged.unit}s{' and the seeds' if any(max(d.seeds) > 1 for d in judged.differences) else ''}"
            f"{'' if take == advice.best else f', which is {advice.best}'}"
        )
    if advice.ties:
        shares = (f"{name} (best in {advice.shares.get(name, 0):.0%})" for name in advice.ties)
        lines.append(f"not shown to differ from {advice.best}: {', '.join(shares)}")
    else:
        lines.append(f"{advice.best} is shown to be better than every other result")
    cheaper = [n for n in advice.ties if take in advice.cost and advice.cost.get(n, math.inf) < 0.9 * advice.cost[take]]
    if cheaper and advice.goal != "speed":
        least = min(cheaper, key=lambda name: advice.cost[name])
        lines.append(f"cheaper: {least} takes {advice.cost[least] / advice.cost[take]:.0%} of its multiply-adds")
    return [*lines, *(f"next: {step}" for step in advice.next)]


def _drawn(
    runs: Mapping[str, Sequence[Tables]], groups: Sequence[str], metric: str, resamples: int
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """The metric of each result in the same resamples."""
    resampling = Resampling.of(groups, enough(resamples, len(runs)))
    found = {name: resampled(seeds, resampling, [metric]) for name, seeds in runs.items()}
    return {name: np.asarray(scores[metric]) for name, scores in found.items() if metric in scores}


def _shares(drawn: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]], metric: str) -> dict[str, float]:
    """How often each result is the best."""
    sign = -1 if lower_is_better(metric) else 1
    table = np.nan_to_num(sign * np.stack(list(drawn.values())), nan=-np.inf)
    wins = np.bincount(table.argmax(0), minlength=len(drawn)) / table.shape[1]
    return dict(zip(drawn, wins.tolist(), strict=True))


def _surer(
    judged: Judgement,
    runs: Mapping[str, Sequence[Tables]],
    drawn: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]],
    best: str,
    ties: Sequence[str],
    metric: str,
) -> list[str]:
    """What would tell the best from the results next to it."""
    steps = []
    alone = [name for name, seeds in runs.items() if len(seeds) == 1 and not name.startswith("ensemble")]
    if alone:
        steps.append(
            f"more seeds (params.yaml): {', '.join(alone[:4])}{', ...' if len(alone) > 4 else ''} have one, so that "
            "chance in training is in no interval"
        )
    for name in ties[:1]:
        difference = abs(judged.scores[best][metric] - judged.scores[name][metric])
        error = float(np.nanstd(drawn[best] - drawn[name]))
        factor, unit = scale(metric)
        told = f"{factor * difference:.{digits(factor)}f}{unit}"
        times = (_SURE * error / difference) ** 2 if difference else math.inf
        if times > _HOPELESS:
            steps.append(f"nothing more for {name}: it is {told} behind, too little to be told; take what is cheaper")
        else:
            data = f"{max(times, 1):.1f} times the test images and seeds"
            steps.append(f"to tell {name} apart, which is {told} behind, about {data}")
    return steps
