from __future__ import annotations

import pytest

from twisted.internet.task import Clock

from relay.net.moderation import GATHERED, MAX_PAUSE_S, MIN_PAUSE_S, START_PER_S, STOP_PER_S, TURN_S, Moderation


class Rests:
    """Stands in for time.sleep: notes how long; the clock moves on by it, as it does when a process sleeps."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.clock.rightNow += seconds


def moderated(reads_per_s: float) -> tuple[Moderation, Clock, Rests]:
    clock = Clock()
    clock.advance(1000)
    rests = Rests(clock)
    moderation = Moderation(clock, rests)
    moderation.reads = round(reads_per_s)
    moderation.tick(1.0)
    return moderation, clock, rests


@pytest.mark.parametrize(("reads", "active"), [(START_PER_S - 1, False), (START_PER_S, True), (START_PER_S + 1, True)])
def test_it_begins_at_the_rate_where_resting_pays(reads: float, active: bool) -> None:
    moderation, _, _ = moderated(reads)

    assert moderation.active is active
    moderation.stop()


def test_a_short_turn_is_followed_by_a_rest() -> None:
    moderation, clock, rests = moderated(START_PER_S)

    for _ in range(5):
        clock.advance(TURN_S)

    assert rests.seconds == pytest.approx([MAX_PAUSE_S - TURN_S] * 5)
    moderation.stop()


def test_the_work_of_a_turn_shortens_the_rest() -> None:
    moderation, clock, rests = moderated(START_PER_S)

    clock.advance(MAX_PAUSE_S / 4)

    assert rests.seconds == pytest.approx([MAX_PAUSE_S * 3 / 4])
    moderation.stop()


@pytest.mark.parametrize("turn_s", [MAX_PAUSE_S, 10 * MAX_PAUSE_S])
def test_a_turn_as_long_as_the_pause_is_followed_by_no_rest(turn_s: float) -> None:
    moderation, clock, rests = moderated(START_PER_S)

    for _ in range(3):
        clock.advance(turn_s)

    assert rests.seconds == []
    assert moderation.active
    moderation.stop()


@pytest.mark.parametrize(
    ("reads", "pause_s"),
    [
        (GATHERED / MAX_PAUSE_S / 2, MAX_PAUSE_S),
        (GATHERED / MAX_PAUSE_S, MAX_PAUSE_S),
        (GATHERED / MAX_PAUSE_S * 2, MAX_PAUSE_S / 2),
        (GATHERED / MIN_PAUSE_S, MIN_PAUSE_S),
        (GATHERED / MIN_PAUSE_S * 2, MIN_PAUSE_S),
    ],
)
def test_the_more_there_is_to_read_the_sooner_it_looks_again(reads: float, pause_s: float) -> None:
    moderation, _, _ = moderated(reads)

    assert moderation.pause_s == pytest.approx(pause_s)
    moderation.stop()


@pytest.mark.parametrize(("reads", "active"), [(STOP_PER_S - 1, False), (STOP_PER_S, True)])
def test_it_ends_only_well_below_where_it_begins(reads: float, active: bool) -> None:
    moderation, _, _ = moderated(START_PER_S)

    moderation.reads = round(reads)
    moderation.tick(1.0)

    assert moderation.active is active
    moderation.stop()


def test_gathering_does_not_end_itself() -> None:
    encoders, pictures_per_s = 12, 30
    moderation, _, _ = moderated(encoders * pictures_per_s * 4)  # three chunks of a picture and the sound before it

    for _ in range(4):
        moderation.reads = encoders * pictures_per_s  # gathered they are one read
        moderation.tick(1.0)
        assert moderation.active
    moderation.stop()


def test_a_quiet_relay_is_left_alone() -> None:
    _, clock, rests = moderated(0)

    assert rests.seconds == []
    assert clock.getDelayedCalls() == []


def test_stopping_leaves_no_timer() -> None:
    moderation, clock, rests = moderated(START_PER_S)

    moderation.stop()
    clock.advance(1)

    assert clock.getDelayedCalls() == []
    assert rests.seconds == []
