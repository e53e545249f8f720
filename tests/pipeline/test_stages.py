"""What stages do beside the pipeline: what they say, and numbers beyond what a file can hold."""

from types import SimpleNamespace

import numpy as np
import pytest

from segpipe.core.parallel import Pool
from segpipe.ensembles import gain
from segpipe.stages import evaluate, predict


@pytest.mark.parametrize(("coverage", "said"), [(0.3, ["warning: m rejects 70% of the pixels of val"]), (0.9, [])])
def test_an_ensemble_that_rejects_most_pixels_is_told_with_their_share(coverage, said):
    lines = []
    scores = {"per_class": {"names": ["a"], "images": [3]}, "coverage": coverage}
    evaluate._warn(SimpleNamespace(log=lines.append), "m", "val", scores)
    assert lines == said


@pytest.mark.parametrize("sign", [-1, 1])
def test_logits_beyond_half_precision_are_stored_as_its_largest(monkeypatch, tmp_path, sign):
    far = lambda _, images, __: (np.full((len(images), 2, 3, 3), sign * 1e5, np.float32), None)  # noqa: E731
    monkeypatch.setattr(predict, "logits_of", far)
    predict._write_logits(tmp_path, "val", np.zeros((3, 4, 4, 3), np.uint8), [0, 1, 2], None, 2, Pool(), "x")
    assert (np.load(tmp_path / "val.npy") == sign * np.finfo(np.float16).max).all()


def test_members_cost_what_their_networks_do_once_each_and_nothing_without_weight():
    members = [
        {"model": "a", "predict": {"flips": False}, "multiply_adds": 5},
        {"model": "a", "predict": {"flips": False}, "multiply_adds": 5},  # its CRF's output
        {"model": "b", "predict": {"flips": False}, "multiply_adds": 7},
    ]
    assert gain._cost({"members": members, "learned": {}}) == 12
    assert gain._cost({"members": members, "learned": {"weights": [0.0, 1.0, 0.0]}}) == 5
