"""What a training step costs beyond the network's own passes, and how many pairs a second the loader makes.

    python tests/bench/training.py [--rounds 5] [--stride 4] [--device cpu]

One run, ratios inside each round, median and range. The network is the fine-tuned one of docs/benchmark.md, the images
are 360 x 480, crops 288 x 384 in batches of 8. `whole` is `training.loop.fit`: loader, colours, upsampling, loss,
optimiser, watching and the checkpoint; `bare` the forward and backward pass on a batch that is there. Aims: at most
1.15 on a CPU (on a GPU images a second at least .9 of the bare loop's); loader at least 120 pairs a second of a core.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from segpipe import losses, models
from segpipe.core import seeding
from segpipe.core.instructions import pin
from segpipe.core.opencv import cv2
from segpipe.core.upsample import upsample
from segpipe.data.augment import Augmentation
from segpipe.data.batches import TrainSet, epoch_loader
from segpipe.data.normalize import curve, to_input
from segpipe.training import loop
from segpipe.training.settings import Settings

SIZE, CROP, BATCH, STEPS, CLASSES = (360, 480), (288, 384), 8, 20, 11
CHANGES = Augmentation((0.6, 2.0), 0.5, color=0.2, crop=CROP)


def shown(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def network(stride, device):
    seeding.seed_torch(0, 0)
    options = {"encoder": "efficientnet_lite0", "width": 128, "output_stride": stride, "dropout": 0.1}
    return models.create("encoder_decoder", CLASSES, **options).to(device, memory_format=torch.channels_last)


def pictures(number):
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (number, *SIZE, 3)).astype(np.uint8)
    images = np.stack([cv2.GaussianBlur(one, (0, 0), 5) for one in noise])
    return images, (images[..., 0] // 24).astype(np.uint8)


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def bare(model, images, labels, half):
    """Forward and backward pass of every step, from logits whose gradient is known."""
    device = images.device
    began = time.perf_counter()
    for _ in range(STEPS):
        model.zero_grad(set_to_none=True)
        with torch.autocast(device.type, half, enabled=half is not None):
            logits = model(images)
        logits.backward(labels)
    wait(device)
    return time.perf_counter() - began


def whole(model, criterion, train_set, val, table, device):
    """The same number of steps of the real loop, less what it takes to score one image."""
    settings = Settings(1, BATCH, 1e-3, 0.01, 0, table)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        loop.fit(
            model, criterion, train_set, val, settings, num_classes=CLASSES, device=device,
            checkpoint=Path(folder) / "state.pt", name="bench", ids=[str(i) for i in range(len(train_set))],
        )  # fmt: skip
        wait(device)
        return time.perf_counter() - began


def parts(criterion, logits, labels):
    """Seconds of upsampling and of the loss, with their gradients."""
    fine = upsample(logits, CROP).detach()
    found = []
    for function, given in ((lambda x: upsample(x, CROP).sum(), logits), (lambda x: criterion(x, labels), fine)):
        started = given.detach().clone().requires_grad_()
        function(started).backward()
        began = time.perf_counter()
        function(started).backward()
        found.append(time.perf_counter() - began)
    return found


def main(rounds, stride, device):
    half = torch.float16 if device.type == "cuda" else None
    images, labels = pictures(BATCH * STEPS)
    table, criterion = curve({"scheme": "symmetric"}), losses.create("0.5*ce + 0.5*jml")
    train_set = TrainSet(images, labels, CHANGES, 0)
    began = time.process_time()
    pairs = 0
    while time.process_time() - began < 2:
        for _ in epoch_loader(train_set, range(len(train_set)), BATCH, pairs, 0):
            pairs += BATCH
    print(f"loader: {pairs / (time.process_time() - began):.0f} pairs a second of CPU")
    batch = next(iter(epoch_loader(train_set, range(BATCH), BATCH, 0, 0)))
    model = network(stride, device).train()
    seen = to_input(batch.images, table, str(device)).to(device)
    gradient = torch.randn_like(model(seen)) / 1e4
    val = (images[:1, :64, :64], labels[:1, :64, :64])
    bare(model, seen, gradient, half)
    whole(network(stride, device), criterion, train_set, val, table, device)
    ratios = []
    for _ in range(rounds):
        full = whole(network(stride, device), criterion, train_set, val, table, device)
        ratios.append(full / bare(model, seen, gradient, half))
    target = torch.from_numpy(batch.labels[:, 0]).to(device)
    up, loss = parts(criterion, model(seen), target)
    one = bare(model, seen, gradient, half) / STEPS
    print(f"stride {stride}: a bare step takes {one:.2f} s; upsampling {up / one:.1%} of it, loss {loss / one:.1%}")
    print(f"whole / bare: {shown(ratios)}; images a second of the bare loop: {1 / statistics.median(ratios):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    pin()
    seeding.make_deterministic(2)
    main(given.rounds, given.stride, torch.device(given.device))
