from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relay.net.backoff import QUICK, SLOW
from relay.net.turns import Turns


def turns(count: int = 2, retry_s: float = 0.0) -> Turns:
    return Turns(count, lambda low, high: high, retry_s=retry_s)


def test_two_failures_in_a_row_make_it_the_other_addresss_turn_at_once() -> None:
    one = turns()
    assert one.begin(0.0) == 5.0
    assert (one.failed(QUICK, 0.0), one.current) == (0.5, 0)
    one.begin(0.5)

    assert (one.failed(QUICK, 0.5), one.current) == (0.0, 1)


def test_five_seconds_without_an_accepted_publish_are_counted_over_attempts() -> None:
    one = turns()
    one.begin(0.0)
    one.failed(QUICK, 3.0)

    assert one.begin(3.5) == 1.5
    assert (one.failed(QUICK, 5.0), one.current) == (0.0, 1)


def test_a_refusal_that_waits_longer_than_five_seconds_leaves_the_turn_to_the_other() -> None:
    one = turns()
    one.begin(0.0)

    assert (one.failed(SLOW, 1.0), one.current) == (4.0, 1)


def test_two_dead_addresses_take_turns_and_slow_down() -> None:
    one, now, calls = turns(), 0.0, []
    for _ in range(12):
        calls.append((now, one.current))
        one.begin(now)
        now += one.failed(QUICK, now)

    assert [which for _, which in calls[:8]] == [0, 0, 1, 1, 0, 0, 1, 1]
    at_first = [at for at, which in calls if not which]
    gaps = [later - sooner for sooner, later in pairwise(at_first)]
    assert gaps == sorted(gaps)


def test_a_session_of_ten_seconds_was_good_and_a_shorter_one_a_failed_attempt() -> None:
    for lived_s, after in ((9.9, 1), (10.0, 0)):
        one = turns()
        one.begin(0.0)
        one.failed(QUICK, 0.0)
        one.begin(0.5)
        one.accepted()
        one.failed(QUICK, 20.0, lived_s=lived_s)

        assert one.current == after


def test_when_the_primary_answers_it_is_next_and_at_once() -> None:
    one = turns(retry_s=30)
    one.begin(0.0)
    one.failed(QUICK, 5.0)
    assert one.current == 1
    one.begin(5.0)
    one.accepted()
    one.answers()

    assert (one.failed(QUICK, 20.0, lived_s=15.0), one.current) == (0.0, 0)


def test_patience_grows_while_neither_accepts_and_is_back_when_one_does() -> None:
    one, now, limits = turns(), 0.0, []
    for _ in range(8):
        limit = one.begin(now)
        assert limit is not None
        limits.append(limit)
        now += limit
        now += one.failed(QUICK, now)

    assert limits[:2] == [5.0, 5.0]
    assert max(limits) == 20.0
    one.accepted()
    one.failed(QUICK, now + 100, lived_s=100)
    assert one.begin(now + 100.5) == 4.5


def test_one_address_has_no_limit_and_its_own_waits() -> None:
    one = turns(1)
    waits = []
    for _ in range(4):
        assert one.begin(0.0) is None
        waits.append(one.failed(QUICK, 0.0))

    assert (waits, one.current) == ([0.5, 1, 2, 4], 0)


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans(), st.floats(0, 100)), max_size=60))
def test_no_address_is_called_twice_within_its_wait_and_every_attempt_has_time(
    script: list[tuple[float, bool, float]],
) -> None:
    one, now = turns(retry_s=2.0), 0.0
    last: dict[int, float] = {}
    for lasts, refused, lived in script:
        limit = one.begin(now)
        assert limit is not None
        assert limit > 0
        which = one.current
        assert now >= last.get(which, -9.0) + 2.0 - 1e-6
        now += min(lasts, limit)
        if lived > 50:
            one.accepted()
            now += lived
        last[which] = now
        wait = one.failed(SLOW if refused else QUICK, now, lived_s=lived if lived > 50 else 0.0)
        assert wait >= 0
        now += wait
