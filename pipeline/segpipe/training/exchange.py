"""A trained network for other programs: ONNX, from bytes to probabilities in one graph."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segpipe.core.errors import ConfigError
from segpipe.core.upsample import upsample
from segpipe.data.normalize import Curve

Factors = tuple[float, Sequence[float]]
EXTRA = "needs the extra: pip install 'segpipe[onnx]'"


class FromBytes(nn.Module):
    """uint8 (1, H, W, 3) RGB -> probabilities (1, C, H, W) float32: normalisation, network, upsampling, softmax.

    factors: (exponent, weights) of a decision rule: their arg max are then its labels.
    """

    def __init__(self, network: nn.Module, curve: Curve, factors: Factors | None = None) -> None:
        super().__init__()
        exponent, weights = factors or (1.0, [1.0])
        self.plain, self.exponent = factors is None, exponent
        self.raised: Tensor
        self.register_buffer("raised", torch.tensor(weights).log().reshape(1, -1, 1, 1))
        self.network = network.eval()
        self.curve: Tensor
        self.register_buffer("curve", torch.from_numpy(curve))

    def forward(self, image: Tensor) -> Tensor:
        """Probabilities at the size of the image."""
        levels = image.long()
        planes = torch.stack([self.curve[:, channel][levels[..., channel]] for channel in range(3)], 1)
        logits = upsample(self.network(planes), image.shape[1:3])
        return (logits if self.plain else self.exponent * logits + self.raised).softmax(1)


def onnx_bytes(
    network: nn.Module, curve: Curve, size: tuple[int, int], classes: Sequence[str], factors: Factors | None = None
) -> bytes:
    """The network for images of one size as an ONNX file; `classes` of its metadata is a JSON list of names.

    Raises:
        ConfigError: the extra is not installed, or the network has operations that ONNX lacks.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError:
        raise ConfigError(f"export {EXTRA}") from None
    image = torch.zeros(1, *size, 3, dtype=torch.uint8)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own parts
            for name in ("torch.onnx", "onnxscript", "onnx_ir"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
            program: Any = torch.onnx.export(
                FromBytes(network, curve, factors), (image,), dynamo=True, input_names=["image"],
                output_names=["probs"], verbose=False,
            )  # fmt: skip
    except Exception as error:
        first = str(error).strip().splitlines()[0]
        raise ConfigError(f"{type(network).__name__} cannot be written as ONNX: {first}") from None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {"classes": json.dumps(list(classes), ensure_ascii=False)})
    stream = io.BytesIO()
    onnx.save_model(proto, stream)
    return stream.getvalue()


def run(content: bytes, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What onnxruntime makes of an image (1, H, W, 3)."""
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(f"the check of the export {EXTRA}") from None
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"image": image})[0]
    return found
