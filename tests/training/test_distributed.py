"""Two processes train as one does: the same losses, scores and weights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from segpipe.training.batchnorm import SharedBatchNorm2d, share

SCRIPT = Path(__file__).with_name("together.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def train(folder, processes, *words):
    folder.mkdir(parents=True, exist_ok=True)
    command = [*(TORCHRUN if processes == 2 else [sys.executable]), str(SCRIPT), str(folder), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(processes)]


@pytest.mark.parametrize(
    "words",
    [
        ("0.25*ce + 0.75*jml",),
        ("lovasz(per_image=true)", "averaging=ema", "lookahead_steps=2", "accumulate=2"),
        ("ce", "sampling=lmp", "targets=boundary_smoothing", "averaging=swa"),
    ],
    ids=str,
)
def test_two_processes_give_the_losses_scores_and_weights_of_one(tmp_path, words):
    (history, state), (other_history, other_state) = train(tmp_path / "two", 2, *words)
    ((wanted_history, wanted),) = train(tmp_path / "one", 1, *words)
    for a, b, c in zip(history, other_history, wanted_history, strict=True):
        assert a == b  # each knows the same
        assert a == pytest.approx(c, rel=2e-3, abs=3e-3)
    for key, value in wanted.items():
        assert torch.equal(state[key], other_state[key])
        assert torch.allclose(state[key].float(), value.float(), atol=5e-3), key


def test_a_last_batch_without_an_image_for_each_process_is_refused(tmp_path):
    with pytest.raises(AssertionError, match=r"11 images in batches of 5 leave 1 for the last batch"):
        train(tmp_path, 2, "ce", "batch_size=5")


def test_shared_batch_norm_alone_is_batch_norm():
    plain, features = nn.BatchNorm2d(3), torch.randn(4, 3, 5, 6)
    shared = share(nn.Sequential(nn.BatchNorm2d(3)))
    assert type(shared[0]) is SharedBatchNorm2d
    assert torch.equal(plain(features), shared(features))
    assert list(plain.state_dict()) == [key.removeprefix("0.") for key in shared.state_dict()]
