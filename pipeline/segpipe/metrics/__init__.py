"""Metrics: one table of integer counts per image and class, and every score as a function of it.

counts = metrics.count(labels, target, num_classes=8)
scores = metrics.summarize(counts)        # {"miou_dataset": ..., "miou_image": ..., ...}

Names load their module when first used: params.yaml names measures, and is checked without OpenCV and SciPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segpipe.core.argmax import label_and_confidence
    from segpipe.metrics.boundary import bf_scores, boundary_counts, surface_distances, trimap, trimap_counts
    from segpipe.metrics.comparison import Difference, compare, holm
    from segpipe.metrics.confidence import Bins, Calibration, calibration
    from segpipe.metrics.conventions import CONVENTIONS
    from segpipe.metrics.counts import Counts, confusion, count
    from segpipe.metrics.jackknife import Tables, Units, intervals
    from segpipe.metrics.raters import ged, thresholded_dice
    from segpipe.metrics.scores import foreground, names, per_image, per_pair, summarize, weighted

_WHERE = {
    "segpipe.core.argmax": ("label_and_confidence",),
    "segpipe.metrics.boundary": ("bf_scores", "boundary_counts", "surface_distances", "trimap", "trimap_counts"),
    "segpipe.metrics.confidence": ("Bins", "Calibration", "calibration"),
    "segpipe.metrics.comparison": ("Difference", "compare", "holm"),
    "segpipe.metrics.conventions": ("CONVENTIONS",),
    "segpipe.metrics.counts": ("Counts", "confusion", "count"),
    "segpipe.metrics.jackknife": ("Tables", "Units", "intervals"),
    "segpipe.metrics.raters": ("ged", "thresholded_dice"),
    "segpipe.metrics.scores": ("foreground", "names", "per_image", "per_pair", "summarize", "weighted"),
}
_MODULE_OF = {name: module for module, names_ in _WHERE.items() for name in names_}

__all__ = [
    "CONVENTIONS", "Bins", "Calibration", "Counts", "Difference", "Tables", "Units", "bf_scores",
    "boundary_counts", "calibration", "compare", "confusion", "count", "foreground", "ged", "holm",
    "intervals", "label_and_confidence", "names", "per_image", "per_pair", "summarize",
    "surface_distances", "thresholded_dice", "trimap", "trimap_counts", "weighted",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'segpipe.metrics' has no attribute '{name}'")
    return getattr(import_module(_MODULE_OF[name]), name)
