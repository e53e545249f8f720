"""What a data set of some size costs: time, memory and disk of every stage.

    python tests/campaign/scale.py WORKSPACE [--images 400] [--side 512] [--classes 150] [--epochs 15] ...

WORKSPACE is a new folder. The images are drawn: regions of about twelve classes in each, a colour and a grain of its
own to every class. Half of the images are for test, a tenth is for val. Memory is what a stage allocates at most
(anonymous pages, sampled; the pages of files that it maps are the system's cache and not counted).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

IN_AN_IMAGE = 12  # classes
STAGES = (
    ("download",), ("prepare",), ("stats",), ("train", "--run", "ce"), ("predict", "--run", "ce"),
    ("crf", "--run", "ce"), ("ensemble", "--method", "average"), ("ensemble", "--method", "majority"),
    ("evaluate", "--run", "ce"), ("evaluate", "--run", "ce", "--crf"), ("evaluate", "--ensemble", "average"),
    ("evaluate", "--ensemble", "majority"), ("report",),
)  # fmt: skip
MEMBERS = "members: [ce-0, ce-0-crf]"
PARAMS = {
    "seeds": "[0]", "runs": "{ce: {loss: ce}}", "crf.runs": "[ce]", "crf.tune.points": "1", "crf.tune.images": "1",
    "crf.tune.unary_scale": "[1.0]", "crf.tune.pos_w": "[3.0]", "crf.tune.bi_w": "[4.0]",
    "crf.tune.bi_xy_std": "[30.0]", "crf.tune.bi_rgb_std": "[13.0]", "predict.batch_size": "4",
    "train.augment.color": "0.0",
    "ensemble": f"{{average: {{method: average, {MEMBERS}}}, majority: {{method: majority, {MEMBERS}}}}}",
}  # fmt: skip


def draw(folder: Path, images: int, side: int, classes: int) -> None:
    """Images and masks: polygons of random classes over one another."""
    random = np.random.default_rng(0)
    colors, grain = random.integers(30, 226, (classes, 3)), random.uniform(1, 6, classes)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for i in range(images):
        own = random.choice(classes, min(classes, IN_AN_IMAGE), replace=False)
        mask = np.full((side, side), own[0], np.uint8)
        for label in random.choice(own, 3 * IN_AN_IMAGE):
            middle, reach = random.uniform(0, side, 2), random.uniform(side / 20, side / 4)
            angles = np.sort(random.uniform(0, 2 * np.pi, 9))
            corners = middle + reach * np.stack([np.cos(angles), np.sin(angles)], 1)
            cv2.fillPoly(mask, [corners.astype(np.int32)], int(label))
        noise = random.normal(0, 1, (side, side, 1)).astype(np.float32)
        image = colors[mask] + cv2.GaussianBlur(noise, (0, 0), 1)[..., None] * 2 * grain[mask][..., None]
        cv2.imwrite(str(folder / f"images/{i:05}.jpg"), image.clip(0, 255).astype(np.uint8))
        cv2.imwrite(str(folder / f"masks/{i:05}.png"), mask)


def segpipe(*words: str, cwd: Path) -> tuple[float, float]:
    """Seconds that a command takes, and the peak of its and its children's anonymous memory in bytes."""
    began = time.monotonic()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(("segpipe", *words), cwd=cwd, **pipes) as process:
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            time.sleep(0.05)
        said = process.stdout.read() if process.stdout else ""
    if process.returncode:
        sys.exit(f"segpipe {words[0]} failed: {said[-2000:]}")
    return time.monotonic() - began, peak


def anonymous(pid: int) -> float:
    """Bytes of memory that belong to a process and its children alone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    own = next((line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")), "0")
    return 1024 * float(own) + sum(anonymous(int(child)) for child in children)


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Make the workspace, run its stages in turn, print a table and leave `scale.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    for name, default in (
        ("images", 400),
        ("side", 512),
        ("classes", 150),
        ("epochs", 15),
        ("stride", 4),
        ("crop", 256),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    source = given.workspace.with_name(f"{given.workspace.name}-source")
    draw(source, given.images, given.side, given.classes)
    names = ",".join(f"c{k}" for k in range(given.classes))
    sides = {f"prepare.{name}": str(given.side) for name in ("height", "width")}
    own = {"train.epochs": str(given.epochs), "model.stem_stride": str(given.stride)}
    own["train.augment.crop"] = f"[{given.crop}, {given.crop}]"
    settings = [word for item in {**PARAMS, **sides, **own}.items() for word in ("--set", "=".join(item))]
    split = ("--val", "0.1", "--test", "0.5", "--classes", names)
    segpipe(
        "init", "drawn", "--images", str((source / "images").resolve()), "--masks", str((source / "masks").resolve()),
        "--into", str(given.workspace), *split, *settings, cwd=Path.cwd(),
    )  # fmt: skip
    table, before = {}, 0
    for words in STAGES:
        seconds, peak = segpipe(*words, cwd=given.workspace)
        now = sum(size(given.workspace / top) for top in ("data", "results"))
        found = {"seconds": seconds, "peak_mb": peak / 1e6, "disk_mb": (now - before) / 1e6}
        table[" ".join(words)] = {name: round(value, 1) for name, value in found.items()}
        print(f"{' '.join(words):40} {seconds:8.1f} s {peak / 1e6:8.0f} MB {(now - before) / 1e6:9.1f} MB", flush=True)
        before = now
    (given.workspace / "scale.json").write_text(json.dumps({**vars(given), "stages": table}, default=str, indent=1))


if __name__ == "__main__":
    main()
