"""Do two result folders agree? Bytes on one kind of machine; elsewhere a test against the spread of retraining.

Another instruction set, thread count or library version changes the last bits of a sum, and training amplifies them
like another seed does. So elsewhere two honest scores of a result differ like those of two seeds: normally, with twice
the variance between seeds. That variance is pooled over the runs of one kind (runs, crf) in the folder that was made
here; the folder that is checked has no say in it. A difference is refused by Student's t, corrected for the number of
comparisons (Bonferroni), so that one honest folder in 20 is refused at most. Scores on test are compared. Results of a
kind with hardly a repetition are not, ensembles among them: too little is known of their spread.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from scipy import optimize, stats

from segpipe.core.errors import DataError
from segpipe.core.files import read_csv, read_json
from segpipe.core.outputs import digest_file

LEVEL = 0.05  # how often honest folders may be refused
FEWEST = 3  # degrees of freedom; with fewer, no error would be noticed
POWER = 0.95  # of what is said to be noticed
COMPARED = ("acc", "miou_dataset", "miou_image", "miou_class", "ece_dataset", "nll_dataset")
_SPLIT = "test"
Scores = dict[str, dict[str, float]]  # by result (a path or a name), its scores
_SCORES = Path("tables/scores.csv")
_PACKAGES = ("torch", "numpy", "opencv-python", "pillow", "matplotlib", "scipy")


def environment(threads: int) -> dict[str, Any]:
    """What bits depend on: processor, threads of torch, versions; nothing that names the machine."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
        "cores": os.cpu_count(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }


def compare(found: Path, reference: Path, threads: int) -> dict[str, Any]:
    """Files and scores of two result folders; `agrees` is the verdict, `differences` say where.

    threads: of torch, with which the found ones were made.
    """
    recorded = reference / "environment.json"
    same = recorded.is_file() and read_json(recorded) == environment(threads)
    if not (reference / "runs").is_dir() and (reference / _SCORES).is_file():
        return _compare_scores(found, reference, same=same)
    ours, theirs = _tracked(found), _tracked(reference)
    missing = [f"{name} is missing" for name in sorted(theirs.keys() - ours.keys())]
    extra = [f"{name} is not among the reference" for name in sorted(ours.keys() - theirs.keys())]
    changed = sorted(name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name])
    if same:
        differences = [f"{name} differs in its bytes" for name in changed]
        noticed: dict[str, float] | None = None
    else:
        differences, noticed = beyond_retraining(_headlines(found), _headlines(reference))
    problems = missing + extra + differences
    return {
        "noticed": noticed,
        "agrees": not problems,
        "same_machine": same,
        "files": len(ours),
        "unit": "files",
        "bytes_equal": len(ours.keys() & theirs.keys()) - len(changed),
        "differences": problems,
    }


def _compare_scores(found: Path, reference: Path, *, same: bool) -> dict[str, Any]:
    """The same of a profile that is kept as tables, from tables/scores.csv: a line for each result."""
    ours, theirs = _scores(found / _SCORES), _scores(reference / _SCORES)
    problems = [f"{name} is missing" for name in theirs.keys() - ours.keys()]
    problems += [f"{name} is not among the reference" for name in ours.keys() - theirs.keys()]
    equal = sum(ours[line] == theirs[line] for line in ours.keys() & theirs.keys())
    noticed: dict[str, float] | None = None
    if same:
        problems += [f"{name} differs" for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]]
    else:
        differences, noticed = beyond_retraining(ours, theirs)
        problems += differences
    return {
        "agrees": not problems, "same_machine": same, "files": len(ours), "unit": "results", "bytes_equal": equal,
        "differences": sorted(problems), "noticed": noticed,
    }  # fmt: skip


def _scores(path: Path) -> Scores:
    """By folder, the scores that are defined."""
    rows = read_csv(path)
    names = ("what", "kind", "loss", "folder")
    try:
        return {
            row["folder"].removeprefix("results/"): {k: float(v) for k, v in row.items() if k not in names and v}
            for row in rows
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no table of scores ({error}); run `segpipe report` again") from None


def _tracked(folder: Path) -> dict[str, str]:
    """sha256 of every file but the record of the machine."""
    names = (p for p in folder.rglob("*") if p.is_file() and p.name != "environment.json" and ".partial" not in p.name)
    return {p.relative_to(folder).as_posix(): digest_file(p) for p in names}


def _headlines(folder: Path) -> Scores:
    """The scores of every result on test."""
    paths = sorted([*folder.glob("*/*/headline.json"), *folder.glob("decided/*/*/headline.json")])
    return {p.parent.relative_to(folder).as_posix(): read_json(p).get(_SPLIT, {}) for p in paths}


@dataclass(frozen=True)
class Spread:
    """Of a score between seeds of one run: standard deviation, with its degrees of freedom."""

    deviation: float
    freedom: int

    @staticmethod
    def pooled(groups: Sequence[Sequence[float]]) -> Spread | None:
        """Of scores by run; None where no run has two seeds."""
        freedom = sum(len(values) - 1 for values in groups)
        squares = math.fsum((v - math.fsum(values) / len(values)) ** 2 for values in groups for v in values)
        return Spread(math.sqrt(squares / freedom), freedom) if freedom else None

    def bound(self, comparisons: int) -> float:
        """What a difference of two honest scores exceeds with probability `LEVEL` in all comparisons together."""
        return _quantile(self.freedom, comparisons) * math.sqrt(2) * self.deviation

    def noticed(self, comparisons: int) -> float:
        """The error of one score that is refused with probability `POWER`, were the deviation the true one."""
        return _shift(self.freedom, comparisons) * math.sqrt(2) * self.deviation


@lru_cache
def _quantile(freedom: int, comparisons: int) -> float:
    return float(stats.t.ppf(1 - LEVEL / (2 * comparisons), freedom))


@lru_cache
def _shift(freedom: int, comparisons: int) -> float:
    """The place of a noncentral t that exceeds the quantile with probability `POWER`."""
    quantile = _quantile(freedom, comparisons)
    missed = partial(stats.nct.cdf, quantile, freedom)
    return float(optimize.brentq(lambda place: missed(place) - (1 - POWER), 0, 20 * quantile))


def beyond_retraining(ours: Scores, theirs: Scores) -> tuple[list[str], dict[str, float]]:
    """Differences that retraining does not explain, and by kind and score the error that would be noticed.

    ours were made here. A result's kind is the first part of its name; results of one run are those whose names
    differ in the number at the end alone.
    """
    problems, spreads = [], dict[tuple[str, str], Spread]()
    pairs = dict[tuple[str, str], list[str]]()
    for name in sorted(ours.keys() & theirs.keys()):
        for metric in COMPARED:
            sides = [scores[name].get(metric) for scores in (ours, theirs)]
            defined = [side is not None and math.isfinite(side) for side in sides]
            if all(defined):
                pairs.setdefault((name.split("/")[0], metric), []).append(name)
            elif any(defined) or sides != [None, None]:
                problems.append(f"{name}: {metric} is {sides[0]} here and {sides[1]} there")
    for (kind, metric), names in pairs.items():
        groups: dict[str, list[float]] = defaultdict(list)
        for name in names:
            run, dash, _ = name.rpartition("-")
            groups[run if dash else name].append(ours[name][metric])
        spread = Spread.pooled(list(groups.values()))
        if spread is not None and spread.freedom >= FEWEST:
            spreads[kind, metric] = spread
    if not spreads:
        problems += _unequal(ours, theirs, pairs)
    comparisons = sum(len(pairs[key]) for key in spreads)
    for (kind, metric), spread in spreads.items():
        bound = spread.bound(comparisons)
        problems += [
            f"{name}: {metric} {ours[name][metric]:.4f} against {theirs[name][metric]:.4f}, bound {bound:.4f}"
            for name in pairs[kind, metric]
            if abs(ours[name][metric] - theirs[name][metric]) > bound
        ]
    return problems, {f"{kind} {metric}": spread.noticed(comparisons) for (kind, metric), spread in spreads.items()}


def _unequal(ours: Scores, theirs: Scores, pairs: Mapping[tuple[str, str], Sequence[str]]) -> list[str]:
    """What differs at all, where nothing says how much retraining moves."""
    if not pairs:
        return ["no result has a score in both folders"]
    changed = sorted({m for (_, m), names in pairs.items() for n in names if ours[n][m] != theirs[n][m]})
    return [
        f"{metric} differs, and too few runs have two seeds that would say how much retraining moves"
        for metric in changed
    ]


def _processor() -> str:
    """A hash of what /proc/cpuinfo says of model, instruction set and cache; the plain name elsewhere."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor()
    keys = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "cache size")
    lines = {line.split(":")[0].strip(): line for line in path.read_text().splitlines() if ":" in line}
    text = "\n".join(lines.get(key, "") for key in keys)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
