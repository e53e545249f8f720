"""What a training started by hand does beyond DVC's stage: make its inputs, draw a first picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segpipe.config.context import Context
from segpipe.core.files import write_bytes
from segpipe.core.upsample import upsample
from segpipe.data.dataset import Index
from segpipe.data.files import png_bytes
from segpipe.data.normalize import curve
from segpipe.data.prepared import stored
from segpipe.report.pictures import strip
from segpipe.stages import download, prepare, stats
from segpipe.training import inference, trained

_SHOWN = 4  # val images of the picture


def make_upstream(context: Context) -> None:
    """Run what is missing or stale before training: download, prepare, stats."""
    for name, stage in (("download", download), ("prepare", prepare), ("stats", stats)):
        path = context.path(name)
        with context.writing(path, wait=True):  # another training may be making it right now
            if not context.is_fresh(name, path):
                context.log(f"making {path}")
                stage.run(context)


def overlay(context: Context) -> str:
    """A picture of some val images under the trained network: input, label, prediction; its path."""
    prepared = context.path("prepare")
    index = Index.read(prepared)
    images, labels = (stored(prepared, index, "val", kind) for kind in ("images", "labels"))
    network, config = trained.load(context.path("train"))
    predictor = inference.Predictor(network, curve(config["normalization"]), inference.Options())
    rows = []
    for i in list(range(0, len(images), max(1, len(images) // _SHOWN)))[:_SHOWN]:
        logits = predictor.logits(images[i][None])[0]
        predicted = upsample(logits, labels[i].shape).argmax(1)[0].numpy().astype(np.uint8)
        rows.append(strip(images[i], [labels[i], predicted], index.palette))
    path = Path("runs/overlays") / f"{context.key}.png"
    widest = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, widest - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    write_bytes(path, png_bytes(np.concatenate(padded)))
    return str(path)
