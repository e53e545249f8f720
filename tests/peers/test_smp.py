"""Networks of the extra segpipe[smp]: any size, saved and local weights, a training through the command line."""

import json
import warnings

import pytest
import torch

from segpipe import models
from segpipe.core.errors import ConfigError, DataError

from conftest import make_workspace, segpipe

NAMES = ("smp:Unet/resnet18", "smp:FPN/tu-resnet18", "smp:DeepLabV3Plus/mobilenet_v2", "smp:Segformer/mit_b0")


def create(name, classes=3, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries
        return models.create(name, classes, **options)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_takes_any_size_and_gives_a_gradient(name):
    model = create(name)
    logits = model(torch.randn(2, 3, 50, 70))
    assert logits.shape == (2, 3, -(-50 // model.stride), -(-70 // model.stride))
    assert model.stride == (1 if "Unet" in name else 4)
    logits.square().mean().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_local_weights_are_read_for_the_whole_network_or_its_encoder(tmp_path):
    image, model = torch.randn(1, 3, 64, 64), create(NAMES[0]).eval()
    torch.save(model.state_dict(), tmp_path / "whole.pt")
    torch.save(model.network.encoder.state_dict(), tmp_path / "encoder.pt")
    whole, encoder = create(NAMES[0]).eval(), create(NAMES[0], 5).eval()
    models.initialise(whole, tmp_path / "whole.pt")
    assert torch.equal(whole(image), model(image))
    models.initialise(encoder, tmp_path / "encoder.pt")
    for own, other in zip(encoder.network.encoder(image), model.network.encoder(image), strict=True):
        assert torch.equal(own, other)
    with pytest.raises(DataError, match="of another network"):
        models.initialise(create(NAMES[1]), tmp_path / "whole.pt")


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100", "convnext_atto"])
def test_encoders_of_timm_carry_every_decoder(name):
    for decoder in ("pyramid", "unet", "deeplabv3plus", "psp", "jpu"):
        model = create("encoder_decoder", encoder=f"timm:{name}", decoder=decoder, width=8)
        logits = model(torch.randn(2, 3, 50, 70))
        assert logits.shape == (2, 3, -(-50 // model.stride), -(-70 // model.stride))


def test_encoders_that_do_not_fit_are_one_line():
    for name, message in (
        ("resnet19", "encoder 'timm:resnet19'"),
        ("swin_tiny_patch4_window7_224", "encoder 'timm:swin"),
    ):
        with pytest.raises(ConfigError, match=message):
            create("encoder_decoder", encoder=f"timm:{name}")
    with pytest.raises(ConfigError, match="has no weights 'imagenet'"):
        create("encoder_decoder", encoder="timm:resnet18", pretrained="imagenet")


@pytest.mark.parametrize("name", ["smp:Unett/resnet18", "smp:Unet/resnet19"])
def test_unknown_architectures_and_encoders_are_refused(name):
    with pytest.raises(ConfigError, match="model 'smp:"):
        create(name)


def test_a_run_trains_from_local_weights(tmp_path):
    workspace = make_workspace(tmp_path / "w")
    torch.save(create(NAMES[0]).network.encoder.state_dict(), workspace / "encoder.pt")
    options = ["model.name=smp:Unet/resnet18", "model.weights=encoder.pt", "train.epochs=1"]
    words = [word for option in options for word in ("--set", option)]
    result = json.loads(segpipe("train", "--loss", "0.25*ce + 0.75*jml", *words, "--json", cwd=workspace).stdout)
    assert result["val_miou_dataset"] > 0
    segpipe("predict", "--loss", "0.25*ce + 0.75*jml", *words, cwd=workspace)
