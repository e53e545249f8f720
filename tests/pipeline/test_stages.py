"""What stages do beside the pipeline: what they say, and numbers beyond what a file can hold."""

from types import SimpleNamespace

import pytest

from segpipe.ensembles import gain
from segpipe.stages import evaluate


@pytest.mark.parametrize(("coverage", "said"), [(0.3, ["warning: m rejects 70% of the pixels of val"]), (0.9, [])])
def test_an_ensemble_that_rejects_most_pixels_is_told_with_their_share(coverage, said):
    lines = []
    scores = {"per_class": {"names": ["a"], "images": [3]}, "coverage": coverage}
    evaluate._warn(SimpleNamespace(log=lines.append), "m", "val", scores)
    assert lines == said


def test_members_cost_what_their_networks_do_once_each_and_nothing_without_weight():
    members = [
        {"model": "a", "predict": {"flips": False}, "multiply_adds": 5},
        {"model": "a", "predict": {"flips": False}, "multiply_adds": 5},  # its CRF's output
        {"model": "b", "predict": {"flips": False}, "multiply_adds": 7},
    ]
    assert gain._cost({"members": members, "learned": {}}) == 12
    assert gain._cost({"members": members, "learned": {"weights": [0.0, 1.0, 0.0]}}) == 5
