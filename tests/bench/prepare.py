"""Stage prepare beside a plain OpenCV loop in one run, as a ratio of CPU time; and what 20 000 images would take.

    python tests/bench/prepare.py CAMVID [--rounds 7]

The plain loop reads, resizes, pads and stores; segpipe also checks sizes, checksums, labels and copies. One thread; a
ratio is taken inside its round; shown are median and range. Aim: at least 0.9. The second part prepares pictures of
ADE20K's usual size (683 x 512, 150 classes) and reads them at random as training does.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from segpipe.core.opencv import cv2
from segpipe.data import catalog
from segpipe.data.card import Card
from segpipe.data.catalog import Sample
from segpipe.data.geometry import Geometry
from segpipe.stages.prepare import place

IMAGES = 150
PLANNED = 20_000


def segpipe_loop(root, samples, card, grid, images, labels):
    for i, sample in enumerate(samples):
        _, _, images[i], labels[i] = place(root, sample, card, "annotator 1", grid)


def plain_loop(root, samples, card, grid, images, labels):
    del card
    for i, sample in enumerate(samples):
        image = cv2.cvtColor(cv2.imread(str(root / sample.image)), cv2.COLOR_BGR2RGB)
        mask = cv2.imread(str(root / sample.labels[0]), cv2.IMREAD_UNCHANGED)
        g = Geometry.fit(mask.shape[:2], grid)
        size = (g.resized_width, g.resized_height)
        images[i], labels[i] = 0, 255
        images[i, : size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        labels[i, : size[1], : size[0]] = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)


def cpu(loop, root, samples, card, grid):
    """CPU milliseconds an image."""
    images = np.empty((len(samples), *grid, 3), np.uint8)
    labels = np.empty((len(samples), *grid), np.uint8)
    start = time.process_time()
    loop(root, samples, card, grid, images, labels)
    return 1e3 * (time.process_time() - start) / len(samples)


def beside(camvid, rounds):
    card = catalog.card("camvid")
    samples = catalog.samples_of(card, camvid)[:IMAGES]
    ratios, times = [], []
    for _ in range(rounds + 1):
        ours, plain = (cpu(loop, camvid, samples, card, (240, 320)) for loop in (segpipe_loop, plain_loop))
        ratios.append(plain / ours)
        times.append(ours)
    ratios, times = ratios[1:], times[1:]  # the first warms caches
    print(f"CamVid on 240 x 320: {statistics.median(times):.1f} ms an image and core;")
    low, high = min(ratios), max(ratios)
    print(f"throughput beside the plain loop: {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})")


def planned():
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        root, grid = Path(folder), (384, 512)
        samples = []
        for i in range(60):
            rough = random.integers(0, 256, (32, 43, 3)).astype(np.uint8)
            pixels = cv2.resize(rough, (683, 512), interpolation=cv2.INTER_CUBIC)
            noisy = np.clip(pixels + random.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / f"{i}.jpg", quality=90)
            mask = cv2.resize(random.integers(0, 150, (16, 21)).astype(np.uint8), (683, 512), interpolation=0)
            Image.fromarray(mask).save(root / f"{i}.png")
            samples.append(Sample(str(i), "train", str(i), f"{i}.jpg", (f"{i}.png",)))
        card = Card("x", "", "", "", "template", ["c"] * 150, [[0, 0, 0]] * 150, [])
        each = min(cpu(segpipe_loop, root, samples, card, grid) for _ in range(3))
        images = np.lib.format.open_memmap(root / "images.npy", "w+", np.uint8, (len(samples), *grid, 3))
        start = time.perf_counter()
        for i in random.permutation(len(samples)):
            images[i].sum()
        reading = 1e3 * (time.perf_counter() - start) / len(samples)
        start = time.perf_counter()
        for sample in samples:
            np.asarray(Image.open(root / sample.image)).sum()
        decoding = 1e3 * (time.perf_counter() - start) / len(samples)
    size = grid[0] * grid[1] * 4
    print(f"ADE20K's size on {grid[0]} x {grid[1]}: {each:.1f} ms an image and core, {size / 1e6:.2f} MB an image;")
    print(f"{PLANNED} images: {PLANNED * each / 6e4:.1f} minutes of one core, {PLANNED * size / 1e9:.1f} GB on disk;")
    print(f"random access to a prepared image {reading:.2f} ms, to its JPEG {decoding:.2f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("camvid", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    beside(arguments.camvid, arguments.rounds)
    planned()


if __name__ == "__main__":
    main()
