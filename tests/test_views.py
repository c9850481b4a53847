"""What the views say of times."""

from __future__ import annotations

import pytest

from relay.views import TimesOfDay


def test_a_moment_has_one_time_of_day_however_the_two_clocks_are_read() -> None:
    late = iter([0.0, 0.000_05, 0.000_9, 0.2])
    times = TimesOfDay(lambda: 1_796_040_010.0 + next(late))

    assert {times.of(5.0, 15.0) for _ in range(4)} == {1_796_040_000.0}


@pytest.mark.parametrize("set_by", [-3600.0, 0.6, 86_400.0])
def test_a_wall_clock_that_is_set_moves_every_time(set_by: float) -> None:
    wall = [1_796_040_010.0]
    times = TimesOfDay(lambda: wall[0])
    before = times.of(5.0, 15.0)
    wall[0] += set_by

    assert times.of(5.0, 15.0) == pytest.approx(before + set_by, abs=0.001)
