"""Claims of profiles that were kept without counts of each image, judged by what was kept: `python docs/rejudged.py`.

Kept are each seed's scores and an interval of the bootstrap over images and seeds of earlier versions. That interval is
taken for the chance of images alone, which is too wide rather than too narrow, since it held a part of the seeds' too;
the chance of trainings is taken from the seeds' scores, as `metrics.comparison` does. Where the seeds' scores of a
metric were not kept, nothing is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import claims
import numpy as np

from segpipe.core.files import read_csv, read_json, write_json
from segpipe.metrics.behrens_fisher import Freedom
from segpipe.metrics.comparison import EQUIVALENCE, word_of
from segpipe.metrics.defined import Floats
from segpipe.metrics.error import Error
from segpipe.metrics.jackknife import Units
from segpipe.metrics.sample import Sample, Spread
from segpipe.report.runs import networks_of

_NORMAL = 1.959964  # standard errors in half of a 95 % interval of the bootstrap
Scores = dict[str, dict[str, float]]  # by result and seed


def again(profile: str) -> list[dict[str, Any]]:
    """The rows of a profile's claims.json, judged anew; those that were judged from counts stay."""
    kept = claims.kept(profile)
    lines = read_csv(kept / "tables" / "scores.csv")
    return [_judged(row, lines) if "bootstrap" in row else row for row in read_json(kept / "claims.json")]


def _judged(row: dict[str, Any], lines: Sequence[dict[str, str]]) -> dict[str, Any]:
    """One claim; `bootstrap` keeps the interval, verdict and number of groups of before."""
    before = row["bootstrap"]
    rest = {k: v for k, v in row.items() if k not in ("low", "high", "p", "word", "claim", "bootstrap")}
    images = ((before["high"] - before["low"]) / 2 / _NORMAL) ** 2
    scores = _scores(lines, row["metric"])
    names = row["better"], row["other"]
    claim = "networks" if "" in map(networks_of, names) or len(set(map(networks_of, names))) == 1 else "methods"
    error = Error(images, 0.0, Freedom(before["units"] - 1))
    if row["value"] == 0 and before["low"] == before["high"] == 0:
        judged = {"low": 0.0, "high": 0.0, "p": 1.0, "word": "the same"}
    elif claim == "methods" and not scores:
        judged = {"low": None, "high": None, "p": None, "word": "undecided: its seeds' scores were not kept"}
    else:
        if claim == "methods":
            error = _with_trainings(error, scores, row["metric"], *names)
        low, high = error.around(row["value"], 0.05)
        judged = {"low": low, "high": high, "p": error.p(row["value"]), "word": word_of(low, high, EQUIVALENCE)}
    return {**rest, **judged, "claim": claim, "bootstrap": before}


def _scores(lines: Sequence[dict[str, str]], metric: str) -> Scores:
    """Of every run, its seeds' scores; none where the metric was not kept."""
    found: Scores = {}
    for line in lines:
        if line["kind"] == "run" and line.get(metric):
            found.setdefault(line["what"], {})[line["folder"].rpartition("-")[2]] = float(line[metric])
    return found


def _with_trainings(error: Error, scores: Scores, metric: str, first: str, second: str) -> Error:
    """The variance between seeds beside that of images."""
    sides = [scores[networks_of(name)] for name in (first, second)]  # a CRF adds no training
    seeds = [seed for seed in sides[0] if seed in sides[1]]
    each = np.array([sides[0][seed] - sides[1][seed] for seed in seeds])
    table: dict[str, dict[str, Floats]] = {
        run: {metric: np.array(list(values.values()))[:, None]} for run, values in scores.items()
    }
    named = {run: tuple(values) for run, values in scores.items()}
    sample = Sample(table, named, {}, {run: run for run in scores}, (metric,), Units.of(["a", "b"]), 0, {})
    spread = Spread.of(sample, metric)
    own = Error(error.images, float(each.var(ddof=1)) / len(each), error.freedom_with(len(each) - 1))
    return own.at_least(2 * spread.value / len(each) if not math.isnan(spread.value) else math.nan, spread.freedom)


if __name__ == "__main__":
    for path in sorted(claims.RESULTS.rglob("claims.json")):
        write_json(path, again(path.parent.name))
