"""What is measured of a data set, against plain loops, and what is proposed for it."""

import math

import numpy as np
import pytest
from PIL import Image

from segpipe.cli.propose import minutes
from segpipe.config import params, yaml
from segpipe.config.proposal import AREA, EPOCHS, LEAST, LEAST_THICK, MULTIPLE, REST, propose
from segpipe.core.errors import ConfigError, DataError
from segpipe.data import catalog, fingerprint
from segpipe.data.fingerprint import Fingerprint
from segpipe.training.pace import Pace

from conftest import ROOT, segpipe

DEFAULT = ROOT / "params.yaml"


def folder(tmp_path, maps):
    for i, labels in enumerate(maps):
        for kind, array in (("images", np.zeros((*labels.shape, 3), np.uint8)), ("masks", labels)):
            path = tmp_path / f"own/{kind}/photo{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    card = tmp_path / "mine.toml"
    card.write_text(
        'title = "mine"\nlicence = "mine"\nsource = "here"\nlayout = "template"\nimage = "images/{name}.png"\n'
        'masks = ["masks/{name}.png"]\nvoid = [255]\nclasses = ["a", "b", "c"]\n'
        "palette = [[0, 0, 0], [9, 9, 9], [99, 99, 99]]\ncut_val = 0.2\ncut_test = 0.2\n"
    )
    read = catalog.read_card(card)
    return read, tmp_path / "own", catalog.samples_of(read, tmp_path / "own")


def plain(maps):
    """Shares, thickness and the difference of the halves, pixel by pixel."""
    pixels, borders, halves = [0, 0, 0], [0, 0, 0], [[0, 0, 0], [0, 0, 0]]
    for labels in maps:
        height, width = labels.shape
        for y in range(height):
            for x in range(width):
                own = labels[y, x]
                right, below = labels[y, x + 1 : x + 2], labels[y + 1 : y + 2, x]
                for other in (*right, *below):
                    if other != own:
                        for k in (own, other):
                            if k < 3:
                                borders[k] += 1
                if own < 3:
                    pixels[own] += 1
                    halves[y >= height // 2][own] += 1
    total = sum(pixels)
    thickness = [2 * p / b if b else (math.inf if p else 0) for p, b in zip(pixels, borders, strict=True)]
    upper, lower = ([n / sum(half) for n in half] for half in halves)
    return [p / total for p in pixels], thickness, sum(abs(a - b) for a, b in zip(upper, lower, strict=True)) / 2


@pytest.mark.parametrize("seed", range(4))
def test_shares_thickness_and_halves_are_those_of_plain_loops(tmp_path, seed):
    random = np.random.default_rng(seed)
    maps = []
    for _ in range(12):
        labels = random.choice([0, 1, 2, 255], (random.integers(5, 12), random.integers(5, 12)), p=[0.6, 0.2, 0.1, 0.1])
        maps.append(labels.astype(np.uint8))
    card, root, samples = folder(tmp_path, maps)
    found = fingerprint.measure(card, root, samples)
    trained = [np.array(Image.open(root / s.labels[0])) for s in samples if s.split == "train"]
    share, thickness, upright = plain(trained)
    assert found.share == pytest.approx(share)
    assert found.thickness == pytest.approx(thickness)
    assert found.upright == pytest.approx(upright)
    assert found.sizes == [m.shape for m in trained]
    assert sum(found.images.values()) == 12


def test_a_strip_is_as_thick_as_it_is(tmp_path):
    labels = np.zeros((60, 400), np.uint8)
    labels[20:26] = 1  # 6 pixels thick, from edge to edge
    card, root, samples = folder(tmp_path, [labels] * 6)
    found = fingerprint.measure(card, root, samples)
    assert found.thickness[1] == 6
    assert found.thickness[2] == 0
    assert (found.classes[found.thinnest], found.classes[found.hard]) == ("b", "b")


def known(**changed):
    usual = {
        "images": {"train": 200, "val": 40, "test": 60}, "sizes": [(480, 640)] * 200, "classes": ["a", "b"],
        "share": [0.97, 0.03], "thickness": [200.0, 9.0], "upright": 0.4,
    }  # fmt: skip
    return Fingerprint(**{**usual, **changed})


def steady(seconds_a_megapixel=1.0, memory_a_megapixel=3.0):
    """A machine that takes so long for a step, and a third of it for a prediction."""

    def trial(options, size, batch):
        step = seconds_a_megapixel * batch * math.prod(size) / 1e6
        return Pace(step, step / batch / 3, memory_a_megapixel * batch * math.prod(size) / 1e6)

    return trial


def proposed(budget=120, memory=16, pretrained=True, trial=None, runs=4, **changed):
    return propose(known(**changed), runs, budget, memory, trial or steady(), pretrained=pretrained)


@pytest.mark.parametrize("budget", [10, 30, 60, 240, 1000])
@pytest.mark.parametrize(
    "sizes", [[(480, 640)] * 200, [(3000, 4000)] * 60, [(64, 80)] * 500, [(400, 600), (800, 500)] * 40]
)
@pytest.mark.parametrize("pretrained", [True, False])
def test_a_proposal_fits_the_time_and_can_be_read_as_parameters(budget, sizes, pretrained):
    images = {"train": len(sizes), "val": 20, "test": 20}
    found = proposed(budget, sizes=sizes, images=images, pretrained=pretrained)
    text = yaml.edit(DEFAULT.read_text(), found.params)
    read = params.parse(text)
    trainings = 4 * len(read.seeds)
    most = (1 - REST) * budget / trainings
    assert found.minutes <= most * 1.001 or read.train.epochs == EPOCHS[0]
    if read.train.epochs < EPOCHS[1]:
        assert found.minutes > 0.7 * most or most < LEAST
    crop = read.train.augment.crop
    if crop is not None:
        assert all(side % MULTIPLE == 0 or side in (s[axis] for s in sizes) for axis, side in enumerate(crop))
        assert math.prod(crop) < 1.6 * AREA
    assert len(found.reasons) >= 6


def test_more_time_buys_seeds_then_pixels_then_epochs():
    seeds = [len(proposed(budget).params["seeds"]) for budget in (10, 24, 40, 80)]
    assert seeds == [2, 2, 3, 5]
    heights, epochs = ([proposed(b).params[key] for b in (10, 400, 1200)] for key in ("prepare.height", "train.epochs"))
    assert heights[0] < heights[1] == heights[2] == 480
    assert epochs[1] < epochs[2]


def test_thin_things_keep_their_pixels_and_get_finer_logits():
    wide, thin = proposed(20, thickness=[200.0, 30.0]), proposed(20, thickness=[200.0, 2.2])
    assert wide.params["prepare.height"] < 480
    assert thin.params["prepare.height"] == 480
    assert (wide.params["model"]["output_stride"], thin.params["model"]["output_stride"]) == (4, 2)
    some = proposed(20, thickness=[200.0, 4.0])
    assert some.params["prepare.height"] * 4.0 / 480 >= LEAST_THICK


def test_images_of_several_sizes_stay_as_they_are_where_time_allows():
    found = proposed(5000, sizes=[(400, 600), (500, 640)] * 20).params
    assert (found["prepare.height"], found["prepare.width"]) == (None, None)
    assert found["train.augment.crop"] is not None


def test_few_large_images_are_seen_often_in_an_epoch():
    images = {"train": 16, "val": 4, "test": 8}
    found = proposed(300, sizes=[(960, 999)] * 16, images=images).params
    assert found["train.sampling"].startswith("uniform(times=")


def test_batches_shrink_until_they_fit_the_memory():
    assert proposed(memory=16).params["train.batch_size"] == 8
    assert proposed(memory=2).params["train.batch_size"] == 4


def test_a_time_that_is_too_short_is_said():
    found = proposed(5, sizes=[(3000, 4000)] * 400, images={"train": 400, "val": 100, "test": 100})
    assert any("more than the 5 that are given" in what for what, _, _ in found.reasons)
    assert not any("more than" in what for what, _, _ in proposed(600).reasons)


def test_logits_are_fine_where_shrinking_makes_things_thin():
    found = proposed(30, sizes=[(1024, 1024)] * 200, thickness=[400.0, 6.0])
    assert found.params["prepare.height"] < 1024 * 0.45
    assert found.params["model"]["output_stride"] == 2


def test_labels_that_are_void_everywhere_are_refused(tmp_path):
    card, root, samples = folder(tmp_path, [np.full((8, 8), 255, np.uint8)] * 6)
    with pytest.raises(DataError, match="void everywhere"):
        fingerprint.measure(card, root, samples)


def test_only_pictures_without_an_up_are_turned():
    assert "train.augment.rotation" not in proposed(upright=0.4).params
    assert proposed(upright=0.02).params["train.augment.rotation"] == 180


def test_without_the_extra_a_network_from_scratch_is_proposed_and_the_extra_named():
    found = proposed(pretrained=False)
    assert (found.params["model"]["name"], found.params["train.recipe"]) == ("unet", "scratch")
    assert any("segpipe[pretrained]" in why for _, why, _ in found.reasons)


@pytest.mark.parametrize(("text", "wanted"), [("30m", 30), ("2h", 120), ("1.5h", 90), ("90s", 1.5), ("1d", 1440)])
def test_a_budget_is_a_number_and_a_unit(text, wanted):
    assert minutes(text) == wanted


@pytest.mark.parametrize("text", ["30", "", "m", "-5m", "5 minutes", "1s", "nanm", "1e9d"])
def test_anything_else_is_refused(text):
    with pytest.raises(ConfigError, match="wanted a time"):
        minutes(text)


def test_init_prints_every_choice_with_its_reason_and_writes_it(tmp_path):
    labels = np.zeros((40, 60), np.uint8)
    labels[10:20, 10:40], labels[30:33] = 1, 2
    folder(tmp_path, [np.roll(labels, i, 0) for i in range(12)])
    done = segpipe("init", "mine", "--images", "own/images", "--masks", "own/masks", "--budget", "20m",
                   "--set", "train.batch_size=3", cwd=tmp_path)  # fmt: skip
    assert done.stdout.count("proposed:") >= 7
    assert done.stdout.count("because") == done.stdout.count("otherwise:")
    read = params.parse((tmp_path / "mine/params.yaml").read_text())
    assert read.train.batch_size == 3  # --set comes last
    assert (read.prepare.height, read.prepare.width) == (40, 60)
    refused = segpipe("init", "scenes", "--budget", "20m", "--into", "other", cwd=tmp_path, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "other").exists()
