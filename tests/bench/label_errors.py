"""How many planted label errors does the audit's ranking find?

    python tests/bench/label_errors.py [WORKSPACE]

Makes a workspace with profile `audit` (some six minutes on 2 cores), unless one is given that `dvc
repro` has finished, runs `segpipe audit`, and compares label_suspects.csv with truth.json, which no
stage and no command reads. A region hits an error when it holds the planted label in the same image and
half of its box lies in the error's; the error is named when the region also predicts the true class.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from segpipe.data import catalog

CUTS = (10, 20, 40, 80)


def area(box):
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])


def hits(row, error, classes):
    box = [int(row[side]) for side in ("top", "left", "bottom", "right")]
    common = [max(box[0], error["box"][0]), max(box[1], error["box"][1]),
              min(box[2], error["box"][2]), min(box[3], error["box"][3])]  # fmt: skip
    return row["label"] == classes[error["planted"]] and area(common) >= area(box) / 2


def measure(workspace):
    """Number of regions, errors, and {k: (regions that hit, errors hit, errors named) among the first k}."""
    with open(workspace / "runs/audit/label_suspects.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    truth = json.loads((workspace / "data/download/scenes/truth.json").read_text())
    classes = catalog.card("scenes").classes
    errors = [(image, error) for image, items in truth.items() for error in items]
    hit, named = [], []
    for row in rows:
        found = {n for n, (image, e) in enumerate(errors) if image == row["image"] and hits(row, e, classes)}
        hit.append(found)
        named.append({n for n in found if classes[errors[n][1]["true"]] == row["predicted"]})
    table = {
        cut: (sum(map(bool, hit[:cut])), len(set().union(*hit[:cut])), len(set().union(*named[:cut])))
        for cut in (*CUTS, len(rows))
    }
    return len(rows), errors, table


def main():
    if len(sys.argv) > 1:
        workspace = Path(sys.argv[1])
    else:
        workspace = Path(tempfile.mkdtemp()) / "scenes"
        subprocess.run(["segpipe", "init", "scenes", "--profile", "audit", "--into", workspace], check=True)
        subprocess.run(["dvc", "repro"], cwd=workspace, check=True)
    subprocess.run(["segpipe", "audit"], cwd=workspace, check=True)
    regions, errors, table = measure(workspace)
    large = [e for _, e in errors if e["pixels"] >= 100]
    print(f"\n{len(errors)} planted errors, {len(large)} of at least 100 pixels; {regions} suspect regions\n")
    print("| first regions | precision | recall | recall, class named right |\n| -: | -: | -: | -: |")
    for cut, (right, found, named) in table.items():
        print(f"| {cut} | {right / cut:.3f} | {found / len(errors):.3f} | {named / len(errors):.3f} |")


if __name__ == "__main__":
    main()
