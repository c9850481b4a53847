from __future__ import annotations

import pytest

from twisted.internet.task import Clock

from relay.net.moderation import PAUSE_S, START_PER_S, STOP_PER_S, TURN_S, Moderation


class Rests:
    """Stands in for time.sleep: rests on the clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.times = 0

    def __call__(self, seconds: float) -> None:
        assert seconds == PAUSE_S
        self.times += 1


def moderated(reads_per_s: float) -> tuple[Moderation, Clock, Rests]:
    clock = Clock()
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


def test_it_rests_once_in_every_turn_while_it_is_active() -> None:
    moderation, clock, rests = moderated(START_PER_S)

    for _ in range(5):
        clock.advance(TURN_S)

    assert rests.times == 6
    moderation.stop()


@pytest.mark.parametrize(("reads", "active"), [(STOP_PER_S - 1, False), (STOP_PER_S, True)])
def test_it_ends_only_well_below_where_it_begins(reads: float, active: bool) -> None:
    moderation, _, _ = moderated(START_PER_S)

    moderation.reads = round(reads)
    moderation.tick(1.0)

    assert moderation.active is active
    moderation.stop()


def test_a_quiet_relay_is_left_alone() -> None:
    _, clock, rests = moderated(0)

    assert rests.times == 0
    assert clock.getDelayedCalls() == []


def test_stopping_leaves_no_timer() -> None:
    moderation, clock, rests = moderated(START_PER_S)

    moderation.stop()
    clock.advance(1)

    assert clock.getDelayedCalls() == []
    assert rests.times == 1
