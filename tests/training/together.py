"""One process of a training in several, for `test_distributed.py`: writes what it learned to a file of its rank."""

import sys
from pathlib import Path

import numpy as np
import torch

from segpipe import losses, models
from segpipe.core import distributed
from segpipe.core.seeding import make_deterministic, seed_torch
from segpipe.data.augment import Augmentation
from segpipe.data.batches import TrainSet
from segpipe.data.normalize import curve
from segpipe.training.loop import fit
from segpipe.training.settings import Settings


def main(out: Path, loss: str, **changes) -> None:
    """Train a tiny network on generated images."""
    make_deterministic(1)
    if distributed.launched():
        distributed.join("cpu")
    random = np.random.default_rng(0)
    labels = (random.random((11, 1, 1)) * 20 + np.arange(32) > 24).astype(np.uint8) + np.zeros((11, 32, 32), np.uint8)
    images = np.clip(labels[..., None] * 120 + random.normal(60, 20, (11, 32, 32, 3)), 0, 255).astype(np.uint8)
    labels[3:5, :20] = 255  # processes hold unequal numbers of valid pixels
    seed_torch(0)
    model = models.create("unet", 2, width=4, depth=2, stem_stride=2)
    numbers = {"epochs": 3, "batch_size": 4, "lr": 0.01, "weight_decay": 0.01, "seed": 0, **changes}
    settings = Settings(**numbers, curve=curve({"scheme": "minmax"}))
    fitted = fit(
        model, losses.create(loss), TrainSet(images, labels, Augmentation((0.8, 1.2), 0.5), 0), (images, labels),
        settings, num_classes=2, device=torch.device("cpu"), checkpoint=out / "checkpoint" / "state.pt", name="x",
        ids=[str(i) for i in range(11)],
    )  # fmt: skip
    torch.save((fitted.history, fitted.state), out / f"rank{distributed.rank()}.pt")
    distributed.leave()


if __name__ == "__main__":
    options = dict(word.split("=", 1) for word in sys.argv[3:])
    numbers = {key: int(value) if value.isdigit() else value for key, value in options.items()}
    main(Path(sys.argv[1]), sys.argv[2], **numbers)
