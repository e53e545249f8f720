"""Memory of a training does not grow with its steps."""

import subprocess
import sys

import pytest

from conftest import ROOT

SCRIPT = """
import resource, sys, tempfile
from pathlib import Path
import numpy as np
from test_training import settings, Stopping
from segpipe import models
from segpipe.core.seeding import make_deterministic
from segpipe.data.augment import Augmentation
from segpipe.data.batches import TrainSet
from segpipe.training.loop import fit
import torch

make_deterministic(1)
random = np.random.default_rng(0)
images, labels = random.integers(0, 256, (3000, 16, 16, 3), np.uint8), random.integers(0, 2, (3000, 16, 16), np.uint8)
with tempfile.TemporaryDirectory() as folder:
    fit(
        models.create("unet", 2, width=4, depth=2, stem_stride=4), Stopping(None),
        TrainSet(images, labels, Augmentation((0.8, 1.2), 0.5, color=0.1), 0), (images[:20], labels[:20]),
        settings(epochs=int(sys.argv[1]), batch_size=30, averaging="ema"), num_classes=2, device=torch.device("cpu"),
        checkpoint=Path(folder) / "state.pt", name="x", ids=[str(i) for i in range(len(images))],
    )
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
def test_thousands_of_images_and_steps_take_no_more_memory_than_few():
    def peak(epochs):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(epochs)],
            cwd=ROOT / "tests/training", capture_output=True, text=True, check=True,
        )  # fmt: skip
        return int(done.stdout.split()[-1]) / (1024 if sys.platform == "linux" else 2**20)

    # 100 steps an epoch; a leaked batch or graph of each step would be some MiB an epoch.
    assert peak(9) - peak(2) < 20  # MiB
