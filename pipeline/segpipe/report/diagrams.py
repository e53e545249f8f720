"""Figures of statistics: how far behind the best, reliability, risk and coverage, trimaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from segpipe.report.figures import COLORS, pyplot, stroke, svg_text

Points = Sequence[Sequence[float]]


_OF_WORD = {"better": COLORS[1], "practically equal": COLORS[0], "the same": COLORS[0]}  # undecided is grey


def behind(rows: Mapping[str, Sequence[float]], words: Mapping[str, str], factor: float, title: str) -> str:
    """How far each result is behind the best: value, low and high as a point on a line, coloured by the verdict."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(9, 0.9 + 0.3 * len(rows)))
    for place, (name, row) in enumerate(rows.items()):
        value, low, high = (factor * number for number in row)
        color = _OF_WORD.get(words[name], "#777777")
        axis.plot([low, high], [place, place], color=color, linewidth=2, solid_capstyle="butt")
        axis.plot([value], [place], "o", color=color, markersize=5)
    axis.axvline(0, color="black", linewidth=1)
    axis.set_yticks(range(len(rows)), [f"{name}: {_verdict(words[name])}" for name in rows])
    axis.invert_yaxis()
    axis.set(xlabel=title, ylim=(len(rows) - 0.5, -0.5))
    return svg_text(plt, figure)


def _verdict(word: str) -> str:
    return {"better": "worse", "the same": "the same numbers"}.get(word, word)


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
