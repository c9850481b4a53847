"""How fast a destination that is behind gets what waits for it."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from relay.stream.pace import SLACK_MS, Pace

FRAME = 40


def drain(pace: Pace, waiting: list[int], now: float) -> list[int]:
    """Take what may leave."""
    taken = []
    while waiting and waiting[0] < pace.until(waiting[0], waiting[-1], now):
        taken.append(waiting.pop(0))
        pace.sent(taken[-1])
    return taken


class Show:
    """A programme that a destination is behind of; *speed* is how fast the encoder's clock runs."""

    def __init__(self, behind_ms: int = 0, *, speed: float = 1.0) -> None:
        self.pace = Pace()
        self.waiting = list(range(0, behind_ms, FRAME))
        self.made = self.began = behind_ms
        self.now = 100.0
        self._speed = speed
        self._shown = 0.0

    def go_on(self, seconds: float, *, reads: bool = True, step: float = 0.04) -> list[int]:
        """Let time pass; return what left."""
        left = []
        for _ in range(round(seconds / step)):
            self.now += step
            self._shown += step * 1000 * self._speed
            while self.made - self.began < self._shown:
                self.waiting.append(self.made)
                self.made += FRAME
            if reads:
                left += drain(self.pace, self.waiting, self.now)
        return left

    def pause(self, seconds: float) -> list[int]:
        """Let time pass without the encoder."""
        left = []
        for _ in range(round(seconds / 0.25)):
            self.now += 0.25
            left += drain(self.pace, self.waiting, self.now)
        return left

    @property
    def behind(self) -> int:
        return len(self.waiting) * FRAME


def test_two_seconds_leave_at_once_and_the_rest_as_fast_as_it_is_shown() -> None:
    pace, waiting = Pace(), list(range(10_000, 14_000, FRAME))

    assert drain(pace, waiting, 5.0)[-1] == 12_000
    assert drain(pace, waiting, 5.0) == []
    assert drain(pace, waiting, 6.0)[-1] == 13_000
    assert drain(pace, waiting, 7.5)[-1] == 13_960


def test_whoever_is_not_behind_is_not_held_back() -> None:
    pace = Pace()
    for number in range(2_000):
        assert drain(pace, [number * FRAME], number * FRAME / 1000)


def test_what_never_was_costs_no_time() -> None:
    pace, waiting = Pace(), list(range(0, 2_000, FRAME))
    drain(pace, waiting, 0.0)
    pace.sent(2_000)

    assert drain(pace, [60_000], 0.1) == [60_000]


def test_what_was_left_out_costs_no_time_and_gives_none() -> None:
    show = Show(3_500)
    show.go_on(5)
    assert show.behind > 1_400

    del show.waiting[:-15]
    show.pace.jump()

    assert len(show.go_on(0.04)) == 1 + 1
    assert show.behind == 560
    show.go_on(20)
    assert show.behind == 560, "more than was left out"


def test_a_stall_of_less_than_the_slack_is_made_good_at_once() -> None:
    show = Show()
    show.go_on(10)
    assert show.behind == 0

    show.go_on(1.5, reads=False)
    assert show.behind == 1_480 + FRAME
    show.go_on(0.04)

    assert show.behind == 0


def test_a_destination_stays_as_far_behind_as_it_is_for_an_hour() -> None:
    show = Show(3_600)
    show.go_on(1)
    behind = show.behind
    assert abs(behind - 1_600) <= FRAME

    left = show.go_on(3600)

    assert abs(show.behind - behind) <= FRAME
    assert abs(len(left) * FRAME - 3_600_000) <= FRAME


def test_an_encoder_whose_clock_runs_fast_does_not_fill_the_queue() -> None:
    show = Show(3_600, speed=1.001)
    show.go_on(1)
    behind = show.behind

    show.go_on(3600)

    assert show.behind <= behind + FRAME


def test_an_encoder_whose_clock_runs_slowly_lets_the_destination_catch_up() -> None:
    show = Show(3_600, speed=0.999)
    show.go_on(1)

    show.go_on(3600)

    assert show.behind == 0


def test_a_pause_of_the_encoder_is_time_to_catch_up() -> None:
    show = Show(3_600)
    show.go_on(10)
    behind = show.behind

    left = show.pause(1.0)
    assert abs(len(left) * FRAME - 1_000) <= FRAME
    assert abs(behind - show.behind - 1_000) <= FRAME
    show.pause(1.0)

    assert show.behind == 0


def test_packets_that_come_in_clumps_are_no_excuse_to_catch_up() -> None:
    show = Show(3_600)
    show.go_on(1)
    behind = show.behind

    for _ in range(500):
        show.now += 0.24
        drain(show.pace, show.waiting, show.now)
        show.waiting += range(show.made, show.made + 240, FRAME)
        show.made += 240
        drain(show.pace, show.waiting, show.now)

    assert behind - show.behind <= 240


MOMENTS = st.lists(
    st.one_of(
        st.tuples(st.floats(0, 3), st.integers(0, 75)),
        st.tuples(st.sampled_from([0.25, 0.5, 1.0]), st.just(0)),
        st.tuples(st.just(0.0), st.integers(6, 25)),
        st.just((-1.0, 0)),
    ),
    min_size=2,
    max_size=60,
)
"""Seconds that pass and pictures that come then; -1: the destination begins to read, or stops to."""


@given(MOMENTS, st.integers(0, 200))
def test_in_no_span_of_time_does_more_leave_than_the_slack_and_what_the_clock_or_the_programme_went_on_by(
    moments: list[tuple[float, int]], backlog: int
) -> None:
    pace, waiting, now = Pace(), list(range(0, backlog * FRAME, FRAME)), 0.0
    made = backlog * FRAME
    looks: list[tuple[float, int, int]] = []
    sent, reads = 0, True
    for wait, pictures in moments:
        reads = reads is not (wait < 0)
        now += max(wait, 0)
        waiting += range(made, made + pictures * FRAME, FRAME)
        made += pictures * FRAME
        if reads and waiting:
            before = sent
            sent += len(drain(pace, waiting, now)) * FRAME
            looks.append((now, made, before))
    looks.append((now, made, sent))

    for (began, first, had), (ended, last, has) in itertools.combinations(looks, 2):
        assert has - had <= SLACK_MS + max((ended - began) * 1000, last - first) + 2 * FRAME


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
            assert sent - times[0] <= SLACK_MS + now * 1000 + 1
    drain(pace, waiting, now + 1.0)
    left = len(waiting)
    for _ in range(300):
        now += 1.0
        drain(pace, waiting, now + 1.0)
    assert not waiting, left
