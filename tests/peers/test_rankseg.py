"""Our labels of the largest expected score beside those of the authors' package; run by `make peers`."""

import numpy as np
import pytest
import torch

from segpipe.refine import expected

pytestmark = pytest.mark.filterwarnings("ignore")  # of the package


def distribution(p):
    """Of the sum of independent bits, one bit after the other."""
    ways = np.array([1.0])
    for q in p:
        ways = np.convolve(ways, [1 - q, q])
    return ways


def worth(p, chosen, metric):
    """The exact expected score of a set of pixels; images without the class are left out, so count 0."""
    inside, outside = p[chosen], p[~chosen]
    n = len(inside)
    if metric == "IoU":
        ways = distribution(outside)
        return inside.sum() * (ways / (n + np.arange(len(ways)))).sum()
    total = 0.0
    for place in np.flatnonzero(chosen):
        ways = distribution(np.delete(p, place))
        total += 2 * p[place] * (ways / (n + 1 + np.arange(len(ways)))).sum()
    return total


@pytest.mark.parametrize("metric", ["IoU", "dice"])
@pytest.mark.parametrize("seed", range(6))
def test_our_sets_are_worth_as_much_as_the_authors(metric, seed):
    rankseg = pytest.importorskip("rankseg", reason="rankseg is not installed; `make peers`")
    random = np.random.default_rng(seed)
    p = random.beta(*random.uniform(0.3, 2.5, 2), size=(9, 12)).astype(np.float32)
    theirs = rankseg.RankSEG(metric=metric, output_mode="multilabel", solver="RMA", pruning_prob=0.0)
    chosen = theirs.predict(torch.from_numpy(p)[None, None])[0, 0].numpy().astype(bool).ravel()
    own = p.ravel() >= expected.thresholds(p[None], metric.lower())[0]
    flat = p.ravel().astype(float)
    assert worth(flat, own, metric) >= worth(flat, chosen, metric) - 1e-3
