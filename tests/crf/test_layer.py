"""The CRF as a layer: its gradients, its padding, and that it learns."""

import numpy as np
import pytest
import torch
from torch import nn

from segpipe import crf, models
from segpipe.crf import DenseCRFLayer
from segpipe.models.unet_crf import padding

# Off the lattice's edges: at 3.0 pixels, positions lie exactly on faces of simplices, where no derivative exists.
WIDTHS = {"pos_xy_std": 1.1, "bi_xy_std": 3.3, "bi_rgb_std": 41.7}


def inputs(n=1, classes=3, size=(4, 5), seed=0):
    random = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (n, 3, *size), generator=random)
    return torch.randn(n, classes, *size, generator=random, dtype=torch.float64), image


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_logits_weights_widths_and_compatibility_are_right(num_classes, masked):
    logits, image = inputs()
    layer = DenseCRFLayer(iterations=2, num_classes=num_classes, **WIDTHS).double()
    names, parameters = zip(*layer.named_parameters(), strict=True)
    valid = torch.ones(1, 4, 5, dtype=torch.bool) if masked else None
    if masked:
        valid[:, 3:] = False

    def run(logits, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (logits, image, valid))

    leaves = [value.detach().clone().requires_grad_() for value in (logits, *parameters)]
    assert torch.autograd.gradcheck(run, leaves)


def test_it_says_what_dense_crf_says():
    logits, image = inputs(2, 4, (20, 24))
    options = {"pos_w": 1.5, "bi_w": 2.0, **WIDTHS}
    found = DenseCRFLayer(iterations=4, **options).double()(logits, image).softmax(1).detach()
    for i in range(2):
        picture = image[i].permute(1, 2, 0).to(torch.uint8)
        wanted = crf.dense_crf(picture, logits[i].softmax(0), iterations=4, **options)
        assert float((found[i] - wanted).abs().mean()) < 1e-3
        assert float((found[i].argmax(0) == wanted.argmax(0)).float().mean()) > 0.99


def test_a_compatibility_begins_as_potts():
    logits, image = inputs(size=(8, 9))
    plain, learned = (DenseCRFLayer(num_classes=c, **WIDTHS).double()(logits, image).softmax(1) for c in (None, 3))
    torch.testing.assert_close(plain, learned)


def test_what_is_not_valid_neither_sends_nor_receives():
    logits, image = inputs(1, 3, (8, 10))
    layer = DenseCRFLayer(**WIDTHS).double()
    valid = torch.ones(1, 8, 10, dtype=torch.bool)
    valid[:, 5:], valid[:, :, 8:] = False, False
    alone = layer(logits[:, :, :5, :8], image[:, :, :5, :8]).detach()
    for value in (7.0, torch.inf, torch.nan):
        changed = torch.where(valid[:, None], logits, value).requires_grad_()
        repainted = torch.where(valid[:, None], image.double(), value)
        found = layer(changed, repainted, valid)
        torch.testing.assert_close(found[:, :, :5, :8].detach(), alone)
        torch.testing.assert_close(found[:, :, 5:].detach(), changed[:, :, 5:].detach(), equal_nan=True)
        (gradient,) = torch.autograd.grad(found[:, :, :5, :8].square().sum(), changed)
        assert torch.isfinite(gradient).all()
        assert not gradient[:, :, 5:].any()


def test_weights_that_are_not_finite_are_no_error_but_a_result_that_is_not():
    logits, image = inputs()
    layer = DenseCRFLayer(**WIDTHS).double()
    with torch.no_grad():
        layer.log_widths.fill_(torch.nan)
    assert not torch.isfinite(layer(logits, image)).any()


def test_widths_have_a_floor():
    logits, image = inputs(size=(20, 30))
    layer = DenseCRFLayer(pos_xy_std=1e-12, bi_xy_std=1e-12, bi_rgb_std=1e-12).double()
    layer(logits, image).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_half_precision_is_computed_in_single():
    logits, image = inputs(size=(8, 9))
    layer = DenseCRFLayer(**WIDTHS)
    half = logits.to(torch.bfloat16)
    torch.testing.assert_close(layer(half, image), layer(half.float(), image))


def test_it_learns_to_repair_noise():
    random = np.random.default_rng(0)
    labels = torch.from_numpy((np.arange(24)[None] // 12 + np.zeros((20, 24), int)).astype(np.int64))[None]
    image = 60 + 120 * labels[:, None].expand(-1, 3, -1, -1) + torch.from_numpy(random.normal(0, 8, (1, 3, 20, 24)))
    logits = nn.functional.one_hot(labels, 2).permute(0, 3, 1, 2) + torch.from_numpy(
        random.normal(0, 1, (1, 2, 20, 24))
    )
    layer = DenseCRFLayer(pos_w=0.1, bi_w=0.1, bi_xy_std=8, bi_rgb_std=13)
    optimizer = torch.optim.Adam(layer.parameters(), 0.2)
    losses = []
    for _ in range(25):
        loss = nn.functional.cross_entropy(layer(logits.float(), image.float()), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("options", "arguments", "words"),
    [
        ({"bi_xy_std": 0.0}, {}, "bi_xy_std is 0.0"),
        ({"pos_w": -1.0}, {}, "pos_w is -1.0"),
        ({"iterations": 0}, {}, "iterations is 0"),
        ({}, {"image": torch.zeros(1, 3, 5, 4)}, "image is"),
        ({}, {"logits": torch.zeros(3, 4, 5)}, "logits are"),
        ({}, {"valid": torch.ones(1, 5, 4, dtype=torch.bool)}, "valid is"),
        ({"num_classes": 4}, {}, "3 classes"),
    ],
)
def test_what_does_not_fit_is_refused(options, arguments, words):
    logits, image = inputs()
    with pytest.raises(ValueError, match=words):
        DenseCRFLayer(**options)(**{"logits": logits, "image": image, **arguments})


def test_padding_is_found_on_every_side_and_nothing_else():
    image = torch.rand(3, 3, 12, 14)
    image[1, :, 9:] = 0.25
    image[1, :, :, 10:] = 0.25
    image[2, :, :2], image[2, :, :, :3], image[2, :, 11:] = -1.0, -1.0, -1.0
    found = padding(image)
    assert not found[0].any()
    assert found[1, 9:].all() and found[1, :, 10:].all() and not found[1, :9, :10].any()  # noqa: PT018
    assert found[2, :2].all() and found[2, :, :3].all() and found[2, 11:].all()  # noqa: PT018
    assert not found[2, 2:11, 3:].any()


def test_padding_does_not_enter_the_crf_of_a_network():
    torch.manual_seed(0)
    model = models.create("unet_crf", 3, width=4, depth=2, stem_stride=1).eval()
    image = torch.zeros(1, 3, 16, 20)
    image[:, :, :12, :16] = torch.rand(1, 3, 12, 16)
    logits = model.unary(image)
    found = model(image)
    torch.testing.assert_close(found[:, :, 12:], logits[:, :, 12:])
    torch.testing.assert_close(
        found[:, :, :12, :16], model.crf(logits[:, :, :12, :16], image[:, :, :12, :16]), atol=1e-4, rtol=1e-4
    )


def test_an_image_of_one_colour_passes_through():
    layer = DenseCRFLayer(**WIDTHS)
    logits, image = inputs(size=(8, 9))
    nowhere = torch.zeros(1, 8, 9, dtype=torch.bool)
    torch.testing.assert_close(layer(logits.float(), image, nowhere), logits.float())
