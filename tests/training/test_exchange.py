"""ONNX: every network of the registry gives the same probabilities in onnxruntime, or says that it cannot."""

import numpy as np
import pytest
import torch

from segpipe import models
from segpipe.core.errors import ConfigError
from segpipe.core.seeding import seed_torch
from segpipe.data.normalize import curve
from segpipe.training import exchange

pytest.importorskip("onnxruntime", reason="needs segpipe[onnx]")
TABLE = curve({"scheme": "half_normal", "rms": [0.4, 0.5, 0.6]})


@pytest.mark.parametrize("name", [name for name in models.names() if name != "unet_crf"])
def test_a_network_says_the_same_in_onnxruntime(name):
    seed_torch(0)
    network = models.create(name, 3, width=4)
    image = np.random.default_rng(0).integers(0, 256, (1, 50, 67, 3)).astype(np.uint8)  # no multiple of a stride
    content = exchange.onnx_bytes(network, TABLE, (50, 67), ["a", "b", "c"])
    with torch.no_grad():
        wanted = exchange.FromBytes(network, TABLE)(torch.from_numpy(image)).numpy()
    found = exchange.run(content, image)
    assert found.shape == (1, 3, 50, 67)
    assert np.abs(found - wanted).max() < 1e-4


def test_a_network_that_onnx_cannot_hold_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="UNetCRF cannot be written as ONNX") as refused:
        exchange.onnx_bytes(models.create("unet_crf", 3, width=4), TABLE, (32, 32), ["a", "b", "c"])
    assert "\n" not in str(refused.value)
