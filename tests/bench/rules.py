"""What reading labels by a rule costs beside arg max, as ratios of CPU time in one run; one thread.

    python tests/bench/rules.py [--rounds 9]
    python tests/bench/rules.py --large

Probabilities of 11 classes at 360 x 480 as of a trained network. Aims: weights and prior at most 1.3, rankseg at most
4 times arg max; weights fitted to 100 images in at most 20 s. --large: the most memory while rules are fitted, judged
and applied to 60 images of 150 classes at 512 x 512; aim: 2 GB.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

import numpy as np

from segpipe.core.opencv import cv2
from segpipe.data.geometry import softmax
from segpipe.refine.chain import Chain, decide
from segpipe.refine.evidence import Evidence, Held, Shown

SIZE, CLASSES, REPEATS = (360, 480), 11, 20


def pictures(number):
    random = np.random.default_rng(0)
    for _ in range(number):
        scores = random.normal(0, 1, (CLASSES, *SIZE)).astype(np.float32)
        smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), 9) * 40 for plane in scores])
        probs = np.exp(smooth - smooth.max(0))
        probs /= probs.sum(0)
        drawn = (random.random(SIZE) > np.cumsum(probs, 0)).sum(0).clip(0, CLASSES - 1).astype(np.uint8)
        yield Shown(np.zeros((*SIZE, 3), np.uint8), probs, drawn)


def cpu(function):
    began = time.process_time()
    for _ in range(REPEATS):
        function()
    return (time.process_time() - began) / REPEATS


def shown(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


class Large(Evidence):
    """Images of 150 classes, made anew whenever one is asked for, as a stage reads them from the disk."""

    groups = tuple(f"g{i // 6}" for i in range(60))

    def __len__(self):
        return len(self.groups)

    def __getitem__(self, position):
        random = np.random.default_rng(position)
        scores = np.empty((150, 512, 512), np.float32)
        for plane in scores:
            cv2.resize(random.normal(0, 2, (16, 16)).astype(np.float32), (512, 512), dst=plane)
        target = scores.argmax(0).astype(np.uint8)
        target[random.random(target.shape) < 0.2] = random.integers(150)
        return Shown(np.zeros((512, 512, 3), np.uint8), softmax(scores), target)


def large():
    evidence = Large()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for text in ("weights", "prior", "rankseg", "temperature + weights"):
        began = time.perf_counter()
        decision = decide([text], evidence, "miou_dataset")
        decision.chain.labels(evidence[0].image, evidence[0].probs)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{text}: {most:.2f} GB at most so far, {time.perf_counter() - began:.0f} s", flush=True)
    print(f"before: {before / 2**20:.2f} GB")


def main(rounds):
    cv2.setNumThreads(1)
    evidence = Held(list(pictures(12)))
    one = evidence[0]
    chains = {}
    for text in (
        "weights",
        "prior",
        "rankseg",
        "rankseg(metric=dice)",
        "temperature + weights",
        "guided",
        "components",
    ):
        chains[text] = Chain.read(text)
        chains[text].fit(Held(evidence.images[:4]), "miou_dataset")
    print("| rule | / arg max |\n| --- | ---: |")
    plain = Chain([])
    for text, chain in chains.items():
        ratios = [
            cpu(lambda c=chain: c.labels(one.image, one.probs)) / cpu(lambda: plain.labels(one.image, one.probs))
            for _ in range(rounds)
        ]
        print(f"| {text} | {shown(ratios)} |", flush=True)
    many = Held([evidence.images[i % 12] for i in range(100)])
    began = time.process_time()
    Chain.read("weights").fit(many, "miou_dataset")
    print(f"weights fitted to 100 images: {time.process_time() - began:.1f} s of CPU")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--large", action="store_true")
    given = parser.parse_args()
    large() if given.large else main(given.rounds)
