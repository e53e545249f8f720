"""The fully connected CRF, without a compiler.

Kraehenbuehl and Koltun 2011, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", with the permutohedral lattice of Adams, Baek and Davis 2010.

Names load their module when first used, so that a network with the layer depends on no more.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segpipe.crf.dense import DenseCRF, dense_crf
    from segpipe.crf.layer import DenseCRFLayer

_MODULE_OF = {"DenseCRF": "dense", "dense_crf": "dense", "DenseCRFLayer": "layer"}

__all__ = ["DenseCRF", "DenseCRFLayer", "dense_crf"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'segpipe.crf' has no attribute '{name}'")
    return getattr(import_module(f"segpipe.crf.{_MODULE_OF[name]}"), name)
