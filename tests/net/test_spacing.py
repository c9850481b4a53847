from __future__ import annotations

import itertools
import random

from relay.net.spacing import CROWD_S, GAP_S, MAX_HOSTS, HostSpacing


def test_a_lone_target_never_waits() -> None:
    spacing = HostSpacing(lambda _, high: high)

    assert [spacing.wait("one.example", moment) for moment in (0.0, 0.5, 1.5, 3.5)] == [0.0] * 4


def test_fifty_at_once_are_spread_over_two_and_a_half_seconds_and_another_host_is_not() -> None:
    spacing = HostSpacing(lambda _, high: high)
    waits = [spacing.wait("one.example", 10.0) for _ in range(50)]

    assert waits == sorted(waits)
    assert 2.0 <= waits[-1] <= 2.5
    assert min(second - first for first, second in itertools.pairwise(waits)) >= GAP_S - 1e-9
    assert spacing.wait("two.example", 10.0) == 0.0


def test_a_crowd_waits_five_seconds_at_most() -> None:
    spacing = HostSpacing(random.Random(7).uniform)
    waits = [spacing.wait("one.example", 10.0) for _ in range(1_000)]

    assert max(waits) <= CROWD_S + GAP_S
    seconds = [sum(second <= wait < second + 1 for wait in waits) for second in range(5)]
    assert max(seconds) < 300, "a herd"


def test_hosts_that_nobody_waits_for_are_forgotten() -> None:
    spacing = HostSpacing(lambda _, high: high)
    for number in range(3 * MAX_HOSTS):
        spacing.wait(f"{number}.example", float(number))

    assert len(spacing._free) <= MAX_HOSTS
