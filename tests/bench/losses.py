"""Speed and memory of the losses, forward and backward, as ratios to F.cross_entropy of the same run.

    python tests/bench/losses.py            # the table of docs/losses.md, about four minutes
    python tests/bench/losses.py --check    # exit 1 when a bound is missed

Logits 4 x 21 x 512 x 512 float32, blocks of eight classes, 3 % void; random, or as a trained network
gives them (right but for 7 % of the pixels). Rounds go through all losses in turn; a ratio is taken
inside its round; shown are the median and the range. Peers are measured when they can be imported.
"""

from __future__ import annotations

import argparse
import importlib
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional

from segpipe import losses

SHAPE = (4, 21, 512, 512)
BOUNDS = {
    "jml": 1.5, "dice": 1.5, "tversky": 1.5, "0.25*ce + 0.75*jml": 2.0, "focal": 1.7, "ohem": 1.7, "lmp": 1.7,
}  # fmt: skip
OTHERS = ["ce", "dml", "topk", "generalized_dice", "lovasz", "0.25*ce(label_smoothing=0.1) + 0.75*jml(average=class)"]
MEMORY = 1.4
REFERENCE = "Lovász by its definition"


def data(kind):
    random = torch.Generator().manual_seed(0)
    n, _, h, w = SHAPE
    blocks = torch.randint(0, 8, (n, h // 32, w // 32), generator=random)
    target = blocks.repeat_interleave(32, 1).repeat_interleave(32, 2)
    logits = torch.randn(SHAPE, generator=random)
    if kind == "trained":
        seen = torch.where(
            torch.rand(n, h, w, generator=random) < 0.07, torch.randint(0, 8, (n, h, w), generator=random), target
        )
        logits.scatter_add_(1, seen[:, None], torch.full((n, 1, h, w), 6.0))
    target[torch.rand(n, h, w, generator=random) < 0.03] = 255
    return logits, target


def lovasz_by_definition(logits, target):
    """As the paper's Algorithm 1 reads: sort all errors of each present class, difference the Jaccard losses."""
    probs, keep = logits.softmax(1).movedim(1, -1).reshape(-1, SHAPE[1]), target.flatten() != 255
    probs, labels = probs[keep], target.flatten()[keep]
    found = []
    for k in range(SHAPE[1]):
        positive = (labels == k).float()
        if positive.sum() == 0:
            continue
        errors, order = (positive - probs[:, k]).abs().sort(descending=True)
        ranked = positive[order]
        jaccard = 1 - (ranked.sum() - ranked.cumsum(0)) / (ranked.sum() + (1 - ranked).cumsum(0))
        jaccard[1:] = jaccard[1:] - jaccard[:-1]
        found.append(errors @ jaccard)
    return torch.stack(found).mean()


def peers():
    """{name: loss} of other libraries that are installed."""
    found = {}
    try:
        smp = importlib.import_module("segmentation_models_pytorch").losses
        for name in ("DiceLoss", "JaccardLoss", "TverskyLoss", "FocalLoss", "LovaszLoss"):
            found[f"smp {name}"] = getattr(smp, name)("multiclass", ignore_index=255)
    except ImportError:
        pass
    try:
        monai = importlib.import_module("monai.losses")
        shared = {"to_onehot_y": True, "softmax": True}

        def clipped(criterion):
            return lambda z, y: criterion(z, y.clamp(max=20)[:, None])  # it knows no void

        found["MONAI DiceLoss"] = clipped(monai.DiceLoss(batch=True, **shared))
        found["MONAI FocalLoss"] = clipped(monai.FocalLoss(to_onehot_y=True, use_softmax=True))
        found["MONAI GeneralizedDiceLoss"] = clipped(monai.GeneralizedDiceLoss(batch=True, **shared))
    except ImportError:
        pass
    try:
        kornia = importlib.import_module("kornia.losses")
        found["kornia FocalLoss"] = kornia.FocalLoss(alpha=None, gamma=2.0, reduction="mean", ignore_index=255)
        found["kornia DiceLoss"] = kornia.DiceLoss(average="macro", ignore_index=255)
        found["kornia TverskyLoss"] = kornia.TverskyLoss(0.3, 0.7, ignore_index=255)
    except ImportError:
        pass
    return found


def subjects():
    ours = {spec: losses.create(spec) for spec in (*BOUNDS, *OTHERS)}
    return {
        "F.cross_entropy": lambda z, y: functional.cross_entropy(z, y, ignore_index=255),
        **ours, REFERENCE: lovasz_by_definition, **peers(),
    }  # fmt: skip


def step(loss, logits, target):
    logits.grad = None
    loss(logits, target).backward()


def times(threads, kind, rounds):
    """{name: ratios to cross entropy, one a round} and the seconds of cross entropy."""
    torch.set_num_threads(threads)
    logits, target = data(kind)
    logits.requires_grad_()
    found, base = {name: [] for name in subjects()}, []
    for turn in range(rounds + 1):  # the first warms up
        for name, loss in subjects().items():
            start = time.perf_counter()
            step(loss, logits, target)
            seconds = time.perf_counter() - start
            if name == "F.cross_entropy":
                base.append(seconds)
            if turn:
                found[name].append(seconds / base[-1])
    return found, statistics.median(base[1:])


def memory(name):
    """Extra peak of resident memory of one step in a fresh process, in MiB."""
    script = (
        f"import sys; sys.path.insert(0, {str(__file__.rsplit('/', 1)[0])!r}); import losses as b; b.report({name!r})"
    )
    return float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)


def peak():
    """Peak of resident memory in MiB (Linux; getrusage would tell the parent's)."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def report(name):
    torch.set_num_threads(1)
    logits, target = data("random")
    logits.requires_grad_()
    loss = subjects()[name]
    step(
        loss, logits[:1, :, :16, :16].detach().requires_grad_(), target[:1, :16, :16]
    ) if "definition" not in name else None
    before = peak()
    step(loss, logits, target)
    print(peak() - before)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    settings = [(threads, kind) for threads in (1, 2) for kind in ("random", "trained")]
    columns = {setting: times(*setting, options.rounds) for setting in settings}
    base = memory("F.cross_entropy")
    print("| loss | " + " | ".join(f"{t} thread{'s' * (t > 1)}, {k}" for t, k in settings) + " | extra memory |")
    print("| :- |" + " -: |" * (len(settings) + 1))
    missed = []
    for name in subjects():
        cells = []
        for setting in settings:
            ratios = columns[setting][0][name]
            median = statistics.median(ratios)
            cells.append(f"{median:.2f} ({min(ratios):.2f}–{max(ratios):.2f})")
            if name in BOUNDS and median > BOUNDS[name]:
                missed.append(f"{name}: {median:.2f} at {setting}, wanted <= {BOUNDS[name]}")
        extra = memory(name) / base
        if (name in BOUNDS and extra > MEMORY) or (name == "lovasz" and extra > 2):
            missed.append(f"{name}: memory {extra:.2f}")
        print(f"| {name} | " + " | ".join(cells) + f" | {extra:.2f} |")
    for setting in settings:
        ours, theirs = (statistics.median(columns[setting][0][name]) for name in ("lovasz", REFERENCE))
        if ours > theirs * (0.5 if setting[1] == "random" else 1):
            missed.append(f"lovasz: {ours / theirs:.2f} of the reference at {setting}")
    seconds = ", ".join(f"{columns[s][1]:.2f} s ({s[0]} threads, {s[1]})" for s in settings)
    print(f"\ncross entropy: {seconds}; {base:.0f} MiB", file=sys.stderr)
    if missed:
        print("missed: " + "; ".join(missed), file=sys.stderr)
        sys.exit(options.check)


if __name__ == "__main__":
    main()
