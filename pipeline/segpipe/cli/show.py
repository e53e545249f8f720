"""Command show: random samples with their labels over them, and how often each class occurs."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from segpipe.cli import options
from segpipe.cli.source import Source, opened
from segpipe.core.errors import DataError

_COLUMNS = 2  # samples side by side
_PER_LEGEND_ROW = 6


def show(
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="The split to draw from.")] = "train",
    number: Annotated[int, typer.Option(help="Samples to draw.", min=1, max=64)] = 8,
    seed: Annotated[int, typer.Option(help="Which samples.", min=0)] = 0,
    source: Source = None,
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("runs/show"),
    settings: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Draw random samples with their labels, and the classes' frequencies."""
    import numpy as np

    from segpipe.config.context import start
    from segpipe.core import files
    from segpipe.data import catalog

    context = start(overrides=settings, quiet=as_json)
    card = catalog.card(context.params.download.dataset)
    with opened(context, card, source) as data:
        if data.broken:
            raise next(iter(data.broken.values()))
        samples = [sample for sample in data.samples if sample.split == split]
        if not samples:
            raise DataError(f"{data.shown} holds no {split} image; choose another --split")
        chosen = np.random.default_rng(seed).permutation(len(samples))[:number]
        drawn = [samples[i] for i in sorted(chosen)]
        sheet = _sheet(data.root, drawn, card, context.params.prepare.labels)
    written = [out / f"samples_{split}.png"]
    files.write_bytes(written[0], sheet)
    prepared = context.path("prepare")
    if source is None and context.is_fresh("prepare", prepared):
        written.append(out / "frequencies.png")
        files.write_bytes(written[1], _frequencies(prepared))
    if as_json:
        print(json.dumps({"files": [str(path) for path in written], "samples": [s.id for s in drawn]}))
        return
    for path in written:
        print(path)
    if len(written) == 1:
        print("next: segpipe prepare, for the classes' frequencies")


def _sheet(root: Path, samples: Sequence[Any], card: Any, choice: str) -> bytes:
    """Each sample as it is and with its labels over it, and a legend of the classes that are there."""
    import numpy as np
    from matplotlib.patches import Patch

    from segpipe.core.void import VOID
    from segpipe.data import catalog
    from segpipe.data.files import read_image
    from segpipe.report.figures import pyplot
    from segpipe.report.pictures import blend

    plt = pyplot()
    there = np.zeros(256, bool)
    pairs = []
    for sample in samples:
        image, labels = read_image(root / sample.image, card.reading), catalog.read_labels(root, sample, card, choice)
        if image.shape[:2] != labels.shape:
            raise DataError(f"{root / sample.image} and its mask differ in size; run `segpipe check`")
        there[np.unique(labels)] = True
        pairs.append(np.concatenate([image, blend(image, labels, card.palette)], 1))
    columns = min(_COLUMNS, len(pairs))
    rows = -(-len(pairs) // columns)
    aspect = float(np.median([pair.shape[0] / pair.shape[1] for pair in pairs]))
    present = [k for k in range(card.num_classes) if there[k]]
    below = 0.3 + 0.24 * -(-(len(present) + 1) // _PER_LEGEND_ROW)
    width = 6.4 * columns
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, rows * (6.4 * aspect + 0.25) + below), squeeze=False, dpi=110
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, sample, pair in zip(axes.flat, samples, pairs, strict=False):
        axis.imshow(pair)
        axis.set_title(sample.id, fontsize=9, loc="left", pad=3, parse_math=False)
    marks = [Patch(color=_color(card.palette[k]), label=f"{k} {card.classes[k]}") for k in present]
    if there[VOID]:
        marks.append(Patch(color="black", label="void"))
    legend = figure.legend(handles=marks, loc="outside lower center", ncols=_PER_LEGEND_ROW, frameon=False, fontsize=9)
    for words in legend.get_texts():
        words.set_parse_math(False)
    return _png(plt, figure)


def _frequencies(prepared: Path) -> bytes:
    """For each split the share of labelled pixels and of images that a class takes, on logarithmic axes."""
    import numpy as np

    from segpipe.data.catalog import SPLITS
    from segpipe.data.dataset import Index
    from segpipe.data.prepared import stored
    from segpipe.report.figures import pyplot

    index = Index.read(prepared)
    plt, classes, palette = pyplot(), index.classes, index.palette
    marks = dict(zip(SPLITS, ("o", "s", "^"), strict=True))
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 1.4 + 0.26 * len(classes)), sharey=True, width_ratios=(3, 2), dpi=110
    )
    for split in SPLITS:
        labels = stored(prepared, index, split, "labels")
        table = np.stack([np.bincount(one.ravel(), minlength=256)[: len(classes)] for one in labels])
        share, images = table.sum(0) / max(table.sum(), 1), (table > 0).mean(0)
        face = {"color": "#0072b2"} if split == "train" else {"color": "#777777", "markerfacecolor": "none"}
        for axis, values in ((left, share), (right, images)):
            axis.plot(np.where(values > 0, values, np.nan), range(len(classes)), marks[split], label=split, **face)
    left.set(xscale="log", xlabel="share of labelled pixels (log)")
    right.set(xlabel="share of images that hold it", xlim=(-0.03, 1.03))
    left.set_yticks(range(len(classes)), classes)
    for tick in left.get_yticklabels():
        tick.set_parse_math(False)
    for tick, color in zip(left.get_yticklabels(), palette, strict=True):
        tick.set_bbox({"facecolor": "none", "edgecolor": _color(color), "linewidth": 1.5, "pad": 1.5})
    left.invert_yaxis()
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False)
    return _png(plt, figure)


def _color(rgb: Sequence[int]) -> str:
    return f"#{bytes(rgb).hex()}"


def _png(plt: Any, figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    plt.close(figure)
    return stream.getvalue()
