"""The real CamVid files, where they are at hand."""

import numpy as np
import pytest

from segpipe.data import catalog
from segpipe.data.files import read_image
from segpipe.data.frequencies import class_weights


@pytest.fixture
def camvid(real_data):
    return real_data / "CamVid"


def test_camvid_lists_give_its_official_split(camvid):
    card = catalog.card("camvid")
    samples = catalog.samples_of(card, camvid)
    assert {split: sum(s.split == split for s in samples) for split in catalog.SPLITS} == card.images
    groups = {split: {s.group for s in samples if s.split == split} for split in catalog.SPLITS}
    assert len(groups["train"]) >= 10  # blocks of consecutive frames, enough to resample
    image = read_image(camvid / samples[0].image)
    assert image.shape == (360, 480, 3)


def test_camvid_train_frequencies_give_the_known_weights(camvid):
    card = catalog.card("camvid")
    samples = [s for s in catalog.samples_of(card, camvid) if s.split == "train"]
    table = np.stack(
        [np.bincount(catalog.read_labels(camvid, s, card, "majority").ravel(), minlength=256) for s in samples]
    )
    counts = table[:, :11]
    assert counts.sum(0)[0] == 10682767
    assert table[:, 255].sum() == 2503995
    with_class = [int(table[counts[:, k] > 0].sum()) for k in range(11)]
    weights = class_weights(counts.sum(0).tolist(), with_class, int(table.sum()))
    golden = [0.2793, 0.2017, 4.7865, 0.1490, 1.0, 0.4217, 3.8467, 1.9736, 0.7889, 6.3747, 8.8587]
    assert weights["median_frequency"] == pytest.approx(golden, abs=5e-5)
