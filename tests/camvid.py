"""CamVid end to end: `python tests/camvid.py DIR`. Two runs, reduced size, few epochs, real files."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHANGES = (
    "prepare.height=120", "prepare.width=160", "train.epochs=5", "seeds=[0]",
    "runs={ce: {loss: ce}, ce_jml: {loss: 0.25*ce + 0.75*jml}}", "crf.runs=[]",
)  # fmt: skip


def majority_class(counts: Path) -> float:
    """mIoU^D of predicting the most frequent class everywhere: its share over the number of classes."""
    pixels: dict[str, int] = {}
    for line in counts.read_text().splitlines()[1:]:
        split, _, _, _, name, tp, _, fn = line.split(",")
        if split == "test":
            pixels[name] = pixels.get(name, 0) + int(tp) + int(fn)
    return max(pixels.values()) / sum(pixels.values()) / len(pixels)


def main(source: Path) -> None:
    """Make the workspace, run it, and ask for a result that clearly beats the majority class."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "camvid"
        init = ["segpipe", "init", "camvid", "--source", str(source), "--into", str(folder)]
        subprocess.run([*init, *(word for change in CHANGES for word in ("--set", change))], check=True)
        subprocess.run(["dvc", "repro"], cwd=folder, check=True)
        for run in ("ce-0", "ce_jml-0"):
            results = folder / "results/runs" / run
            test = json.loads((results / "headline.json").read_text())["test"]
            floor = majority_class(results / "counts.csv")
            print(f"{run}: mIoU^D {test['miou_dataset']:.3f}, majority class {floor:.3f}, acc {test['acc']:.3f}")
            assert test["miou_dataset"] > 4 * floor
            assert test["acc"] > 0.6
        height, width = (
            json.loads((folder / "data/prepare/index.json").read_text())["splits"]["test"][0]["geometry"][key]
            for key in ("original_height", "original_width")
        )
        assert (height, width) == (360, 480)
    print(f"CamVid took {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
