from __future__ import annotations

import pytest

from twisted.internet.task import Clock

from relay.net.moderation import (
    FEW_PAUSE_S,
    GATHERED,
    MAX_PAUSE_S,
    PAUSE_S_PER_READ,
    START_PER_S,
    STOP_PER_S,
    Moderation,
)


class Encoders:
    """Stands in for the set of sockets: notes when it was looked at."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.gathering = False
        self.looks: list[float] = []

    def start(self) -> None:
        assert not self.gathering
        self.gathering = True

    def stop(self) -> None:
        assert self.gathering
        self.gathering = False

    def look(self) -> None:
        assert self.gathering
        self.looks.append(self.clock.seconds())


def moderated(reads_per_s: float) -> tuple[Moderation, Clock, Encoders]:
    clock = Clock()
    encoders = Encoders(clock)
    moderation = Moderation(clock, encoders)  # type: ignore[arg-type]
    moderation.reads = round(reads_per_s)
    moderation.tick(1.0)
    return moderation, clock, encoders


@pytest.mark.parametrize(("reads", "active"), [(START_PER_S - 1, False), (START_PER_S, True), (START_PER_S + 1, True)])
def test_it_begins_at_the_rate_where_gathering_pays(reads: float, active: bool) -> None:
    moderation, _, encoders = moderated(reads)

    assert moderation.active is active
    assert encoders.gathering is active


def test_it_looks_at_once_and_then_in_paces() -> None:
    moderation, clock, encoders = moderated(START_PER_S)

    clock.pump([moderation.pause_s] * 5)

    assert encoders.looks == pytest.approx([n * moderation.pause_s for n in range(6)])
    moderation.stop()


@pytest.mark.parametrize(
    ("reads", "pause_s"),
    [
        (START_PER_S, START_PER_S * PAUSE_S_PER_READ),
        (2 * START_PER_S, 2 * START_PER_S * PAUSE_S_PER_READ),
        (MAX_PAUSE_S / PAUSE_S_PER_READ, MAX_PAUSE_S),
        (GATHERED / MAX_PAUSE_S, MAX_PAUSE_S),
        (GATHERED / MAX_PAUSE_S * 8, MAX_PAUSE_S / 8),
    ],
)
def test_the_pause_grows_with_what_it_saves_until_a_look_would_take_too_long(reads: float, pause_s: float) -> None:
    moderation, _, _ = moderated(reads)

    assert moderation.pause_s == pytest.approx(pause_s, rel=0.001)  # reads are counted in whole numbers


@pytest.mark.parametrize(("reads", "active"), [(STOP_PER_S - 1, False), (STOP_PER_S, True)])
def test_it_ends_only_well_below_where_it_begins(reads: float, active: bool) -> None:
    moderation, _, encoders = moderated(START_PER_S)

    moderation.reads = round(reads)
    moderation.tick(1.0)

    assert moderation.active is active
    assert encoders.gathering is active


def test_few_encoders_wait_the_shortest_time() -> None:
    moderation, _, _ = moderated(START_PER_S)

    moderation.reads = round(STOP_PER_S)
    moderation.tick(1.0)

    assert moderation.pause_s == FEW_PAUSE_S


def test_gathering_does_not_end_itself() -> None:
    encoders, pictures_per_s = 12, 30
    moderation, _, _ = moderated(encoders * pictures_per_s * 4)  # three chunks of a picture and the sound before it

    for _ in range(4):
        moderation.reads = encoders * pictures_per_s  # gathered they are one read
        moderation.tick(1.0)
        assert moderation.active


def test_a_quiet_relay_is_left_alone() -> None:
    _, clock, encoders = moderated(0)

    assert encoders.looks == []
    assert clock.getDelayedCalls() == []


def test_stopping_leaves_no_timer() -> None:
    moderation, clock, encoders = moderated(START_PER_S)

    moderation.stop()
    moderation.stop()

    assert clock.getDelayedCalls() == []
    assert not encoders.gathering


def test_a_system_that_has_no_such_set_goes_on_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.net.moderation.HAVE_EPOLL", False)

    moderation, _, encoders = moderated(100 * START_PER_S)

    assert not moderation.active
    assert not encoders.gathering


def test_no_time_is_no_rate() -> None:
    moderation, _, encoders = moderated(0)

    moderation.reads = 10**6
    moderation.tick(0.0)

    assert not encoders.gathering
