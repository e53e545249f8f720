"""All libraries compute with one set of instructions, whatever the processor has."""

import os
import platform
import subprocess
import sys

import pytest

from segpipe.core import instructions

CODE = """
import sys
from segpipe.core import instructions
assert not {"torch", "numpy"} & sys.modules.keys()
instructions.pin()
import numpy, torch
from numpy._core._multiarray_umath import __cpu_features__ as features
print(torch.backends.cpu.get_cpu_capability(), features.get("X86_V4", False), features.get("AVX512_SKX", False))
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="pins x86")
def test_torch_and_numpy_use_avx2_at_most():
    clean = {
        key: value
        for key, value in os.environ.items()
        if key not in (*instructions._PINNED, "NPY_DISABLE_CPU_FEATURES")
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE], env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["AVX2", "False", "False"]
    assert not done.stderr


def test_what_the_environment_says_stays(monkeypatch):
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    instructions.pin()
    assert os.environ["MKL_CBWR"] == "AVX2"
