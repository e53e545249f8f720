"""Figures as SVG text: the same bytes for the same numbers, readable without a network."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

MOST = 12  # lines of one figure that a reader still tells apart
_BARS = 24  # classes whose bars fit beside each other
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")  # Okabe and Ito


def pyplot() -> Any:
    """matplotlib without a display, set so that bytes repeat."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "svg.hashsalt": "segpipe",  # ids inside the SVG must not be random
            "svg.fonttype": "none",
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "figure.constrained_layout.use": True,
        }
    )
    return plt


def svg_text(plt: Any, figure: Any) -> str:
    """The finished figure, closed."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    text = stream.getvalue()
    return text[text.index("<svg") :]


def curves(histories: Mapping[str, Sequence[Mapping[str, list[float]]]]) -> str:
    """Validation mIoU^D and training loss over the epochs; one colour a run, one line a seed."""
    plt = pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    for place, (name, seeds) in enumerate(histories.items()):
        for number, history in enumerate(seeds):
            label = name if number == 0 else None
            axes[0].plot(history["epoch"], history["val_miou_dataset"], **stroke(place), label=label, alpha=0.85)
            axes[1].plot(history["epoch"], history["train_loss"], **stroke(place), alpha=0.85)
    axes[0].set(xlabel="epoch", ylabel="val mIoU$^D$ (network grid)", ylim=(0, None))
    axes[1].set(xlabel="epoch", ylabel="training loss (its own scale)", ylim=(0, None))
    columns = 2 if len(histories) > len(COLORS) // 2 else 1
    axes[0].legend(frameon=False, fontsize=9 if columns == 1 else 7, ncols=columns, loc="best")
    return svg_text(plt, figure)


def class_bars(classes: Sequence[str], values: Mapping[str, Sequence[float | None]]) -> str:
    """Test IoU of each class (pooled over the images); one bar an entry, or a dot on a line a class where classes
    are too many for bars.
    """
    plt = pyplot()
    ticks = [name.replace("$", r"\$") for name in classes]
    if len(classes) > _BARS:
        figure, axis = plt.subplots(figsize=(9, 1 + 0.2 * len(classes)))
        for color, (name, row) in zip(_cycle(len(values)), values.items(), strict=True):
            places = [k for k, value in enumerate(row) if value is not None]
            axis.plot([row[k] for k in places], places, "o", color=color, alpha=0.8, markersize=5, label=name)
        axis.set_yticks(range(len(classes)), ticks, fontsize=8)
        axis.set(xlabel="test IoU$^D$", xlim=(-0.01, 1), ylim=(len(classes) - 0.5, -0.5))
        axis.legend(frameon=False, fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        return svg_text(plt, figure)
    figure, axis = plt.subplots(figsize=(9, 3.4))
    width = 0.84 / max(1, len(values))
    for number, (color, (name, row)) in enumerate(zip(_cycle(len(values)), values.items(), strict=True)):
        bars = [(k - 0.42 + width * (number + 0.5), value) for k, value in enumerate(row) if value is not None]
        axis.bar([x for x, _ in bars], [value for _, value in bars], width * 0.92, color=color, label=name)
    axis.set_xticks(range(len(classes)), ticks, rotation=20, ha="right")
    axis.set_xlim(-0.6, len(classes) - 0.4)
    axis.set(ylabel="test IoU$^D$", ylim=(0, 1))
    axis.grid(axis="x", visible=False)
    axis.legend(frameon=False, fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return svg_text(plt, figure)


def dots(
    names: Sequence[str], values: Sequence[Sequence[float]], bounds: Sequence[tuple[float, float] | None], label: str
) -> str:
    """One line an entry: its interval, a dot a seed, a bar at the mean."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(9, 0.5 + 0.34 * len(names)))
    for place, (color, row, ends) in enumerate(zip(_cycle(len(names)), values, bounds, strict=True)):
        if ends:
            axis.plot(ends, [place, place], color=color, linewidth=5, alpha=0.3, solid_capstyle="butt")
        axis.plot(row, [place] * len(row), "o", color=color, alpha=0.8)
        if row:
            axis.plot([sum(row) / len(row)], [place], "|", color=color, markersize=16, markeredgewidth=2)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlabel(label)
    return svg_text(plt, figure)


def mathematical(title: str) -> str:
    """mIoU^D with its average raised, for matplotlib."""
    return re.sub(r"\^([DIC])\b", r"$^\1$", title)


def stroke(place: int) -> dict[str, Any]:
    """Colour and line style of the line at a place: other styles once the colours are used up."""
    return {"color": COLORS[place % len(COLORS)], "linestyle": ("-", "--", ":")[place // len(COLORS) % 3]}


def _cycle(number: int) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(number)]
