from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.stream.pace import SLACK_MS, SPEED, Pace


def drain(pace: Pace, waiting: list[int], now: float) -> list[int]:
    """Take what may leave."""
    taken = []
    while waiting and waiting[0] < pace.until(waiting[0], now):
        taken.append(waiting.pop(0))
        pace.sent(taken[-1])
    return taken


def test_two_seconds_leave_at_once_and_the_rest_at_its_pace() -> None:
    pace, waiting = Pace(), list(range(10_000, 14_000, 40))

    assert drain(pace, waiting, 5.0)[-1] == 12_000
    assert drain(pace, waiting, 5.0) == []
    assert drain(pace, waiting, 6.0)[-1] == 13_080
    assert drain(pace, waiting, 8.0)[-1] == 13_960


def test_whoever_is_not_behind_is_not_held_back() -> None:
    pace = Pace()
    for number in range(2_000):
        assert drain(pace, [number * 40], number * 0.04)


def test_what_was_left_out_costs_no_time() -> None:
    pace, waiting = Pace(), list(range(0, 2_000, 40))
    drain(pace, waiting, 0.0)
    pace.sent(2_000)

    assert drain(pace, [60_000], 0.1) == [60_000]


def test_four_seconds_are_caught_up_in_twenty_while_the_programme_goes_on_and_nothing_is_left_out() -> None:
    pace, waiting, now, sent = Pace(), list(range(0, 4_000, 40)), 100.0, 0
    behind = []
    for tick in range(25 * 21):
        waiting.append(4_000 + tick * 40)
        now += 0.04
        sent += len(drain(pace, waiting, now))
        behind.append(len(waiting) * 40)

    assert behind[0] <= 2_040
    assert behind[25 * 10] >= 900, "a burst"
    assert behind[25 * 20 :] == [0] * 25
    assert sent == 100 + 25 * 21


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), min_size=2, max_size=60))
def test_in_no_window_of_time_does_more_leave_than_the_slack_and_a_tenth_more_than_is_shown(
    moments: list[tuple[float, bool]],
) -> None:
    pace, waiting, now, made = Pace(), list[int](), 0.0, 0
    left: list[tuple[float, int]] = []
    for wait, reads in moments:
        now += wait
        while made < now * 1000:
            waiting.append(made)
            made += 40
        if reads:
            left += [(now, 40) for _ in drain(pace, waiting, now)]

    for first, (began, _) in enumerate(left):
        total = 0
        for moment, length in left[first:]:
            total += length
            assert total <= SLACK_MS + (moment - began) * 1000 * SPEED + 2 * 40


@given(
    st.lists(st.integers(0, 500), min_size=1, max_size=200),
    st.lists(st.floats(0, 2, allow_nan=False), min_size=1, max_size=60),
)
def test_never_more_than_the_slack_ahead_of_the_clock_and_never_stuck(steps: list[int], waits: list[float]) -> None:
    times, dts = [], 0
    for step in steps:
        dts += step
        times.append(dts)
    pace, waiting, now = Pace(), list(times), 0.0
    for wait in waits:
        now += wait
        for sent in drain(pace, waiting, now):
            assert sent - times[0] <= SLACK_MS + now * 1000 * SPEED + 1
    drain(pace, waiting, now + 1.0)
    left = len(waiting)
    for _ in range(300):
        now += 1.0
        drain(pace, waiting, now + 1.0)
    assert not waiting, left
