from __future__ import annotations

import pytest

from twisted.internet.task import Clock

from relay.http.guard import FREE_FAILURES, MAX_ADDRESSES, MAX_DELAYED, Guard
from relay.http.problems import Problem
from relay.secret import Secret


@pytest.fixture
def guard(clock: Clock) -> Guard:
    clock.advance(1000)
    return Guard(token=Secret("right"), hosts=(), clock=clock)


def failures(guard: Guard, count: int) -> list[float]:
    delays = []
    for _ in range(count):
        delays.append(guard.delay("192.0.2.1"))
        if delays[-1]:
            guard.delayed_answer_ended("192.0.2.1")
    return delays


def test_delays_double_up_to_a_minute(guard: Guard) -> None:
    assert failures(guard, 14) == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_quiet_minute_forgives_some_and_ten_forgive_all(guard: Guard, clock: Clock) -> None:
    failures(guard, 8)
    clock.advance(61)
    assert failures(guard, 4) == [0, 0, 0, 1]

    clock.advance(601)

    assert failures(guard, FREE_FAILURES + 1) == [0, 0, 0, 0, 0, 1]


def test_addresses_do_not_pay_for_each_other(guard: Guard) -> None:
    failures(guard, 10)

    assert guard.delay("192.0.2.2") == 0


def test_only_so_many_delayed_answers_are_held(guard: Guard) -> None:
    for _ in range(FREE_FAILURES + MAX_DELAYED):
        guard.delay("192.0.2.1")

    with pytest.raises(Problem) as caught:
        guard.delay("192.0.2.1")
    assert caught.value.status == 429
    guard.delayed_answer_ended("192.0.2.1")
    assert guard.delay("192.0.2.1") > 0


def test_a_flood_of_addresses_is_not_remembered_whole(guard: Guard) -> None:
    failures(guard, 10)
    for number in range(MAX_ADDRESSES):
        guard.delay(f"2001:db8::{number:x}")

    assert guard.delay("192.0.2.1") == 0
    assert len(guard._failures) == MAX_ADDRESSES


def test_the_end_of_an_answer_to_a_forgotten_address_is_harmless(guard: Guard) -> None:
    guard.delayed_answer_ended("192.0.2.99")

    assert guard.delay("192.0.2.99") == 0
