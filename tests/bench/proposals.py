"""What `segpipe init --budget` proposes against what `segpipe init` writes without it, at equal time of training.

    python tests/bench/proposals.py FOLDER [--minutes 5] [--seeds 2] [--only camvid,chase_db1] [--into runs/proposals]

FOLDER holds CamVid/, CHASE_DB1/, USGRA/ and EBC3/ as their publishers give them (EBC3 and USGRA as PNG). One loss,
0.5*ce + 0.5*jml, for both. A training that is there already is not repeated. Prints, for each data set, the
scores of every seed on test, the IoU of every class, and what was expected to be hard.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUN = "runs={net: {loss: 0.5*ce + 0.5*jml}}"


def where(folder, name):
    """How `segpipe init` is told of a data set."""
    if name == "ebc3":
        return ["ebc3", "--images", folder / "EBC3", "--masks", folder / "EBC3"]
    if name == "usgra":
        return ["usgra", "--images", folder / "USGRA/images", "--masks", folder / "USGRA/masks"]
    return [name, "--source", folder / {"camvid": "CamVid", "chase_db1": "CHASE_DB1"}[name]]


def segpipe(*words, cwd=None):
    subprocess.run([sys.executable, "-m", "segpipe", *map(str, words)], cwd=cwd, check=True, stdout=sys.stderr)


def init(target, given, *options):
    """A workspace with one run; prepared."""
    if not (target / "params.yaml").exists():
        words = [word for option in (RUN, "ensemble={}", "crf.runs=[]", *options) for word in ("--set", option)]
        segpipe("init", *given, "--into", target, *words)
    for stage in ("download", "prepare", "stats"):
        segpipe(stage, cwd=target)


def pace(target):
    """Seconds of an epoch of the default."""
    times = []
    for epochs in (1, 3):
        began = time.perf_counter()
        options = ["--set", f"train.epochs={epochs}", "--set", "train.warmup_epochs=0"]
        segpipe("train", "--run", "net", *options, cwd=target)
        times.append(time.perf_counter() - began)
    return (times[1] - times[0]) / 2


def trained(target, seeds, epochs=None):
    """The scores of every seed."""
    if epochs is not None:
        params = (target / "params.yaml").read_text(encoding="utf-8").splitlines()
        lines = [f"  epochs: {epochs}" if line.startswith("  epochs:") else line for line in params]
        (target / "params.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = []
    for seed in range(seeds):
        if not (target / f"results/runs/net-{seed}/metrics.json").exists():
            for stage in ("train", "predict", "evaluate"):
                segpipe(stage, "--run", "net", "--seed", seed, cwd=target)
        found.append(json.loads((target / f"results/runs/net-{seed}/metrics.json").read_text(encoding="utf-8"))["test"])
    return found


def minutes(target, seeds):
    """Of a training, on average."""
    files = [target / f".segpipe/minutes/net-{seed}.txt" for seed in range(seeds)]
    return statistics.fmean(float(file.read_text(encoding="utf-8").split()[1]) for file in files)


def line(name, what, target, scores, seeds):
    each = ", ".join(f"{score['miou_dataset']:.3f}" for score in scores)
    of_seeds = zip(*(score["per_class"]["iou_dataset"] for score in scores), strict=True)
    classes = [statistics.fmean(value or 0 for value in one) for one in of_seeds]
    named = ", ".join(f"{n} {v:.2f}" for n, v in zip(scores[0]["per_class"]["names"], classes, strict=True))
    mean = statistics.fmean(score["miou_dataset"] for score in scores)
    print(f"| {name} | {what} | {minutes(target, seeds):.1f} | {mean:.3f} ({each}) | {named} |", flush=True)


def main(folder, into, length, seeds, only):
    into.mkdir(parents=True, exist_ok=True)
    print("| data | settings | minutes | mIoU^D on test | IoU^D of classes |", flush=True)
    print("| --- | --- | ---: | ---: | --- |", flush=True)
    for name in only:
        given = where(folder, name)
        fitted, plain = into / f"{name}-fitted", into / f"{name}-plain"
        # 15 % of a budget are for all that is not training.
        budget = f"{length * seeds / 0.85:.1f}m"
        init(fitted, [*given, "--budget", budget], f"seeds={list(range(seeds))}")
        line(name, "proposed", fitted, trained(fitted, seeds), seeds)
        init(plain, given, f"seeds={list(range(seeds))}")
        epochs = None
        if not (plain / "results/runs/net-0/metrics.json").exists():
            epochs = max(1, round(60 * minutes(fitted, seeds) / pace(plain)))
        line(name, "without --budget", plain, trained(plain, seeds, epochs), seeds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seeds", type=int, default=2, choices=(2, 3, 5))
    parser.add_argument("--only", default="camvid,chase_db1,usgra,ebc3")
    parser.add_argument("--into", type=Path, default=Path("runs/proposals"))
    given = parser.parse_args()
    main(given.folder.resolve(), given.into.resolve(), given.minutes, given.seeds, given.only.split(","))
