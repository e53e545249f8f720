"""Lookahead and averages of weights against plain loops, and batch norm's refreshed statistics."""

import copy

import pytest
import torch
from torch import nn

from segpipe.core.errors import ConfigError
from segpipe.core.seeding import seed_torch
from segpipe.training import parts
from segpipe.training.averaging import refresh
from segpipe.training.optimizers import Lookahead


def network():
    seed_torch(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout2d(0.5), nn.Conv2d(4, 2, 1))


def walk(model, step):
    """A deterministic step of all weights."""
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.add_(torch.full_like(p, 0.1 * (i + 1) * (-1) ** step))


def test_lookahead_moves_slow_weights_a_share_of_the_way():
    fast = nn.Parameter(torch.tensor([0.0]))
    ahead = Lookahead([fast], steps=3, rate=0.5)
    slow, expected = 0.0, []
    for step in range(1, 8):
        with torch.no_grad():
            fast += 1
        ahead.update()
        value = (expected[-1] if expected else 0.0) + 1
        if step % 3 == 0:  # slow + (fast - slow) / 2
            slow = value = slow + 0.5 * (value - slow)
        expected.append(value)
        assert fast.item() == expected[-1]
    assert expected == [1, 2, 1.5, 2.5, 3.5, 3, 4]  # 0 + 3 / 2; 1.5 + (4.5 - 1.5) / 2


@pytest.mark.parametrize("name", ["adamw", "sgd", "sgd(momentum=0.5, nesterov=true)", "adamw(beta2=0.99)"])
def test_optimisers_lower_a_loss(name):
    weight = nn.Parameter(torch.tensor([3.0]))
    optimizer = parts.create("optimizer", name, [{"params": [weight]}], 0.1, 0.0)
    for _ in range(60):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert abs(weight.item()) < 1


def test_the_exponential_average_is_the_plain_one():
    model = network()
    average = parts.create("averaging", "ema(decay=0.6)", model, 5)
    expected = [p.detach().clone() for p in model.parameters()]
    for step in range(6):
        walk(model, step)
        model[1].running_mean += 1
        average.after_step(model)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = [decay * e + (1 - decay) * p for e, p in zip(expected, model.parameters(), strict=True)]
    for found, wanted in zip(average.model.parameters(), expected, strict=True):
        assert torch.allclose(found, wanted)
    assert 0 < average.model[1].running_mean[0] < model[1].running_mean[0]  # statistics are averaged too
    assert average.after_epoch(model, 0, list) is average.model


def test_the_stochastic_average_is_the_mean_of_the_last_epochs():
    model = network()
    average = parts.create("averaging", "swa(start=0.5)", model, 4)
    images = [torch.randn(4, 3, 8, 8) for _ in range(3)]
    kept = []
    for epoch in range(4):
        walk(model, epoch)
        found = average.after_epoch(model, epoch, lambda: images)
        if epoch < 2:
            assert found is model
        else:
            kept.append([p.detach().clone() for p in model.parameters()])
            for p, values in zip(found.parameters(), zip(*kept, strict=True), strict=True):
                assert torch.allclose(p, torch.stack(values).mean(0), atol=1e-6)


def test_refreshed_statistics_are_those_of_the_images():
    model, images = network(), [torch.randn(4, 3, 8, 8) * 3 + 1 for _ in range(3)]
    refresh(model, images)
    features = [model[0](batch) for batch in images]
    means = torch.stack([f.mean((0, 2, 3)) for f in features]).mean(0)
    variances = torch.stack([f.var((0, 2, 3)) for f in features]).mean(0)
    assert torch.allclose(model[1].running_mean, means, atol=1e-5)
    assert torch.allclose(model[1].running_var, variances, atol=1e-4)
    assert model[1].momentum == 0.1
    assert not model.training


def test_nothing_of_an_average_touches_the_network():
    model = network()
    before = copy.deepcopy(model.state_dict())
    for name in parts.names("averaging"):
        average = parts.create("averaging", name, model, 1)
        average.after_step(model)
        average.after_epoch(model, 0, lambda: [torch.randn(2, 3, 8, 8)])
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["ema(decay=1.0)", "swa(start=1.0)", "swa(start=-0.5)"])
def test_wrong_averages_are_refused(name):
    with pytest.raises(ConfigError, match="wanted a share"):
        parts.create("averaging", name, network(), 1)
