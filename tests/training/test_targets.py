"""Targets of every source against plain loops."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from segpipe import losses
from segpipe.core.errors import ConfigError
from segpipe.core.registry import entries
from segpipe.training import parts
from segpipe.training.loop import _Training
from segpipe.training.targets import Given, Part, Setup, agreement, labelled_images

CLASSES, VOID = 3, 255


class Linear(nn.Module):
    """Logits that are the channels of the image times a number."""

    stride = 1

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, image):
        return image * self.factor


def given(raters=1, seed=0, extents=False, **changes):
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, (2, raters, 5, 6)).astype(np.uint8)
    labels[random.random(labels.shape) < 0.2] = VOID
    if extents:
        inside = np.zeros((2, 1, 5, 6), np.uint8)
        inside[:, :, 4:] = VOID
        labels = np.concatenate([labels, inside], 1)
    images, weak = (torch.from_numpy(random.normal(size=(2, 3, 5, 6))).float() for _ in range(2))
    values = {"indices": [0, 1], "epoch": 0, "progress": 0.5, **changes}
    return Given(torch.from_numpy(labels), images, weak, **values)


def source(text, **changes):
    values = {"ids": ["a", "b"], "model": Linear(), "teacher": Linear(2.0)}
    return parts.create("targets", text, Setup(CLASSES, **{**values, **changes}))


def softmax(values):
    powers = [math.exp(v) for v in values]
    return [p / sum(powers) for p in powers]


@pytest.mark.parametrize("name", parts.names("targets"))
def test_every_source_gives_targets_that_losses_take(name):
    kind = entries(parts.MODULES["targets"])[name].load()
    batch = given(raters=2 if kind.annotators else 1, extents=kind.extents)
    made = source(name, agreement=np.ones((2, 2), np.float32))
    logits = torch.randn(2, CLASSES, 5, 6, requires_grad=True)
    for spec in ("ce", "jml", "0.25*ce + 0.75*jml", "focal"):
        for part in made.parts(batch):
            value = losses.create(spec)(logits / part.temperature, part.target, part.keep)
            assert torch.isfinite(value)
    for part in made.parts(batch):
        if part.target.is_floating_point():
            sums = part.target.sum(1)[part.keep]
            assert torch.allclose(sums, torch.ones_like(sums), atol=1e-6)
            assert bool((part.target >= 0).all())


def test_smoothing_spreads_a_share_over_all_classes():
    batch = given()
    (part,) = source("smoothing(epsilon=0.3)").parts(batch)
    for n, y, x in np.ndindex(2, 5, 6):
        label = int(batch.labels[n, 0, y, x])
        assert bool(part.keep[n, y, x]) == (label != VOID)
        if label != VOID:
            wanted = [0.1 + 0.7 * (c == label) for c in range(CLASSES)]  # 0.3 / 3 + (1 - 0.3)
            assert part.target[n, :, y, x].tolist() == pytest.approx(wanted)


def test_smoothing_a_target_is_smoothing_in_the_loss():
    batch, logits = given(), torch.randn(2, CLASSES, 5, 6)
    (part,) = source("smoothing(epsilon=0.3)").parts(batch)
    inside = losses.create("ce(label_smoothing=0.3)")(logits, batch.labels[:, 0])
    assert losses.create("ce")(logits, part.target, part.keep).item() == pytest.approx(inside.item(), rel=1e-5)


def test_boundary_smoothing_leaves_the_inside_alone():
    labels = torch.zeros(1, 1, 4, 6, dtype=torch.uint8)
    labels[..., 3:] = 1
    batch = Given(labels, *[torch.zeros(1, 3, 4, 6)] * 2, [0], 0, 0.0)
    (part,) = source("boundary_smoothing(epsilon=0.6)").parts(batch)
    assert part.target[0, 0, 0].tolist() == pytest.approx([1, 1, 0.6, 0.2, 0, 0])  # 0.4 + 0.6 / 3, 0.6 / 3


def test_distillation_mixes_labels_and_the_teachers_tempered_probabilities():
    batch = given()
    hard, soft = source("distillation(temperature=2, hard=0.3, soft=0.7)").parts(batch)
    assert (hard.weight, hard.temperature, soft.weight, soft.temperature) == (0.3, 1, 0.7, 2)
    assert torch.equal(hard.target, batch.labels[:, 0])
    for n, y, x in np.ndindex(2, 5, 6):
        assert bool(soft.keep[n, y, x]) == (int(batch.labels[n, 0, y, x]) != VOID)
        # The teacher doubles the image, the temperature halves it again.
        assert soft.target[n, :, y, x].tolist() == pytest.approx(softmax(batch.images[n, :, y, x].tolist()), abs=1e-6)


def test_semi_supervised_keeps_some_labels_and_trusts_sure_pixels_elsewhere():
    made = source("semi_supervised(labelled=0.5, confidence=0.6, weight=2, ramp=0.8)")
    known = [labelled_images(["a", "b"], 0.5)[i] for i in range(2)]
    assert sorted(known) == [False, True]
    batch = given(extents=True)
    labels, pseudo = made.parts(batch)
    sure = without = 0
    for n, y, x in np.ndindex(2, 5, 6):
        label = int(batch.labels[n, 0, y, x])
        assert int(labels.target[n, y, x]) == (label if known[n] else VOID)
        probs = softmax(batch.weak[n, :, y, x].tolist())  # of the average, which is the network at first
        assert pseudo.target[n, :, y, x].tolist() == pytest.approx(probs, abs=1e-6)
        open_to_it = not known[n] and y < 4
        assert bool(pseudo.keep[n, y, x]) == (max(probs) >= 0.6 and open_to_it)
        without, sure = without + open_to_it, sure + int(pseudo.keep[n, y, x])
    # The ramp at half of the training, exp(-5 (1 - 0.5 / 0.8)^2), times the share of pixels of which it is sure.
    assert 0 < sure < without
    assert float(pseudo.weight) == pytest.approx(2 * math.exp(-5 * (1 - 0.5 / 0.8) ** 2) * sure / without)


@pytest.mark.parametrize(("given", "wanted"), [("", "ce"), (", loss=dice", "dice"), (", loss=run", None)])
def test_pseudo_labels_have_a_loss_of_their_own(given, wanted):
    made = source(f"semi_supervised(labelled=0.5, confidence=0{given})")
    criterion = made.criterion
    assert (criterion is None) == (wanted is None)
    if wanted is None:
        return
    logits, target = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 4, 5).softmax(1)
    assert float(criterion(logits, target)) == float(losses.create(wanted)(logits, target))


def test_the_training_takes_the_loss_of_a_part_before_its_own():
    training, logits = SimpleNamespace(criterion=losses.create("dice")), torch.randn(2, 3, 4, 5)
    target = torch.randint(0, 3, (2, 4, 5))
    for given, wanted in ((None, "dice"), (losses.create("ce"), "ce")):
        found = _Training._part(training, logits, Part(target, weight=2.0, criterion=given))
        assert float(found) == 2 * float(losses.create(wanted)(logits, target))


@pytest.mark.parametrize("loss", ["nope", "lovasz", 3])
def test_a_loss_that_pseudo_labels_cannot_have_is_refused(loss):
    with pytest.raises(ConfigError, match="another loss of soft labels"):
        source(f"semi_supervised(loss={loss})")


def test_the_semi_supervised_teacher_follows_the_network():
    model = Linear()
    made = source("semi_supervised(decay=0.5)", model=model)
    with torch.no_grad():
        model.factor.fill_(3)
    made.after_step(model)
    # decay min(0.5, 1 / 10) in the first step: 0.1 of 1 and 0.9 of 3
    assert made.average.model.factor.item() == pytest.approx(0.1 * 1 + 0.9 * 3)


def test_a_smaller_share_of_labels_is_a_subset_of_a_larger_one():
    ids = [f"image {i}" for i in range(40)]
    before = [False] * 40
    for share in (0.01, 0.1, 0.5, 1):
        chosen = labelled_images(ids, share)
        assert sum(chosen) == max(1, round(40 * share))
        assert all(now or not then for then, now in zip(before, chosen, strict=True))
        before = chosen


@pytest.mark.parametrize("combine", ["mean", "agreement"])
def test_annotators_share_a_pixel(combine):
    batch = given(raters=3)
    weights = np.array([[0.2, 0.5, 0.8], [1, 0, 0.5]], np.float32)
    (part,) = source(f"annotators(combine={combine})", agreement=weights).parts(batch)
    weights = np.ones_like(weights) if combine == "mean" else weights
    for n, y, x in np.ndindex(2, 5, 6):
        votes = [(weights[n, a], int(batch.labels[n, a, y, x])) for a in range(3)]
        total = sum(w for w, label in votes if label != VOID)
        assert bool(part.keep[n, y, x]) == (total > 0)
        if total > 0:
            wanted = [sum(w for w, label in votes if label == c) / total for c in range(CLASSES)]
            assert part.target[n, :, y, x].tolist() == pytest.approx(wanted, abs=1e-6)


def test_a_random_annotator_is_one_of_them_for_a_whole_image():
    made, seen = source("annotators(combine=random)"), set()
    for epoch in range(20):
        batch = given(raters=3, epoch=epoch)
        (part,) = made.parts(batch)
        for n in range(2):
            same = [a for a in range(3) if torch.equal(part.target[n], batch.labels[n, a])]
            assert len(same) == 1
            seen.add((n, same[0]))
        assert torch.equal(part.target, made.parts(batch)[0].target)
    assert len(seen) == 6


def test_agreement_is_the_mean_dice_with_the_majority():
    majority = np.array([[0, 0, 1, 1, VOID]], np.uint8)
    raters = np.array([[[0, 0, 1, 1, 1]], [[0, 1, 1, 1, 0]], [[2, 2, 2, 2, 2]], [[VOID, VOID, 1, 0, 0]]], np.uint8)
    # second: class 0 has 2 * 1 / (1 + 2), class 1 has 2 * 2 / (3 + 2); last: on two pixels, class 1 alone is held
    wanted = [1, (2 / 3 + 4 / 5) / 2, 0, 2 * 1 / (1 + 2)]
    assert agreement(raters, majority, 3).tolist() == pytest.approx(wanted)
    assert agreement(raters[2:3], majority, 3).tolist() == [1]


@pytest.mark.parametrize(
    "text",
    [
        "smoothing(epsilon=2)", "boundary_smoothing(size=2)", "distillation(temperature=0)", "annotators(combine=best)",
        "distillation(hard=0, soft=0)", "semi_supervised(labelled=0)", "semi_supervised(confidence=2)",
    ],
)  # fmt: skip
def test_wrong_numbers_are_refused(text):
    with pytest.raises(ConfigError, match="wanted"):
        source(text)
