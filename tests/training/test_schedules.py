"""Learning rates: each schedule against its formula, the warm-up, and the epochs that end a cycle."""

from itertools import pairwise
from math import cos, pi

import pytest

from segpipe.core.errors import ConfigError
from segpipe.training import parts
from segpipe.training.schedules import Place, cycle_ends, factor

FALLING = ("constant", "polynomial", "cosine")


def values(schedule, epochs=5, per_epoch=4, warmup=0):
    return [factor(schedule, Place(step, epochs, per_epoch, warmup)) for step in range(epochs * per_epoch)]


@pytest.mark.parametrize("schedule", parts.names("schedule"))
def test_every_schedule_stays_between_0_and_1(schedule):
    for warmup in (0, 3):
        assert all(0 <= value <= 1 for value in values(schedule, warmup=warmup))


@pytest.mark.parametrize("schedule", FALLING)
def test_a_schedule_warms_up_then_never_rises(schedule):
    found = values(schedule, warmup=4)
    assert found[:4] == pytest.approx([1 / 5, 2 / 5, 3 / 5, 4 / 5])
    assert found[4] == 1
    assert all(a >= b for a, b in pairwise(found[4:]))


def test_polynomial_and_cosine_follow_their_formulas():
    assert factor("polynomial", Place(3, 3, 4)) == pytest.approx((1 - 3 / 12) ** 0.9)
    assert factor("polynomial(power=2)", Place(3, 3, 4)) == pytest.approx((1 - 3 / 12) ** 2)
    assert factor("cosine", Place(3, 3, 4)) == pytest.approx((1 + cos(pi * 3 / 12)) / 2)
    assert factor("cosine(floor=0.1)", Place(3, 3, 4)) == pytest.approx(0.1 + 0.9 * (1 + cos(pi * 3 / 12)) / 2)


def test_one_cycle_rises_then_falls():
    found = values("one_cycle(rise=0.25, start=0.1, end=0.0)")
    assert found[0] == pytest.approx(0.1)
    assert found[5] == 1  # 5 / 20 of the steps
    assert found[15] == pytest.approx((1 + cos(pi * 10 / 15)) / 2)
    assert all(a <= b for a, b in pairwise(found[:6]))
    assert all(a >= b for a, b in pairwise(found[5:]))


def test_one_cycle_has_a_warm_up_of_its_own():
    assert values("one_cycle", warmup=7) == values("one_cycle")


def test_restarts_begin_anew_after_whole_epochs():
    # 5 epochs in 2 cycles: 2 and 3 epochs, 8 and 12 steps.
    found = values("restarts(cycles=2)")
    assert cycle_ends(5, 2) == [2, 5]
    assert found[:8] == pytest.approx([(1 + cos(pi * i / 8)) / 2 for i in range(8)])
    assert found[8:] == pytest.approx([(1 + cos(pi * i / 12)) / 2 for i in range(12)])


def test_the_first_cycle_warms_up_too():
    assert values("restarts(cycles=2)", warmup=3)[0] == pytest.approx(1 / 4)
    assert values("restarts(cycles=2)", warmup=3)[8] == 1


def test_cycles_fill_the_epochs_evenly():
    for epochs in range(1, 20):
        for cycles in range(1, epochs + 1):
            ends = cycle_ends(epochs, cycles)
            lengths = [b - a for a, b in pairwise([0, *ends])]
            assert ends[-1] == epochs
            assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("cosin", "did you mean 'cosine'"),
        ("cosine(flor=1)", "did you mean 'floor'"),
        ("cosine + constant", "not a sum"),
    ],
)
def test_wrong_schedules_are_refused(schedule, message):
    with pytest.raises(ConfigError, match=message):
        parts.check("schedule", schedule)
    with pytest.raises(ConfigError, match="cannot hold 4 cycles"):
        cycle_ends(3, 4)
    for wrong in ("one_cycle(rise=1)", "one_cycle(start=-1)", "cosine(floor=5)", "polynomial(power=-1)"):
        with pytest.raises(ConfigError, match="wanted a"):
            factor(wrong, Place(0, 1, 1))
