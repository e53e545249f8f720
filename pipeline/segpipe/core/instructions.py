"""Limit all numerical libraries to the same processor instructions, so that results differ less between processors.

A library that finds AVX-512 adds in another order than on AVX2, and training makes two networks of that. MKL
also chooses by where memory happens to lie, so that one of eight trainings on one busy machine had other bytes;
its reproducible mode ends that. On AVX-512 this costs 8 % of a training's time.
"""

from __future__ import annotations

import os
import platform
from importlib import metadata

_PINNED = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # its convolutions
    "MKL_CBWR": "COMPATIBLE",  # its matrices; the one mode that processors of all makers share
    "OPENBLAS_CORETYPE": "Haswell",  # NumPy's and SciPy's matrices
}
_AVX512_OF_NUMPY = ("X86_V4 AVX512_ICL AVX512_SPR", "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL")


def pin() -> None:
    """Ask for AVX2 everywhere, before torch and NumPy are imported; what the environment says already stays."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return
    version = tuple(int(part) for part in metadata.version("numpy").split(".")[:2])
    for name, value in {**_PINNED, "NPY_DISABLE_CPU_FEATURES": _AVX512_OF_NUMPY[version < (2, 4)]}.items():
        os.environ.setdefault(name, value)
