"""Figures of statistics: critical differences, reliability, risk and coverage, trimaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from segpipe.metrics.comparison import Ranking
from segpipe.report.figures import COLORS, pyplot, stroke, svg_text

Points = Sequence[Sequence[float]]


def critical_difference(ranking: Ranking) -> str:
    """Average ranks on a line, 1 (best) on the left; bars join runs that Nemenyi's test does not tell apart."""
    plt = pyplot()
    order = sorted(ranking.ranks, key=lambda name: ranking.ranks[name])
    cliques, half = ranking.cliques(), (len(order) + 1) // 2
    first_label = 0.5 + 0.28 * len(cliques)
    height = first_label + 0.38 * half
    figure, axis = plt.subplots(figsize=(9, 0.9 + 0.55 * height))
    last = max(len(order), 2)
    axis.set(xlim=(0.35, last + 0.65), ylim=(-height, 1.15))
    axis.axis("off")
    axis.plot([1, last], [0, 0], color="black", linewidth=1.2)
    for tick in range(1, last + 1):
        axis.plot([tick, tick], [0, 0.12], color="black", linewidth=1)
        axis.text(tick, 0.18, str(tick), ha="center", va="bottom", fontsize=9)
    axis.plot([1, 1 + ranking.critical_difference], [0.8, 0.8], color="black", linewidth=2)
    axis.text(1, 0.88, f"critical difference {ranking.critical_difference:.2f}", va="bottom", fontsize=9)
    for place, name in enumerate(order):
        rank, left = ranking.ranks[name], place < half
        row = place if left else len(order) - 1 - place
        y, edge = -(first_label + 0.38 * row), 0.95 if left else last + 0.05
        axis.plot([rank, rank, edge], [0, y, y], color="#000000", linewidth=0.7)
        text = f"{name} ({rank:.2f})"
        axis.text(edge + (-0.03 if left else 0.03), y, text, ha="right" if left else "left", va="center", fontsize=9)
    for number, clique in enumerate(cliques):
        ends = [ranking.ranks[clique[0]] - 0.04, ranking.ranks[clique[-1]] + 0.04]
        y = -(0.22 + 0.28 * number)
        axis.plot(ends, [y, y], color=COLORS[0], linewidth=4, solid_capstyle="round")
    return svg_text(plt, figure)


def reliability(entries: Mapping[str, tuple[Points, Points]]) -> str:
    """Accuracy over confidence of each entry: (as predicted, after temperature or empty); the diagonal is perfect."""
    plt = pyplot()
    columns = min(4, len(entries))
    rows = -(-len(entries) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(9, 2.5 * rows), squeeze=False, sharex=True, sharey=True)
    for axis, (name, (before, after)) in zip(axes.flat, entries.items(), strict=False):
        axis.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
        for points, color, label in ((before, COLORS[1], "as predicted"), (after, COLORS[0], "after temperature")):
            if points:
                _, confidence, accuracy = zip(*points, strict=True)
                axis.plot(confidence, accuracy, "o-", color=color, markersize=3, label=label)
        axis.set_title(name, fontsize=9)
        axis.set(xlim=(0, 1), ylim=(0, 1))
    for axis in axes.flat[len(entries) :]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy")
    for axis in axes[-1, :]:
        axis.set_xlabel("confidence")
    if axes[0, 0].get_legend_handles_labels()[0]:
        axes[0, 0].legend(frameon=False, fontsize=7, loc="upper left")
    return svg_text(plt, figure)


def lines(entries: Mapping[str, Points], xlabel: str, ylabel: str, *, log: bool = False) -> str:
    """One line of (x, y) an entry."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(9, 3.2))
    drawn = {name: points for name, points in entries.items() if points}
    for number, (name, points) in enumerate(drawn.items()):
        x, y = zip(*points, strict=True)
        axis.plot(x, y, marker="o", markersize=3, label=name, **stroke(number))
    if log:
        axis.set_xscale("log", base=2)
        ticks = sorted({point[0] for points in drawn.values() for point in points})
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
    axis.set(xlabel=xlabel, ylabel=ylabel)
    if drawn:
        axis.legend(frameon=False, fontsize=8, ncols=2)
    return svg_text(plt, figure)
