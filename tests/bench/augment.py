"""Augmentation beside albumentations in one run, as ratios of CPU time; and what loading adds to a training step.

    python tests/bench/augment.py [--rounds 7]    # the first part needs albumentations, in an environment of its own

Both change image and labels of 360 x 480 alike: zoom and shift, mirror, turn, brightness and contrast; one thread. A
ratio is taken inside its round; shown are median and range. Aim: at most 1.3. The second part trains the default
network on 128 x 160, once with the loader and once on a fixed batch. Aim: at most 1.1.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from segpipe import losses, models
from segpipe.core.opencv import cv2
from segpipe.core.upsample import upsample
from segpipe.data.augment import Augmentation
from segpipe.data.batches import TrainSet, epoch_loader
from segpipe.data.normalize import curve, to_input

IMAGES = 60
CHANGES = {
    "zoom, mirror, colour": (Augmentation((0.75, 1.5), 0.5, color=0.2), 0),
    "and turned": (Augmentation((0.75, 1.5), 0.5, rotation=15.0, color=0.2), 15),
}


def cpu(function):
    """CPU milliseconds an image."""
    start = time.process_time()
    for i in range(IMAGES):
        function(i)
    return 1e3 * (time.process_time() - start) / IMAGES


def shown(ratios):
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def beside(rounds):
    """A line for each set of changes."""
    try:
        import albumentations as peer
    except ImportError:
        print("albumentations is not installed: the first part is left out")
        return
    random = np.random.default_rng(0)
    image = cv2.GaussianBlur(random.integers(0, 256, (360, 480, 3)).astype(np.uint8), (0, 0), 3)
    labels = (image[..., 0] // 32).astype(np.uint8)
    print("| changes, 360 x 480 | segpipe ms | albumentations ms | segpipe / albumentations |")
    print("| --- | ---: | ---: | ---: |")
    for name, (change, angle) in CHANGES.items():
        affine = peer.Affine(
            scale=(0.75, 1.5), translate_percent=(-0.2, 0.2), rotate=(-angle, angle), fill_mask=255, p=1
        )
        color = peer.RandomBrightnessContrast(0.2, 0.2, p=1)
        theirs = peer.Compose([affine, peer.HorizontalFlip(p=0.5), color], seed=0)
        times = [
            (
                cpu(lambda i, c=change: c(image, labels[None], (i,))),
                cpu(lambda _, t=theirs: t(image=image, mask=labels)),
            )
            for _ in range(rounds)
        ]
        own, other = (statistics.median(values) for values in zip(*times, strict=True))
        print(f"| {name} | {own:.2f} | {other:.2f} | {shown([a / b for a, b in times])} |")


def loading(rounds, steps=12, size=4):
    """What fetching a batch adds to a step, in wall time."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (steps * size, 128, 160, 3)).astype(np.uint8)
    dataset = TrainSet(images, images[..., 0] // 32, Augmentation((0.75, 1.5), 0.5, color=0.2), 0)
    model = models.create("unet", 8, stem_stride=4).to(memory_format=torch.channels_last)
    criterion, table = losses.create("0.25*ce + 0.75*jml"), curve({"scheme": "minmax"})
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step(batch):
        labels = torch.from_numpy(batch.labels)
        loss = criterion(upsample(model(to_input(batch.images, table)), labels.shape[-2:]), labels[:, 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def timed(batches):
        start = time.perf_counter()
        for batch in batches:
            step(batch)
        return time.perf_counter() - start

    fixed = next(iter(epoch_loader(dataset, range(steps * size), size, 0, 0)))
    timed([fixed] * 3)
    ratios = [
        timed(epoch_loader(dataset, range(steps * size), size, e, 0)) / timed([fixed] * steps) for e in range(rounds)
    ]
    print(f"\nstep with the loader / step with a fixed batch, {torch.get_num_threads()} threads: {shown(ratios)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    loading(arguments.rounds)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    beside(arguments.rounds)
