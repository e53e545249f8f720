"""Networks: promises over the whole registry, the parts they are composed of, and weights from files."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from segpipe import models
from segpipe.core.errors import ConfigError, DataError
from segpipe.core.seeding import seed_torch
from segpipe.models import external
from segpipe.models.blocks.backbone import Residual
from segpipe.models.blocks.context import JPU, _means
from segpipe.models.blocks.layers import awake
from segpipe.models.segnet import unpool

SMALL = {name: {"width": 4} for name in models.names()}
NAMES = models.names()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(32, 40), (33, 17), (5, 64)])
def test_a_network_keeps_its_promises(name, size):
    model = models.create(name, 3, width=4)
    logits = model(torch.randn(2, 3, *size))
    assert logits.shape == (2, 3, *(-(-side // model.stride) for side in size))
    logits.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_reaches_every_parameter(name):
    torch.manual_seed(0)
    model = models.create(name, 3, width=4)
    (model(torch.randn(2, 3, 64, 72)) * torch.randn(3, 1, 1)).square().mean().backward()
    assert [key for key, p in model.named_parameters() if not p.grad.any()] == []


@pytest.mark.parametrize("name", ["unet", "segnet", "bayesian_segnet"])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_stem_sets_the_stride(name, stride):
    model = models.create(name, 3, width=4, depth=3, stem_stride=stride)
    assert model(torch.randn(1, 3, 33, 18)).shape[-2:] == (-(-33 // stride), -(-18 // stride))


@pytest.mark.parametrize("name", NAMES)
def test_a_network_starts_from_its_seed(name):
    def weights(seed):
        seed_torch(seed)
        return torch.cat([p.detach().flatten() for p in models.create(name, 3, **SMALL[name]).parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize("name", NAMES)
def test_a_network_can_be_stored_and_read_back(name, tmp_path):
    seed_torch(0)
    model = models.create(name, 3, width=4)
    model(torch.randn(2, 3, 32, 32))  # moves batch norm's statistics
    torch.save(model.state_dict(), tmp_path / "w.pt")
    other = models.create(name, 3, width=4)
    models.initialise(other, tmp_path / "w.pt")
    image = torch.randn(1, 3, 32, 40)
    assert torch.equal(model.eval()(image), other.eval()(image))


@pytest.mark.parametrize("name", NAMES)
def test_a_network_takes_one_image_of_usual_size_in_training(name):
    assert models.create(name, 3, width=4).train()(torch.randn(1, 3, 64, 64)).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_an_option_that_can_stay_awake(name):
    torch.manual_seed(0)
    model = models.create(name, 3, width=4, dropout=0.5)
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(model.eval()(image), model(image))
    awake(model)
    assert not torch.equal(model(image), model(image))
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    with pytest.raises(ConfigError, match="dropout"):
        models.create(name, 3, dropout=1.0)
    if name != "bayesian_segnet":
        with pytest.raises(ConfigError, match=r"model\.dropout above 0"):
            awake(models.create(name, 3, width=4))


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_an_atrous_backbone_sees_as_far_as_a_strided_one(stride):
    backbone = Residual(width=4, output_stride=stride, blocks=2)
    maps = backbone(torch.randn(1, 3, 64, 96))
    assert [m.shape[2] for m in maps] == [64 // min(s, stride) for s in (4, 8, 16, 32)]


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("stride", [8, 16])
def test_an_atrous_backbone_is_the_strided_one_at_more_places(stride, blocks):
    """With the same weights, every 32 / stride-th value is what the strided backbone gives (away from the border)."""
    torch.manual_seed(0)
    dense, sparse = (Residual(width=4, output_stride=s, blocks=blocks).eval() for s in (stride, 32))
    dense.load_state_dict(sparse.state_dict())
    image = torch.randn(1, 3, 256, 256)
    step = 32 // stride
    found, wanted = dense(image)[3][..., ::step, ::step], sparse(image)[3]
    assert torch.allclose(found[..., 3:5, 3:5], wanted[..., 3:5, 3:5], atol=1e-5)


def test_joint_pyramid_upsampling_brings_three_strides_to_the_finest():
    neck = JPU([8, 16, 32], 4)
    maps = [torch.randn(1, 8, 9, 11), torch.randn(1, 16, 5, 6), torch.randn(1, 32, 3, 3)]
    assert neck(maps).shape == (1, 16, 9, 11)


@pytest.mark.parametrize("head", ["aspp", "psp", "fcn"])
def test_necks_and_heads_compose(head):
    assert models.create("fastfcn", 5, width=4, head=head)(torch.randn(2, 3, 64, 64)).shape == (2, 5, 8, 8)


def test_the_pyramid_means_are_those_of_adaptive_pooling():
    features = torch.randn(2, 3, 7, 13, dtype=torch.float64)
    for cells in (1, 2, 3, 6):
        assert torch.allclose(_means(features, cells), nn.functional.adaptive_avg_pool2d(features, cells))


def test_segnet_unpools_to_where_the_maxima_were():
    model = models.create("segnet", 2, width=4, depth=1, stem_stride=1)
    image = torch.randn(2, 3, 5, 7)
    pooled, places = nn.functional.max_pool2d(image, 2, ceil_mode=True, return_indices=True)
    restored = unpool(pooled, places, image.shape[-2:])
    for n, c, y, x in np.ndindex(2, 3, 5, 7):
        window = image[n, c, y // 2 * 2 : y // 2 * 2 + 2, x // 2 * 2 : x // 2 * 2 + 2]
        assert restored[n, c, y, x] == (image[n, c, y, x] if image[n, c, y, x] == window.max() else 0)
    assert model(torch.randn(1, 3, 9, 7)).shape == (1, 2, 9, 7)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unett", {}, "did you mean 'unet'"),
        ("unet", {"widht": 3}, "did you mean 'width'"),
        ("unet", {"stem_stride": 3}, "stem_stride must be"),
        ("unet", {"width": 0}, "width is 0"),
        ("segnet", {"stem_stride": 8}, "stem_stride must be"),
        ("deeplabv3", {"output_stride": 4}, "model 'deeplabv3': output_stride is 4"),
        ("deeplabv3", {"rates": []}, "rates are"),
        ("fastfcn", {"head": "unet"}, "head is 'unet', wanted one of fcn, psp, aspp"),
        ("smp:", {}, "smp:Architecture/encoder"),
    ],
)
def test_wrong_networks_and_options_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        models.create(name, 3, **options)


def test_a_network_of_the_extra_says_how_to_get_it():
    try:
        import segmentation_models_pytorch  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match=r"pip install 'segpipe\[smp\]'"):
            models.create("smp:Unet/resnet18", 3)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert models.create("smp:Unet/resnet18", 3)(torch.randn(2, 3, 33, 40)).shape == (2, 3, 33, 40)


def test_weights_of_another_network_or_none_at_all_are_refused(tmp_path):
    model, path = models.create("unet", 3, width=4), tmp_path / "w.pt"
    with pytest.raises(DataError, match="is missing"):
        models.initialise(model, path)
    torch.save(models.create("unet", 4, width=4).state_dict(), path)
    with pytest.raises(DataError, match=r"head.weight is \(4, 4, 1, 1\), wanted \(3, 4, 1, 1\); .* 2 differences"):
        models.initialise(model, path)
    torch.save(models.create("segnet", 3, width=4).state_dict(), path)
    with pytest.raises(DataError, match="of another network"):
        models.initialise(model, path)
    path.write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="no plain weights"):
        models.initialise(model, path)
    torch.save([1, 2], path)
    with pytest.raises(DataError, match="no state_dict"):
        models.initialise(model, path)
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(DataError, match="no plain weights"):
        models.initialise(model, path)


@pytest.mark.parametrize(
    ("name", "options", "rates"),
    [
        ("deeplabv3", {"output_stride": 16}, [3, 6, 9]),
        ("deeplabv3", {"output_stride": 8}, [6, 12, 18]),
        ("deeplabv3plus", {"output_stride": 16}, [3, 6, 9]),
        ("fastfcn", {}, [6, 12, 18]),
    ],
)
def test_rates_are_given_for_stride_16_and_doubled_at_8(name, options, rates):
    context = models.create(name, 2, width=8, **options).context
    layers = [layer for layer in context.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.dilation[0] for layer in layers if layer.kernel_size == (3, 3)] == rates


def test_a_network_of_smp_sees_full_multiples_and_gives_what_it_made_before_its_upsampling():
    class Strict(nn.Module):
        def __init__(self):
            super().__init__()
            self.segmentation_head = nn.Sequential(nn.Identity(), nn.UpsamplingBilinear2d(scale_factor=4))

        def forward(self, image):
            assert [side % external.MULTIPLE for side in image.shape[-2:]] == [0, 0]
            return self.segmentation_head(image[..., ::4, ::4])

    image = torch.rand(2, 3, 33, 40)
    network = external._Native(Strict())
    assert network.stride == 4
    torch.testing.assert_close(network(image), image[..., ::4, ::4], rtol=0, atol=0)
