"""Speed of the metrics beside peers, in one run, as ratios.

    python tests/bench/metrics.py            # about two minutes; peers where they can be imported
    python tests/bench/metrics.py --check    # exit 1 when a bound is missed in the median

One thread. Label maps in blobs of 32 pixels, 1 % void, the prediction moved by three pixels. Rounds go
through all candidates in turn; a ratio is taken inside its round; shown are median and range.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import statistics
import subprocess
import sys
import time
import tracemalloc

import cv2
import numpy as np
import torch

from segpipe import metrics
from segpipe.metrics.evaluation import Evaluation

SIZES = {"2048 x 1024, 19 classes": (1024, 2048, 19), "512 x 512, 150 classes": (512, 512, 150)}
BOUNDS = {"masked bincount": 3.0, "sklearn": 20.0, "torch.max(0)": 3.0}


def maps(height, width, classes):
    random = np.random.default_rng(0)
    coarse = random.integers(0, classes, (height // 32, width // 32)).astype(np.uint8)
    target = np.kron(coarse, np.ones((32, 32), np.uint8))
    labels = np.roll(target, 3, 1)
    target[random.random(target.shape) < 0.01] = 255
    return labels, target


def masked_bincount(labels, target, classes):
    """The idiom of FCN's score.py, copied into a hundred repositories."""
    keep = (target >= 0) & (target < classes)
    return np.bincount(classes * target[keep].astype(int) + labels[keep], minlength=classes**2).reshape(
        classes, classes
    )


def counters(labels, target, classes):
    """By name, a function that counts this pair."""
    found = {
        "segpipe": lambda: metrics.confusion(labels[None], target[None], classes),
        "masked bincount": lambda: masked_bincount(labels, target, classes),
    }
    keep = target != 255
    from sklearn.metrics import confusion_matrix

    found["sklearn"] = lambda: confusion_matrix(target[keep], labels[keep], labels=np.arange(classes))
    ids = torch.from_numpy(labels.astype(np.int64))[None], torch.from_numpy(target.astype(np.int64))[None]
    for name, module in (("smp get_stats", "segmentation_models_pytorch"), ("torchmetrics confusion", "torchmetrics")):
        try:
            tool = importlib.import_module(module)
        except ImportError:
            continue
        if module == "torchmetrics":
            matrix = tool.ConfusionMatrix("multiclass", num_classes=classes, ignore_index=255)
            found[name] = lambda matrix=matrix: matrix(*ids)
        else:
            found[name] = lambda tool=tool: tool.metrics.get_stats(
                *ids, mode="multiclass", num_classes=classes, ignore_index=255
            )
    return found


def rounds(candidates, number, slow=()):
    """{name: seconds of each round}; what is `slow` is measured in the first two rounds."""
    found = {name: [] for name in candidates}
    for i in range(number):
        for name, run in candidates.items():
            if name in slow and i > 1:
                continue
            start = time.perf_counter()
            run()
            found[name].append(time.perf_counter() - start)
    return found


def ratios(times, ours):
    return {
        name: [t / o for t, o in zip(values, times[ours], strict=False)]
        for name, values in times.items()
        if name != ours
    }


def show(title, times, ours, pixels, missed):
    own = statistics.median(times[ours])
    print(f"\n{title}: segpipe {1000 * own:.2f} ms, {pixels / own / 1e6:.0f} Mpixel/s")
    for name, values in ratios(times, ours).items():
        middle = statistics.median(values)
        bound = BOUNDS.get(name)
        note = "" if bound is None else f"  wanted {bound:g}: {'ok' if middle >= bound else 'MISSED'}"
        print(f"  {name:<24}{middle:8.1f} times our time ({min(values):.1f} to {max(values):.1f}){note}")
        if bound is not None and middle < bound:
            missed.append(f"{title}: {name} {middle:.1f} < {bound:g}")


def large_counts():
    """Exact beyond 2^24 pixels of one class."""
    side = 5000
    target = np.zeros((1, side, side), np.uint8)
    assert metrics.count(target, target, 2).tp[0].tolist() == [side * side, 0]
    print(f"\n{side * side} pixels of one class counted exactly (float32 stops at {2**24})")


def memory():
    """Peak memory of an evaluation after 20 and after 200 images."""
    random = np.random.default_rng(0)
    probs = random.dirichlet(np.ones(8), (96, 128)).transpose(2, 0, 1).astype(np.float32)
    target = random.integers(0, 8, (96, 128)).astype(np.uint8)
    peaks = {}
    for number in (20, 200):
        tracemalloc.start()
        collected = Evaluation(8)
        for _ in range(number):
            collected.add(target, probs=probs)
        peaks[number] = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    pixels = 180 * (probs.nbytes + target.nbytes) / 2**20
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"\nevaluation: peak {peaks[20]:.1f} MiB after 20 images, {peaks[200]:.1f} MiB after 200, whose pixels are ")
    print(f"{pixels:.0f} MiB; the whole process {process} MiB")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    missed = []
    for title, (height, width, classes) in SIZES.items():
        times = rounds(counters(*maps(height, width, classes), classes), given.rounds, slow=("sklearn",))
        show(f"counting {title}", times, "segpipe", height * width, missed)
    scores = np.random.default_rng(0).random((19, 1024, 2048), dtype=np.float32)
    tensor = torch.from_numpy(scores)
    candidates = {
        "segpipe": lambda: metrics.label_and_confidence(scores),
        "torch.max(0)": lambda: tensor.max(0),
        "numpy argmax and max": lambda: (scores.argmax(0), scores.max(0)),
    }
    times = rounds(candidates, given.rounds, slow=("numpy argmax and max",))
    show("label and confidence, 19 x 1024 x 2048", times, "segpipe", 1024 * 2048, missed)
    large_counts()
    memory()
    if missed and given.check:
        sys.exit("\n".join(missed))


if __name__ == "__main__":
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    import os

    if any(os.environ.get(name) != value for name, value in threads.items()):
        sys.exit(subprocess.run([sys.executable, *sys.argv], env={**os.environ, **threads}, check=False).returncode)
    main()
