from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.net.backoff import EARLY, QUICK, SLOW, STABLE_S, Backoff, Pace


def longest(low: float, high: float) -> float:
    return high


def shortest(low: float, high: float) -> float:
    return low


def test_waits_double_up_to_the_cap() -> None:
    backoff = Backoff(longest)

    assert [backoff.next_wait(QUICK) for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_the_jitter_takes_up_to_half_of_a_wait_away() -> None:
    backoff = Backoff(shortest)

    assert [backoff.next_wait(QUICK) for _ in range(8)] == [0.25, 0.5, 1, 2, 4, 8, 15, 15]


def test_fifty_that_lost_the_same_network_spread_out() -> None:
    waits = []
    for seed in range(50):
        backoff = Backoff(random.Random(seed).uniform)
        waits.append([backoff.next_wait(QUICK) for _ in range(4)][-1])

    assert max(waits) - min(waits) >= 1.5
    assert len(set(waits)) == 50


def test_the_slow_pace_is_for_refusals() -> None:
    backoff = Backoff(longest)

    assert [backoff.next_wait(SLOW) for _ in range(7)] == [15, 30, 60, 120, 240, 300, 300]


@pytest.mark.parametrize(("pace", "waits"), [(SLOW, [15, 15, 30, 60, 120, 150]), (EARLY, [15, 15, 30, 30, 30, 30])])
def test_who_was_refused_never_asks_again_within_fifteen_seconds(pace: Pace, waits: list[float]) -> None:
    backoff = Backoff(shortest)

    assert [backoff.next_wait(pace) for _ in waits] == waits


def test_changing_the_pace_begins_that_pace() -> None:
    backoff = Backoff(longest)
    for _ in range(5):
        backoff.next_wait(QUICK)

    assert [backoff.next_wait(SLOW), backoff.next_wait(SLOW)] == [15, 30]
    assert backoff.next_wait(QUICK) == 0.5


@pytest.mark.parametrize(("seconds", "expected"), [(STABLE_S - 0.01, 4), (STABLE_S, 0.5), (STABLE_S + 1, 0.5)])
def test_a_session_of_a_minute_begins_from_the_beginning(seconds: float, expected: float) -> None:
    backoff = Backoff(longest)
    for _ in range(3):
        backoff.next_wait(QUICK)

    backoff.lived(seconds)

    assert backoff.next_wait(QUICK) == expected


@given(st.integers(1, 5000), st.sampled_from([QUICK, SLOW, Pace(first_s=1.0, cap_s=7.0)]), st.floats(0.5, 1.0))
def test_it_never_gives_up_and_never_waits_longer_than_the_cap(times: int, pace: Pace, jitter: float) -> None:
    backoff = Backoff(lambda low, high: jitter)
    backoff.failures = times

    wait = backoff.next_wait(pace)

    assert pace.first_s * 0.5 <= wait <= pace.cap_s
