"""The distribution of two t variables together: published quantiles, limits, and many draws."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from segpipe.metrics.behrens_fisher import Freedom, p_values, quantiles


@pytest.mark.parametrize(
    "degrees, wanted", [(0, 2.447), (15, 2.440), (30, 2.435), (45, 2.435), (60, 2.435), (90, 2.447)]
)
def test_quantiles_are_those_of_sukhatme_1938_for_six_and_six_degrees(degrees, wanted):
    found = quantiles(np.array([math.radians(degrees)]), Freedom(6, 6), 0.05)
    assert found[0] == pytest.approx(wanted, abs=1.5e-3)


@pytest.mark.parametrize("images, seeds", [(19, 1), (4, 9), (199, 36)])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 45, 1e-6])
def test_at_its_ends_it_is_one_t_variable(images, seeds, alpha):
    found = quantiles(np.array([0.0, math.pi / 2]), Freedom(images, seeds), alpha)
    assert found == pytest.approx([stats.t.isf(alpha / 2, images), stats.t.isf(alpha / 2, seeds)], rel=2e-3)
    assert p_values(np.array([2.5]), np.array([0.3]), Freedom(images))[0] == pytest.approx(2 * stats.t.sf(2.5, images))


@pytest.mark.parametrize("freedom", [Freedom(19, 1), Freedom(4, 2), Freedom(79, 12)])
@pytest.mark.parametrize("angle", [0.2, 0.8, 1.3])
def test_p_is_the_share_of_draws_that_lie_further_out(freedom, angle):
    random = np.random.default_rng(1)
    draws = np.abs(
        math.cos(angle) * random.standard_t(freedom.images, 400_000)
        + math.sin(angle) * random.standard_t(freedom.seeds, 400_000)
    )
    for ratio in (0.5, 2.0, 5.0):
        share = (draws > ratio).mean()
        found = p_values(np.array([ratio]), np.array([angle]), freedom)[0]
        assert found == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 400_000) + 1e-5)


@pytest.mark.parametrize("seeds", [1, 2, 4])
@pytest.mark.parametrize("angle", [0.3, 0.9, 1.4])
def test_small_p_of_few_seeds_are_those_of_numerical_integration(seeds, angle):
    def exact(ratio):
        def inside(x):
            shifted = (ratio - math.cos(angle) * x) / math.sin(angle)
            return stats.t.pdf(x, 19) * stats.t.sf(shifted, seeds)

        return 2 * integrate.quad(inside, -60, 60, limit=2000, points=[0, ratio / math.cos(angle)])[0]

    for ratio in (3.0, 12.0, 60.0):
        found = p_values(np.array([ratio]), np.array([angle]), Freedom(19, seeds))[0]
        assert found == pytest.approx(exact(ratio), rel=0.02, abs=1e-9)


def test_an_interval_ends_where_p_is_its_error():
    angles = np.linspace(0, math.pi / 2, 9)
    for freedom in (Freedom(4, 1), Freedom(19, 36)):
        for alpha in (0.05, 0.001):
            back = p_values(quantiles(angles, freedom, alpha), angles, freedom)
            assert back == pytest.approx(np.full(9, alpha), rel=0.02)
