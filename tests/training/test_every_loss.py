"""Every loss trains on the embedded dataset: a few steps, finite, and downhill."""

import numpy as np
import pytest
import torch
import yaml

from segpipe import losses, models
from segpipe.core.seeding import seed_torch
from segpipe.core.upsample import upsample
from segpipe.data import catalog, scenes
from segpipe.losses import contract

from conftest import ROOT

PROFILES = ROOT / "pipeline" / "segpipe" / "profiles"
NAMES = losses.names()


@pytest.fixture(scope="module")
def batch():
    """Four street scenes, cropped and at half their size: images and labels of the first annotator."""
    card = catalog.card("scenes")
    found = list(scenes.generate("train", 4))
    images = np.stack([scene.image[:120:2, :160:2] for scene in found])
    labels = np.stack([card.label_of(scene.annotators[0][:120:2, :160:2].astype(np.int64), "scene") for scene in found])
    return torch.from_numpy(images).movedim(3, 1).float() / 255 - 0.5, torch.from_numpy(labels)


@pytest.mark.parametrize("spec", [*NAMES, "0.25*ce + 0.75*jml(average=class)"])
def test_trains_on_street_scenes(spec, batch):
    images, labels = batch
    kind = contract.subject_of(spec)
    if kind.binary:
        labels = torch.where(labels == 255, labels, (labels >= 5).to(labels.dtype))  # things against stuff
    seed_torch(0)
    model = models.create("unet", 2 if kind.binary else 8, width=8, depth=2, stem_stride=2)
    criterion = losses.create(f"ce + 0.1*{spec}" if kind.bare else spec)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    values = []
    for _ in range(8):
        loss = criterion(upsample(model(images), labels.shape[-2:]), labels)
        values.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters())
        optimizer.step()
    assert np.isfinite(values).all()
    assert min(values[-3:]) < values[0]


def test_the_profiles_run_every_loss_within_their_bounds():
    used = set()
    for name, most in (("losses", 240), ("binary", 240)):
        profile = yaml.safe_load((PROFILES / f"{name}.yaml").read_text())
        runs, seeds = profile["runs"], len(profile.get("seeds", [0, 1]))
        assert len(runs) * seeds * 3 + 10 < most  # train, predict, evaluate of each
        used |= {term.name for run in runs.values() for term in losses.parse(run["loss"])}
    assert used == set(NAMES)
