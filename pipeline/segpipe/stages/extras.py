"""What a training started by hand does beyond DVC's stage: make its inputs, draw a first picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpipe.stages import download, prepare, stats
from segpipe.stages.context import Context


def make_upstream(context: Context) -> None:
    """Run what is missing or stale before training: download, prepare, stats."""
    for name, module in (("download", download), ("prepare", prepare), ("stats", stats)):
        path = context.path(name)
        with context.writing(path, wait=True):  # another training may be making it right now
            if not context.is_fresh(name, path):
                context.log(f"making {path}")
                module.run(context)


def overlay(
    context: Context, state: dict[str, Any], config: dict[str, Any], arrays: dict[str, Any], index: dict[str, Any]
) -> str:
    """A picture of some val images: input, label, prediction; its path."""
    import numpy as np

    from segpipe.core.files import write_bytes
    from segpipe.core.upsample import upsample
    from segpipe.data.files import png_bytes
    from segpipe.data.normalize import curve
    from segpipe.reporting.pictures import strip
    from segpipe.training import inference, trained

    predictor = inference.Predictor(trained.network(config, state), curve(config["normalization"]), inference.Options())
    rows = []
    step = max(1, len(arrays["val_images"]) // 4)
    for image, labels in list(zip(arrays["val_images"][::step], arrays["val_labels"][::step], strict=True))[:4]:
        logits = predictor.logits(image[None])[0]
        predicted = upsample(logits, labels.shape).argmax(1)[0].numpy().astype(np.uint8)
        rows.append(strip(image, [labels, predicted], index["palette"]))
    path = Path("runs/overlays") / f"{context.key}.png"
    write_bytes(path, png_bytes(np.concatenate(rows)))
    return str(path)
