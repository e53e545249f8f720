"""Time and memory of a comparison: 27 runs of 5 seeds on 500 images of 19 classes, all scores of the page.

python tests/bench/compare.py            # exit 1 above 20 s of one core or 1.5 GB
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
from threadpoolctl import threadpool_limits

from segpipe.metrics import Bins, Counts, Tables
from segpipe.metrics.chances import chances
from segpipe.metrics.comparison import differences
from segpipe.metrics.sample import measure

RUNS, SEEDS, IMAGES, CLASSES, BINS = 27, 5, 500, 19, 15
SCORES = (
    "acc", "macc_dataset", "miou_dataset", "miou_image", "miou_class", "miou_image_q1", "miou_image_q5",
    "share_iou_ge_0.5", "share_iou_ge_0.7", "ece_dataset", "nll_dataset",
)  # fmt: skip
SECONDS, MEGABYTES = 20.0, 1500


def tables(random: np.random.Generator) -> Tables:
    """Counts and calibration of one network."""
    tp, fp, fn = (random.integers(0, 1000, (IMAGES, CLASSES)) for _ in range(3))
    absent = random.random(tp.shape) < 0.4
    tp[absent], fn[absent] = 0, 0
    pixels = random.integers(0, 500, (IMAGES, BINS))
    correct = (pixels * random.random(pixels.shape)).astype(np.int64)
    sums = [random.random(IMAGES) * 1000 for _ in range(4)]
    bins = Bins(pixels, pixels * random.random(pixels.shape), correct, *sums)
    return Tables(Counts(tp, fp, fn, (tp + fn).sum(1), np.zeros(IMAGES, np.int64)), bins)


def main() -> None:
    """Compare all of them once."""
    random = np.random.default_rng(0)
    runs = {f"run{r}": [tables(random) for _ in range(SEEDS)] for r in range(RUNS)}
    groups = [f"{i:03d}" for i in range(IMAGES)]
    start = time.process_time()
    sample = measure(runs, groups, SCORES)
    measured = time.process_time()
    pairs = differences(sample)
    for metric in SCORES:
        chances(sample, metric)
    done = time.process_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"{RUNS} runs x {SEEDS} seeds x {IMAGES} images x {CLASSES} classes, {len(SCORES)} scores, {len(pairs)} "
        f"differences: {done - start:.1f} s of one core ({measured - start:.1f} s scores), {memory} MB"
    )
    if done - start > SECONDS or memory > MEGABYTES:
        sys.exit(f"wanted at most {SECONDS:g} s and {MEGABYTES} MB")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
