"""Metrics: one table of integer counts per image and class, and every score as a function of it.

counts = metrics.count(labels, target, num_classes=8)
scores = metrics.summarize(counts)        # {"miou_dataset": ..., "miou_image": ..., ...}
"""

from segpipe.metrics.calibration import Bins, calibration
from segpipe.metrics.counts import Counts, count
from segpipe.metrics.scores import names, per_image_iou, summarize

__all__ = ["Bins", "Counts", "calibration", "count", "names", "per_image_iou", "summarize"]
