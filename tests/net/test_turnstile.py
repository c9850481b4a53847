from __future__ import annotations

import pytest

from relay.net.turnstile import FREE, LONGEST_WAIT_S, REMEMBERED, Turnstile


def waits(turnstile: Turnstile, times: int, now: float = 100.0) -> list[float | None]:
    return [turnstile.wait_s("show", "primary", now) for _ in range(times)]


def test_the_first_ones_pass_and_the_next_wait_a_second_each() -> None:
    assert waits(Turnstile(), FREE + 3) == [0.0] * FREE + [1.0, 2.0, 3.0]


def test_who_would_wait_too_long_is_refused_and_counts_for_nothing() -> None:
    turnstile = Turnstile()
    longest = int(LONGEST_WAIT_S)

    answers = waits(turnstile, FREE + longest + 2)

    assert answers[FREE + longest - 1 :] == [LONGEST_WAIT_S, None, None]
    assert turnstile.wait_s("show", "primary", 101.0) == LONGEST_WAIT_S


@pytest.mark.parametrize(("after", "wait"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0), (60.0, 0.0)])
def test_time_gives_the_turns_back(after: float, wait: float) -> None:
    turnstile = Turnstile()
    waits(turnstile, FREE)

    assert turnstile.wait_s("show", "primary", 100.0 + after) == pytest.approx(wait)


def test_feeds_do_not_slow_each_other() -> None:
    turnstile = Turnstile()
    waits(turnstile, FREE + 5)

    assert turnstile.wait_s("show", "backup", 100.0) == 0.0
    assert turnstile.wait_s("other", "primary", 100.0) == 0.0


def test_memory_is_bounded_by_forgetting_the_oldest() -> None:
    turnstile = Turnstile()
    waits(turnstile, FREE + 5)
    for number in range(REMEMBERED):
        turnstile.wait_s(f"s{number}", "primary", 100.0)

    assert turnstile.wait_s("show", "primary", 100.0) == 0.0


def test_who_was_kicked_is_kept_out_for_so_long_and_nobody_else_is() -> None:
    turnstile = Turnstile()

    turnstile.bar("show", "primary", 60, 100.0)

    assert turnstile.barred_s("show", "primary", 101.0) == 59
    assert turnstile.barred_s("show", "primary", 160.0) == 0
    assert turnstile.barred_s("show", "backup", 101.0) == 0
    turnstile.bar("show", "backup", 60, 161.0)
    assert set(turnstile._barred) == {("show", "backup")}, "the past is forgotten"
