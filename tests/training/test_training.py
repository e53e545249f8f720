"""Training: schedules, networks, and a loop whose result no interruption changes."""

import signal

import numpy as np
import pytest
import torch

from segpipe import losses, models
from segpipe.core.errors import ConfigError, TrainingError
from segpipe.core.seeding import generator, mix, seed_torch
from segpipe.data.augment import Augmentation
from segpipe.data.batches import TrainSet, epoch_loader
from segpipe.data.normalize import curve
from segpipe.metrics.counts import count
from segpipe.training.device import choose
from segpipe.training.loop import fit
from segpipe.training.settings import Settings
from segpipe.training.validation import collapse


def data(number=6):
    """Images whose colour tells the class."""
    random = np.random.default_rng(0)
    labels = (random.random((number, 1, 1)) * 20 + np.arange(32) > 24).astype(np.uint8) + np.zeros(
        (number, 32, 32), np.uint8
    )
    images = np.clip(labels[..., None] * 120 + random.normal(60, 20, (*labels.shape, 3)), 0, 255).astype(np.uint8)
    labels[:, :2] = 255
    return images, labels.astype(np.uint8)


def settings(**changes):
    numbers = {"epochs": 3, "batch_size": 2, "lr": 0.01, "weight_decay": 0.01, "schedule": "cosine", "warmup_epochs": 1}
    given = {"seed": 0, "curve": curve({"scheme": "zscore", "mean": [0.4] * 3, "std": [0.3] * 3})}
    return Settings(**{**numbers, **given, **changes})


class Killed(BaseException):
    """What no handler of errors may catch."""


class Stopping(torch.nn.Module):
    """Cross entropy that ends the process, or signals it, when it is called once too often."""

    signal = None

    def __init__(self, stop_after):
        super().__init__()
        self.loss, self.calls, self.stop_after = losses.create("ce"), 0, stop_after

    def forward(self, logits, target, keep=None):
        self.calls += 1
        if self.stop_after is not None and self.calls > self.stop_after:
            if self.signal is None:
                raise Killed
            if self.calls == self.stop_after + 1:
                signal.raise_signal(self.signal)
        return self.loss(logits, target, keep)


def train(folder, *, stop_after=None, dropout=0.3, images=None, model=None, **changes):
    chosen, labels = data()
    chosen = chosen if images is None else images
    seed_torch(0)
    model = model or models.create("unet", 2, width=4, depth=2, stem_stride=2, dropout=dropout)
    options = settings(**changes)
    extents = np.full((len(chosen), 2), 32) if "semi" in options.targets else None
    return fit(
        model, Stopping(stop_after),
        TrainSet(chosen, labels, Augmentation((0.8, 1.2), 0.5, color=0.1), options.seed, extents=extents),
        (chosen, labels), options, num_classes=2, device=torch.device("cpu"), checkpoint=folder / "state.pt", name="x",
        ids=[f"image {i}" for i in range(len(chosen))],
    )  # fmt: skip


def same(a, b):
    states = [(a.state, b.state), *zip(a.snapshots, b.snapshots, strict=True)]
    return a.history == b.history and all(torch.equal(x[key], y[key]) for x, y in states for key in x)


def test_training_learns_and_the_best_epoch_is_kept(tmp_path):
    fitted = train(tmp_path, epochs=6)
    scores = [row["val_miou_dataset"] for row in fitted.history]
    assert fitted.best_score == max(scores) > 0.6
    assert scores[fitted.best_epoch - 1] == fitted.best_score
    assert fitted.history[-1]["train_loss"] < fitted.history[0]["train_loss"]


EVERYTHING = (
    {},
    {"averaging": "ema(decay=0.8)", "lookahead_steps": 2, "accumulate": 2},
    {"averaging": "swa(start=0.3)", "optimizer": "sgd", "clip": 0.5},
    {"schedule": "restarts(cycles=2)", "sizes": [0.5, 1.0, 1.5], "patience": None},
    {"schedule": "one_cycle", "patience": 1, "epochs": 6, "lr": 0.3},
    {"sampling": "lmp", "targets": "boundary_smoothing"},
    {"sampling": "undersample", "targets": "smoothing", "precision": "bfloat16"},
    {"sampling": "oversample", "targets": "semi_supervised(labelled=0.5, confidence=0.5)"},
)


def folders(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    return tmp_path / "a", tmp_path / "b"


@pytest.mark.parametrize("stop_after", [0, 1, 3, 4])
@pytest.mark.parametrize("changes", EVERYTHING, ids=str)
def test_a_kill_at_any_step_does_not_change_the_result(tmp_path, changes, stop_after, capsys):
    first, second = folders(tmp_path)
    whole = train(first, **changes)
    calls = 2 * stop_after if "semi" in changes.get("targets", "") else stop_after  # two parts a batch
    with pytest.raises(Killed):
        train(second, stop_after=calls, **changes)
    assert same(whole, train(second, **changes))
    if stop_after >= 3:  # an epoch has at most three batches
        assert "resuming after epoch" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("changes", EVERYTHING, ids=str)
def test_a_signal_saves_the_step_in_progress_first(tmp_path, changes, number, capsys, monkeypatch):
    first, second = folders(tmp_path)
    whole = train(first, **changes)
    monkeypatch.setattr(Stopping, "signal", number)

    def terminate(*_):
        raise Killed

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        for stop in (0, 1, 0):  # again and again
            with pytest.raises((KeyboardInterrupt, Killed)):
                train(second, stop_after=stop, **changes)
            assert (second / "state.pt").exists()
    finally:
        signal.signal(signal.SIGTERM, before)
    monkeypatch.setattr(Stopping, "signal", None)
    capsys.readouterr()
    assert same(whole, train(second, **changes))
    assert "resuming after epoch" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_said_and_passed_over(tmp_path, capsys):
    folders(tmp_path)
    with pytest.raises(Killed):
        train(tmp_path / "b", stop_after=4)
    path = tmp_path / "b" / "state.pt"
    path.write_bytes(path.read_bytes()[:-5])
    assert same(train(tmp_path / "a"), train(tmp_path / "b"))
    assert "starting anew" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:This process")  # fork beside torch's threads, on Python 3.12 and later
def test_loader_workers_do_not_change_the_result(tmp_path):
    folders(tmp_path)
    assert same(train(tmp_path / "a"), train(tmp_path / "b", workers=2))


def test_another_seed_is_another_result(tmp_path):
    folders(tmp_path)
    assert not same(train(tmp_path / "a"), train(tmp_path / "b", seed=1))


def test_a_loss_that_is_not_finite_names_epoch_and_images(tmp_path):
    with pytest.raises(TrainingError, match=r"became (nan|inf) in epoch 1, step \d, on images image \d, image \d"):
        train(tmp_path, lr=1e30, epochs=9, warmup_epochs=0)
    train(tmp_path, epochs=1)
    with pytest.raises(TrainingError, match=f"the last good checkpoint is {tmp_path / 'state.pt'}"):
        train(tmp_path, lr=1e30, epochs=9, warmup_epochs=0)
    assert TrainingError.exit_code == 4


def test_batches_do_not_depend_on_what_was_drawn_before():
    images, labels = data()
    dataset = TrainSet(images, labels, Augmentation((0.5, 2), 0.5, 0.3), 7)
    first = next(iter(epoch_loader(dataset, range(6), 2, 5, 0)))
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  # the global state must not matter
    again = next(iter(epoch_loader(dataset, range(6), 2, 5, 0)))
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.labels, again.labels)


def test_random_numbers_depend_on_their_key_alone():
    assert generator(1, 2).random() == generator(1, 2).random() != generator(2, 1).random()
    assert len({mix(a, b) for a in range(40) for b in range(40)}) == 1600


def test_unknown_devices_are_refused():
    assert choose("cpu") == "cpu"
    for name in ("tpu", "cuda:x", "cuda:99"):
        with pytest.raises(ConfigError, match="device"):
            choose(name)


def test_accumulated_batches_make_the_step_of_one_large_batch(tmp_path):
    """Two batches of two, each half of the mean, move the weights as one batch of four (no batch norm here)."""

    def weights(folder, **changes):
        seed_torch(0)
        net = torch.nn.Conv2d(3, 2, 1)
        chosen = {"epochs": 1, "warmup_epochs": 0, "schedule": "constant", "optimizer": "sgd", "lr": 0.1}
        return train(folder, model=net, **chosen, **changes).state["weight"] - start

    seed_torch(0)
    start = torch.nn.Conv2d(3, 2, 1).weight.detach()
    first, second = folders(tmp_path)
    one, three = weights(first, batch_size=6), weights(second, batch_size=2, accumulate=3)
    assert torch.allclose(one, three, rtol=0.02)  # batches differ a little in their void pixels
    assert one.abs().max() > 0.005


def test_the_learning_rate_follows_the_schedule_over_steps_not_batches(tmp_path):
    fitted = train(tmp_path, epochs=4, schedule="polynomial(power=1)", warmup_epochs=0, accumulate=2)
    # Three batches an epoch make two steps; the last step of epoch e is number 2 e + 1 of 8.
    assert [row["lr"] for row in fitted.history] == pytest.approx([0.01 * (1 - (2 * e + 1) / 8) for e in range(4)])


def test_snapshots_are_the_weights_at_the_minima(tmp_path):
    fitted = train(tmp_path, epochs=5, schedule="restarts(cycles=2)", warmup_epochs=0)
    assert len(fitted.snapshots) == 2
    first, last = (s["head.weight"] for s in fitted.snapshots)
    assert not torch.equal(first, last)
    lr = [row["lr"] for row in fitted.history]
    assert lr[2] > lr[1]
    assert lr[1] == pytest.approx(0.01 * (1 + np.cos(np.pi * 5 / 6)) / 2)


def test_training_ends_when_patience_does(tmp_path):
    fitted = train(tmp_path, epochs=30, lr=1e-9, patience=3)
    assert len(fitted.history) == fitted.best_epoch + 3 < 30


def test_a_clipped_gradient_moves_weights_less(tmp_path):
    first, second = folders(tmp_path)
    free = train(first, epochs=1, optimizer="sgd(momentum=0)", lr=0.1, weight_decay=0.0)
    clipped = train(second, epochs=1, optimizer="sgd(momentum=0)", lr=0.1, weight_decay=0.0, clip=1e-6)
    seed_torch(0)
    start = models.create("unet", 2, width=4, depth=2, stem_stride=2).head.weight
    assert (clipped.state["head.weight"] - start).abs().max() < 1e-6 < (free.state["head.weight"] - start).abs().max()


@pytest.mark.parametrize(
    "changes", [{"precision": "bfloat16"}, {"channels_last": False}, {"averaging": "ema"}], ids=str
)
def test_options_of_scale_train_as_well(tmp_path, changes):
    assert train(tmp_path, epochs=6, **changes).best_score > 0.6


def test_a_collapse_onto_one_class_is_said_with_remedies(tmp_path, capsys):
    labels = data()[1]
    constant = torch.nn.Conv2d(3, 2, 1)
    with torch.no_grad():
        constant.weight.zero_()
        constant.bias.copy_(torch.tensor([9.0, -9.0]))
    fitted = train(tmp_path, model=constant, lr=1e-9)
    share = (labels == 0).sum() / (labels != 255).sum()
    assert len(fitted.warnings) == 1
    assert f"100% of val is predicted as class 0, which {share:.0%} of the labels are" in fitted.warnings[0]
    assert "train.lr" in capsys.readouterr().err
    mixed, half = labels.copy(), labels == 255
    mixed[half] = 0
    assert collapse(count(mixed, labels, 2)) is None
    sky = np.zeros((1, 4, 4), np.uint8)
    assert collapse(count(sky, sky, 2)) is None  # all labels are one class as well


class Hungry(torch.nn.Module):
    """A network that runs out of memory on more than `fits` images."""

    stride = 1

    def __init__(self, fits):
        super().__init__()
        self.layer, self.fits = torch.nn.Conv2d(3, 2, 1), fits

    def forward(self, image):
        if len(image) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.layer(image)


def test_too_little_memory_says_which_batch_would_fit(tmp_path):
    with pytest.raises(ConfigError, match=r"train.batch_size=6; 1 fits: .*train.accumulate=6"):
        train(tmp_path, model=Hungry(2), batch_size=6)  # halves of 6: 3, then 1
    with pytest.raises(ConfigError, match=r"train.batch_size=4; 2 fits: .*train.accumulate=2"):
        train(tmp_path, model=Hungry(3), batch_size=4)
    with pytest.raises(ConfigError, match="too little memory for one image of 32 x 32"):
        train(tmp_path, model=Hungry(0), batch_size=4)


def test_a_batch_too_small_for_batch_norm_is_said(tmp_path):
    class Squeezed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.norm = torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2)

        def forward(self, image):
            return self.norm(self.layer(image.mean((2, 3), keepdim=True))).expand(-1, -1, 32, 32)

    with pytest.raises(ConfigError, match=r"1 image of \(32, 32\) is too small a batch .*raise train.batch_size"):
        train(tmp_path, model=Squeezed(), batch_size=1)


def test_a_crop_larger_than_the_images_is_refused():
    images, labels = data()
    with pytest.raises(ConfigError, match=r"crop is \[40, 16\], the largest prepared image is \[32, 32\]"):
        TrainSet(images, labels, Augmentation(crop=(40, 16)), 0)
