"""Draw the figures of docs/: `python docs/figures.py`, after `dvc repro` (one shows its test images)."""

from __future__ import annotations

from pathlib import Path

import error_rates
import matplotlib as mpl
import numpy as np
import torch

mpl.use("Agg")
from matplotlib import pyplot as plt

from segpipe.core.argmax import label_and_confidence
from segpipe.data import catalog
from segpipe.data.dataset import Index, read_target
from segpipe.data.files import read_image
from segpipe.data.maps import Maps
from segpipe.data.predictions import read_probs
from segpipe.losses import functional
from segpipe.losses.pooled import lmp_weights

FOLDER = Path(__file__).parent / "figures"
STYLE = {
    "figure.dpi": 120,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.8,
}


def slopes(loss, x, t):
    """d loss / d x at each x for the target t of one pixel."""
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    sum(loss(v, torch.tensor(t, dtype=torch.float64)) for v in leaf).backward()
    return leaf.grad.numpy()


def cross_entropy(x, t):
    return -(t * x.log() + (1 - t) * (1 - x).log())


def soft_dice(x, t):
    return 1 - 2 * x * t / (x + t)


def soft_jaccard(x, t):
    return 1 - x * t / (x + t - x * t)


def jml(x, t):
    return functional.jml(x.reshape(1), t.reshape(1))


LOSSES = {"cross entropy": cross_entropy, "soft Dice": soft_dice, "soft Jaccard": soft_jaccard, "JML": jml}
COLORS = {"cross entropy": "#555555", "soft Dice": "#1b7f9c", "soft Jaccard": "#c4572e", "JML": "#5a8f29"}


def gradients():
    """Value around t = 0.7, gradient around it, and gradient for tiny t."""
    _, axes = plt.subplots(1, 3, figsize=(11, 3.4), constrained_layout=True)
    x = np.linspace(0.02, 0.98, 193)
    for name, loss in LOSSES.items():
        values = np.array([float(loss(torch.tensor(v), torch.tensor(0.7))) for v in x])
        axes[0].plot(x, values - (values.min() if name == "cross entropy" else 0), color=COLORS[name], label=name)
        axes[1].plot(x, slopes(loss, x, 0.7), color=COLORS[name])
    axes[0].set(title="value, soft label t = 0.7", xlabel="p", ylim=(0, 1.05))
    axes[0].legend(frameon=False, fontsize=8)
    axes[1].set(title="gradient by p, t = 0.7", xlabel="p", ylim=(-4, 4))
    for axis in axes[:2]:
        axis.axvline(0.7, color="#bbbbbb", linewidth=1, linestyle=":")
    axes[1].axhline(0, color="#bbbbbb", linewidth=1)
    t = np.logspace(-4, 0, 60)
    for name, loss in LOSSES.items():
        axes[2].loglog(t, [abs(slopes(loss, [v / 2], v)[0]) for v in t], color=COLORS[name])
    axes[2].set(title="|gradient| at p = t / 2, tiny t", xlabel="t")
    plt.savefig(FOLDER / "gradients.png")
    plt.close()


def lmp():
    """Weight of each pixel, times n, by the rank of its loss."""
    losses = torch.sort(torch.distributions.Exponential(1.0).icdf((torch.arange(200.0) + 0.5) / 200)).values[None]
    valid = torch.ones_like(losses, dtype=torch.bool)
    _, axes = plt.subplots(1, 2, figsize=(8, 3.2), constrained_layout=True, sharey=True)
    for p in (1.0, 1.2, 1.7, 3.0, float("inf")):
        axes[0].plot(200 * lmp_weights(losses, valid, p=p, ratio=0.1)[0], label=f"p = {p:g}")
    for ratio in (0.02, 0.1, 0.3, 1.0):
        axes[1].plot(200 * lmp_weights(losses, valid, p=1.7, ratio=ratio)[0], label=f"m = {ratio:g} n")
    for axis, title in zip(axes, ("m = 0.1 n", "p = 1.7"), strict=True):
        axis.set(title=title, xlabel="pixels by rising loss")
        axis.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("weight × n (the mean has 1)")
    plt.savefig(FOLDER / "lmp_weights.png")
    plt.close()


def refinement(key="ce_jml-0", number=3):
    """Image, label, prediction before and after the CRF, and what changed, on evenly spaced test images."""
    root = FOLDER.parents[1]
    index = Index.read(root / "data/prepare")
    card, rows = catalog.card(index.dataset), index.splits["test"]
    refined = Maps(root / f"data/crf/{key}/test_labels")
    palette = np.array([*card.palette, *[(0, 0, 0)] * (256 - len(card.palette))], np.uint8)
    titles = ("image", "label", "before", "after", "green: mended, red: spoilt")
    _, axes = plt.subplots(number, 5, figsize=(11, 1.72 * number), constrained_layout=True)
    for line, i in zip(axes, [(2 * k + 1) * len(rows) // (2 * number) for k in range(number)], strict=True):
        row, source = rows[i], root / "data/download" / index.dataset
        target = read_target(source, index, row, "test")
        before = label_and_confidence(read_probs(root / f"data/predict/{key}", "test", row, i))[0]
        after, valid = refined[i], target != 255
        change = np.full((*target.shape, 3), 235, np.uint8)
        change[valid & (before != target) & (after == target)] = (46, 139, 87)
        change[valid & (before == target) & (after != target)] = (205, 51, 51)
        pictures = (read_image(source / row.image), palette[target], palette[before], palette[after], change)
        for axis, picture, title in zip(line, pictures, titles, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
            if line[0] is axes[0, 0]:
                axis.set_title(title, fontsize=9)
    plt.savefig(FOLDER / "crf.png")
    plt.close()


def coverage():
    """Coverage of the 95 % intervals of mIoU^D and NLL over groups of images, by seeds, runs and spread."""
    rows = [
        row
        for row in error_rates.read()
        if row["score"] in ("miou_dataset", "nll_dataset") and "run=()" in row["world"]
    ]
    panels = (
        ("2 runs", lambda row: row["runs"] == "2" and row["noisy"] == "1.0"),
        ("4 and 10 runs", lambda row: row["runs"] in ("4", "10") and row["noisy"] == "1.0"),
        ("pair twice as noisy, 4 and 10 runs", lambda row: row["runs"] in ("4", "10") and row["noisy"] == "2.0"),
    )
    _, axes = plt.subplots(1, 3, figsize=(11, 3.2), constrained_layout=True, sharey=True)
    colors = {"1": "#777777", "2": "#c4572e", "3": "#d9a441", "5": "#1b7f9c", "10": "#5a8f29"}
    for axis, (title, chosen) in zip(axes, panels, strict=True):
        axis.axhspan(0.93, 0.98, color="#eeeeee")
        axis.axhline(0.95, color="#999999", linewidth=1)
        for place, (seeds, color) in enumerate(colors.items()):
            of = [row for row in rows if chosen(row) and row["seeds"] == seeds and row["training"] == "0.1"]
            x = [float(row["groups"]) * 1.04 ** (place - 2) for row in of]
            if of:
                label = "1 seed, these networks" if seeds == "1" else f"{seeds} seeds"
                axis.plot(x, [float(row["covered"]) for row in of], "o", color=color, markersize=4, label=label)
        axis.set(title=title, xscale="log", xlabel="groups of images", xlim=(4.2, 100), ylim=(0.85, 1.0))
        axis.set_xticks([5, 10, 20, 40, 80], ["5", "10", "20", "40", "80"])
        axis.minorticks_off()
    axes[0].set_ylabel("coverage of 95 % intervals")
    axes[0].legend(frameon=False, fontsize=8, loc="lower right")
    plt.savefig(FOLDER / "coverage.png")
    plt.close()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        gradients()
        lmp()
        refinement()
        coverage()
