"""Training: schedules, networks, and a loop whose result no interruption changes."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from segpipe import losses, models
from segpipe.core.errors import ConfigError, TrainingError
from segpipe.core.seeding import generator, mix, seed_torch
from segpipe.data.augment import Augmentation
from segpipe.data.batches import TrainSet, epoch_loader
from segpipe.training import schedule
from segpipe.training.device import choose
from segpipe.training.loop import Settings, fit


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
    given = {"seed": 0, "workers": 0, "shift": [0.4] * 3, "scale": [0.3] * 3}
    return Settings(**{**numbers, **given, **changes})


def train(folder, *, stop_after=None, dropout=0.3, images=None, **changes):
    chosen, labels = data()
    chosen = chosen if images is None else images
    seed_torch(0)
    model = models.create("unet", 2, width=4, depth=2, stem_stride=2, dropout=dropout)
    options = settings(**changes)
    steps = 0

    class Stopping(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.loss = losses.create("ce")

        def forward(self, logits, target):
            nonlocal steps
            steps += 1
            if stop_after is not None and steps > stop_after:
                raise KeyboardInterrupt
            return self.loss(logits, target)

    return fit(
        model, Stopping(), TrainSet(chosen, labels, Augmentation((0.8, 1.2), 0.5, 0.1), options.seed), (chosen, labels),
        options, num_classes=2, device=torch.device("cpu"), checkpoint=folder / "state.pt", name="x",
        ids=[f"image {i}" for i in range(len(chosen))],
    )  # fmt: skip


def same(a, b):
    return a.history == b.history and all(torch.equal(a.state[key], b.state[key]) for key in a.state)


def test_training_learns_and_the_best_epoch_is_kept(tmp_path):
    fitted = train(tmp_path, epochs=6)
    scores = [row["val_miou_dataset"] for row in fitted.history]
    assert fitted.best_score == max(scores) > 0.6
    assert scores[fitted.best_epoch - 1] == fitted.best_score
    assert fitted.history[-1]["train_loss"] < fitted.history[0]["train_loss"]


@pytest.mark.parametrize("stop_after", [0, 2, 3, 4, 7])
def test_an_interruption_at_any_step_does_not_change_the_result(tmp_path, stop_after, capsys):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = train(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", stop_after=stop_after)
    assert same(whole, train(tmp_path / "b"))
    if stop_after >= 3:  # an epoch has three steps
        assert "resuming after epoch" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_said_and_passed_over(tmp_path, capsys):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", stop_after=4)
    path = tmp_path / "b" / "state.pt"
    path.write_bytes(path.read_bytes()[:-5])
    assert same(train(tmp_path / "a"), train(tmp_path / "b"))
    assert "starting anew" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:This process")  # fork beside torch's threads, on Python 3.12 and later
def test_loader_workers_do_not_change_the_result(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert same(train(tmp_path / "a"), train(tmp_path / "b", workers=2))


def test_another_seed_is_another_result(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert not same(train(tmp_path / "a"), train(tmp_path / "b", seed=1))


def test_a_loss_that_is_not_finite_names_epoch_and_images(tmp_path):
    with pytest.raises(TrainingError, match=r"(became (nan|inf) in|finite after) epoch \d"):
        train(tmp_path, lr=1e30, epochs=9, warmup_epochs=0)
    assert TrainingError.exit_code == 4


def test_batches_do_not_depend_on_what_was_drawn_before():
    images, labels = data()
    dataset = TrainSet(images, labels, Augmentation((0.5, 2), 0.5, 0.3), 7)
    first = next(iter(epoch_loader(dataset, 2, 5, 0)))
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  # the global state must not matter
    again = next(iter(epoch_loader(dataset, 2, 5, 0)))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_random_numbers_depend_on_their_key_alone():
    assert generator(1, 2).random() == generator(1, 2).random() != generator(2, 1).random()
    assert len({mix(a, b) for a in range(40) for b in range(40)}) == 1600


@pytest.mark.parametrize("name", schedule.NAMES)
def test_a_schedule_warms_up_then_never_rises(name):
    values = [schedule.factor(name, step, 20, warmup=4) for step in range(20)]
    assert values[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert values[4] == 1
    assert all(a >= b >= 0 for a, b in pairwise(values[4:]))


def test_polynomial_and_cosine_follow_their_formulas():
    assert schedule.factor("polynomial", 3, 12) == pytest.approx((1 - 3 / 12) ** 0.9)
    assert schedule.factor("cosine", 3, 12) == pytest.approx((1 + np.cos(np.pi * 3 / 12)) / 2)


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", [(32, 40), (33, 17), (5, 64)])
def test_a_network_keeps_its_promises(name, stride, size):
    model = models.create(name, 3, width=4, depth=3, stem_stride=stride)
    image = torch.randn(2, 3, *size)
    logits = model(image)
    assert logits.shape == (2, 3, *(-(-side // model.stride) for side in size))
    logits.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert any(p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("name", models.names())
def test_a_network_starts_from_its_seed(name):
    def weights(seed):
        seed_torch(seed)
        return torch.cat([p.detach().flatten() for p in models.create(name, 3).parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_unknown_networks_options_and_devices_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'unet'"):
        models.create("unett", 3)
    with pytest.raises(ConfigError, match="did you mean 'width'"):
        models.create("unet", 3, widht=3)
    with pytest.raises(ConfigError, match="stem_stride must be"):
        models.create("unet", 3, stem_stride=3)
    assert choose("cpu") == "cpu"
    for name in ("tpu", "cuda:x", "cuda:99"):
        with pytest.raises(ConfigError, match="device"):
            choose(name)
