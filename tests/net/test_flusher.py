from __future__ import annotations

from collections.abc import Callable

import pytest

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from relay.net.flusher import LOAD_SHARE, MAX_WAIT_S, NOTICEABLE_S, PAIRING_S, PAIRING_SHARE, PUNCTUAL_S, Flusher


class Work:
    """A flush that takes time on a clock."""

    def __init__(self, clock: Clock, takes: float = 0.0) -> None:
        self.clock = clock
        self.takes = takes
        self.at: list[float] = []

    def __call__(self) -> None:
        self.at.append(self.clock.seconds())
        self.clock.rightNow += self.takes


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(100)
    return clock


def test_everything_that_registered_is_flushed_once_at_the_end_of_the_turn(clock: Clock) -> None:
    flusher, first, second = Flusher(clock), Work(clock), Work(clock)
    flusher.add(first)
    flusher.add(second)
    assert first.at == []

    clock.advance(0)
    clock.advance(5)

    assert (first.at, second.at) == ([100], [100])
    assert flusher.flushes == 1


def test_what_registers_during_a_flush_waits_for_the_next(clock: Clock) -> None:
    flusher = Flusher(clock)
    calls: list[str] = []

    def again() -> None:
        calls.append("first")
        flusher.add(lambda: calls.append("second"))

    flusher.add(again)
    flusher.flush_now()
    assert calls == ["first"]

    clock.advance(0)
    assert calls == ["first", "second"]


@pytest.mark.parametrize(("wait", "flushed"), [(0.049, []), (0.050, [100.05])])
def test_merging_collects_for_that_long(clock: Clock, wait: float, flushed: list[float]) -> None:
    flusher, work = Flusher(clock, merge_ms=50), Work(clock)
    flusher.add(work)

    clock.advance(wait)

    assert work.at == flushed


def settled(clock: Clock, flusher: Flusher, takes: float) -> None:
    """Flush until the flush time that the flusher reckons with is *takes*."""
    for _ in range(60):
        flusher.add(Work(clock, takes))
        clock.advance(MAX_WAIT_S)


@pytest.mark.parametrize(
    ("takes", "waits"),
    [
        (0.004, 0.004 * PAIRING_SHARE),
        (PAIRING_S / PAIRING_SHARE, PAIRING_S),
        (0.008, PAIRING_S),
        (PAIRING_S / LOAD_SHARE, PAIRING_S),
        (0.02, 0.02 * LOAD_SHARE),
    ],
)
def test_a_busy_relay_waits_a_multiple_of_its_flush_time(clock: Clock, takes: float, waits: float) -> None:
    flusher, work = Flusher(clock), Work(clock)
    settled(clock, flusher, takes=takes)
    clock.advance(1)
    started = clock.seconds()

    flusher.add(work)
    clock.advance(waits - 0.001)
    assert work.at == []
    clock.advance(0.002)

    assert work.at == [pytest.approx(started + waits, abs=0.0015)]


def test_the_moment_comes_when_all_who_expected_something_have_it(clock: Clock) -> None:
    flusher, first, second, third = Flusher(clock), Work(clock), Work(clock), Work(clock)
    settled(clock, flusher, takes=0.01)
    clock.advance(1)
    flusher.add(first, expecting=True)
    flusher.add(second, expecting=True)
    flusher.add(third)

    flusher.settle(first)
    flusher.settle(first)
    flusher.settle(third)
    clock.advance(0)
    assert second.at == []
    flusher.settle(second)
    clock.advance(0)

    assert [len(work.at) for work in (first, second, third)] == [1, 1, 1]
    assert flusher.due_at < clock.seconds()


def test_one_that_registers_twice_settles_once(clock: Clock) -> None:
    flusher, work = Flusher(clock), Work(clock)
    settled(clock, flusher, takes=0.01)
    clock.advance(1)
    flusher.add(work, expecting=True)
    flusher.add(work, expecting=True)

    flusher.settle(work)
    clock.advance(0)

    assert len(work.at) == 1


def test_a_packet_may_be_read_as_late_as_a_flush_takes(clock: Clock) -> None:
    flusher = Flusher(clock)
    assert flusher.tolerance_s == PUNCTUAL_S

    settled(clock, flusher, takes=0.01)

    assert flusher.tolerance_s == pytest.approx(0.01, rel=0.05)


def test_one_that_registers_again_and_expects_nothing_any_more_is_settled(clock: Clock) -> None:
    flusher, work, other = Flusher(clock), Work(clock), Work(clock)
    settled(clock, flusher, takes=0.01)
    clock.advance(1)
    flusher.add(work, expecting=True)
    flusher.add(other, expecting=True)
    flusher.add(work, expecting=False)
    flusher.add(work)
    clock.advance(0)
    assert other.at == []

    flusher.settle(other)
    clock.advance(0)

    assert (len(work.at), len(other.at)) == (1, 1)


def test_what_expects_nothing_waits_for_those_who_do_and_then_as_long_as_load_says(clock: Clock) -> None:
    flusher, work = Flusher(clock), Work(clock)
    settled(clock, flusher, takes=0.01)
    clock.advance(1)

    flusher.add(work)
    flusher.settle(work)
    clock.advance(0)

    assert work.at == []


def test_nothing_expected_is_no_reason_to_merge_less_than_the_operator_chose(clock: Clock) -> None:
    flusher, work = Flusher(clock, merge_ms=50), Work(clock)

    flusher.add(work, expecting=True)
    flusher.settle(work)
    clock.advance(0.049)
    assert work.at == []
    clock.advance(0.001)

    assert len(work.at) == 1


def test_something_big_does_not_wait_for_load(clock: Clock) -> None:
    flusher, work = Flusher(clock), Work(clock)
    settled(clock, flusher, takes=0.01)
    clock.advance(1)

    flusher.add(work)
    flusher.hurry()
    assert work.at == []
    clock.advance(0)

    assert len(work.at) == 1


def test_something_big_waits_as_long_as_the_operator_chose(clock: Clock) -> None:
    flusher, work = Flusher(clock, merge_ms=50), Work(clock)

    flusher.add(work)
    flusher.hurry()
    clock.advance(0.049)
    assert work.at == []
    clock.advance(0.001)

    assert len(work.at) == 1


def test_to_hurry_with_nothing_to_send_does_nothing(clock: Clock) -> None:
    flusher = Flusher(clock)

    flusher.hurry()

    assert clock.getDelayedCalls() == []


def test_the_wait_is_never_longer_than_its_cap(clock: Clock) -> None:
    flusher, work = Flusher(clock), Work(clock)
    settled(clock, flusher, takes=30.0)

    flusher.add(work)
    clock.advance(MAX_WAIT_S)

    assert len(work.at) == 1


@pytest.mark.parametrize(("takes", "flushed"), [(NOTICEABLE_S * 0.9, 1), (NOTICEABLE_S * 1.1, 0)])
def test_a_flush_that_costs_nothing_worth_a_delay_is_not_delayed(clock: Clock, takes: float, flushed: int) -> None:
    flusher, work = Flusher(clock), Work(clock)
    settled(clock, flusher, takes=takes)

    flusher.add(work)
    clock.advance(0)

    assert len(work.at) == flushed


def test_the_load_never_shortens_the_time_that_the_operator_chose(clock: Clock) -> None:
    flusher, work = Flusher(clock, merge_ms=50), Work(clock)
    settled(clock, flusher, takes=0.01)

    flusher.add(work)
    clock.advance(0.049)

    assert work.at == []


def test_flush_now_does_not_wait_and_leaves_nothing_behind(clock: Clock) -> None:
    flusher, work = Flusher(clock, merge_ms=50), Work(clock)
    flusher.flush_now()
    flusher.add(work)

    flusher.flush_now()

    assert work.at == [100]
    assert clock.getDelayedCalls() == []


class FailureTests(TestCase):
    def test_one_that_raises_does_not_keep_the_others_from_being_flushed(self) -> None:
        clock = Clock()
        flusher, good = Flusher(clock), Work(clock)
        flusher.add(_raising(RuntimeError("broken")))
        flusher.add(good)

        clock.advance(0)

        assert len(good.at) == 1
        assert len(self.flushLoggedErrors(RuntimeError)) == 1
        flusher.add(good)
        clock.advance(1)
        assert len(good.at) == 2


def _raising(error: Exception) -> Callable[[], None]:
    def flush() -> None:
        raise error

    return flush


def test_what_a_long_flush_kept_waiting_does_not_wait_again(clock: Clock) -> None:
    flusher, work = Flusher(clock), Work(clock)
    settled(clock, flusher, takes=0.004)
    flusher.add(Work(clock, 0.05))
    clock.advance(MAX_WAIT_S)

    flusher.add(work)
    clock.advance(0)

    assert len(work.at) == 1


def test_a_long_flush_is_no_sign_of_load(clock: Clock) -> None:
    flusher, work = Flusher(clock), Work(clock)
    settled(clock, flusher, takes=0.004)
    for takes in (0.05, 0.004):
        flusher.add(Work(clock, takes))
        clock.advance(MAX_WAIT_S)

    flusher.add(work)
    clock.advance(0.005 * PAIRING_SHARE)

    assert len(work.at) == 1
