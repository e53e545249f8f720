"""Do two result folders agree? Bytes on one kind of machine, elsewhere a bound drawn from the seeds.

Another instruction set, thread count or library version changes the last bits of a sum; training
amplifies them like another seed does. So elsewhere a score may move by `SEED_FACTOR` times the
spread between seeds, but by `SMALLEST_BOUND` at least, since two seeds estimate a spread poorly.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from segpipe.core.errors import DataError
from segpipe.core.files import read_csv, read_json
from segpipe.core.outputs import digest_file

SEED_FACTOR = 6.0
SMALLEST_BOUND = 0.06
BOUNDED = ("acc", "miou_dataset", "miou_image", "miou_class")
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
    else:
        differences = _beyond_bound(found, reference, [n for n in changed if n.endswith("headline.json")])
    problems = missing + extra + differences
    return {
        "agrees": not problems,
        "same_machine": same,
        "files": len(ours),
        "unit": "files",
        "bytes_equal": len(ours.keys() & theirs.keys()) - len(changed),
        "differences": problems,
    }


def _compare_scores(found: Path, reference: Path, *, same: bool) -> dict[str, Any]:
    """The same of a profile that is kept as tables: every score of tables/scores.csv, a line a seed."""
    ours, theirs = _scores(found / _SCORES), _scores(reference / _SCORES)
    problems = [f"{' '.join(line)} is missing" for line in theirs.keys() - ours.keys()]
    problems += [f"{' '.join(line)} is not among the reference" for line in ours.keys() - theirs.keys()]
    groups: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for (what, _), row in theirs.items():
        for metric in BOUNDED:
            if metric in row:
                groups["test", metric, what].append(row[metric])
    bounds, equal = _pooled(groups), 0
    for line in ours.keys() & theirs.keys():
        equal += ours[line] == theirs[line]
        for metric in ours[line].keys() | theirs[line].keys() if same else BOUNDED:
            a, b = ours[line].get(metric), theirs[line].get(metric)
            bound = 0.0 if same else bounds["test", metric]
            if (a is None) != (b is None) or (a is not None and b is not None and abs(a - b) > bound):
                problems.append(f"{' '.join(line)}: {metric} {a} against {b}, bound {bound:.3f}")
    return {
        "agrees": not problems, "same_machine": same, "files": len(ours), "unit": "results", "bytes_equal": equal,
        "differences": sorted(problems),
    }  # fmt: skip


def _scores(path: Path) -> dict[tuple[str, str], dict[str, float]]:
    """By name and folder, the scores that are defined."""
    rows = read_csv(path)
    names = ("what", "kind", "loss", "folder")
    try:
        return {
            (row["what"], Path(row["folder"]).name): {k: float(v) for k, v in row.items() if k not in names and v}
            for row in rows
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no table of scores ({error}); run `segpipe report` again") from None


def _tracked(folder: Path) -> dict[str, str]:
    """sha256 of every file but the record of the machine."""
    names = (p for p in folder.rglob("*") if p.is_file() and p.name != "environment.json" and ".partial" not in p.name)
    return {p.relative_to(folder).as_posix(): digest_file(p) for p in names}


def _beyond_bound(found: Path, reference: Path, names: list[str]) -> list[str]:
    bounds = _bounds(reference)
    problems = []
    for name in names:
        ours, theirs = read_json(found / name), read_json(reference / name)
        for split in theirs:
            for metric in BOUNDED:
                a, b = ours.get(split, {}).get(metric), theirs[split].get(metric)
                bound = bounds[split, metric]
                if (a is None) != (b is None) or (a is not None and abs(a - b) > bound):
                    problems.append(f"{name}: {split} {metric} {a} against {b}, bound {bound:.3f}")
    return problems


def _bounds(reference: Path) -> dict[tuple[str, str], float]:
    """By split and metric: the pooled spread between seeds of one run, times the factor."""
    groups: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for path in sorted(reference.glob("runs/*/headline.json")):
        run = path.parent.name.rpartition("-")[0]
        for split, scores in read_json(path).items():
            for metric in BOUNDED:
                if scores.get(metric) is not None:
                    groups[split, metric, run].append(scores[metric])
    return _pooled(groups)


def _pooled(groups: dict[tuple[str, str, str], list[float]]) -> dict[tuple[str, str], float]:
    """By split and metric, the bound from the scores of each run's seeds."""
    bounds: dict[tuple[str, str], float] = defaultdict(lambda: SMALLEST_BOUND)
    variances: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (split, metric, _), values in groups.items():
        if len(values) > 1:
            mean = math.fsum(values) / len(values)
            variances[split, metric].append(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
    for key, items in variances.items():
        bounds[key] = max(SMALLEST_BOUND, SEED_FACTOR * math.sqrt(math.fsum(items) / len(items)))
    return bounds


def _processor() -> str:
    """A hash of what /proc/cpuinfo says of model, instruction set and cache; the plain name elsewhere."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor()
    keys = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "cache size")
    lines = {line.split(":")[0].strip(): line for line in path.read_text().splitlines() if ":" in line}
    text = "\n".join(lines.get(key, "") for key in keys)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
