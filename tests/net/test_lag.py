from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from relay.net.lag import LagMonitor, make_lag_monitor
from relay.net.onlooker import Place, Stack


class BlockableClock(Clock):
    """A clock whose reactor can be held up: time passes and nothing is called."""

    def block(self, seconds: float) -> None:
        self.rightNow += seconds


@pytest.fixture
def clock() -> BlockableClock:
    return BlockableClock()


@pytest.fixture
def monitor(clock: BlockableClock) -> Iterator[LagMonitor]:
    monitor = LagMonitor(clock, interval_s=0.25, window_s=60.0)
    monitor.startService()
    yield monitor
    monitor.stopService()
    assert clock.getDelayedCalls() == []


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    lines: list[str] = []

    def observe(event: dict[str, object]) -> None:
        lines.append(str(event["log_format"]).format(**event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def test_before_the_first_probe_nothing_is_late(monitor: LagMonitor) -> None:
    assert (monitor.p99_ms, monitor.max_ms) == (0.0, 0.0)


def test_a_punctual_reactor_shows_no_lag(monitor: LagMonitor, clock: BlockableClock) -> None:
    clock.pump([0.25] * 400)

    assert monitor.max_ms < 0.001


def test_a_blocked_reactor_shows_in_the_worst_and_then_in_the_percentile(
    monitor: LagMonitor, clock: BlockableClock
) -> None:
    clock.pump([0.25] * 239)
    clock.block(0.35)
    clock.advance(0)
    assert monitor.max_ms == pytest.approx(100)
    assert monitor.p99_ms < 1

    for _ in range(3):
        clock.block(0.35)
        clock.advance(0)

    assert monitor.p99_ms == pytest.approx(100)


def test_the_window_forgets(monitor: LagMonitor, clock: BlockableClock) -> None:
    clock.block(2)
    clock.advance(0)
    assert monitor.max_ms == pytest.approx(1750)

    clock.pump([0.25] * 240)

    assert monitor.max_ms < 0.001


@pytest.mark.parametrize(("late", "expected"), [(0.25, 0), (0.2501, 1)])
def test_more_than_250_ms_is_worth_a_line(
    monitor: LagMonitor, clock: BlockableClock, warnings: list[str], late: float, expected: int
) -> None:
    clock.block(0.25 + late)
    clock.advance(0)

    assert len(warnings) == expected


def test_a_reactor_that_stays_blocked_gets_one_line_in_ten_seconds_with_the_worst(
    monitor: LagMonitor, clock: BlockableClock, warnings: list[str]
) -> None:
    for blocked in (0.65, 2.25, 0.65):
        clock.block(blocked)
        clock.advance(0)
    assert warnings == ["the reactor was blocked for 400 ms"]

    clock.pump([0.25] * 40)

    assert warnings == ["the reactor was blocked for 400 ms", "the reactor was blocked for 2000 ms"]


class Bystander:
    """An onlooker that has seen *stack*."""

    def __init__(self) -> None:
        self.stack: Stack = ()
        self.beats = 0
        self.running = False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def beat(self) -> None:
        self.beats += 1
        self.stack = ()


def test_a_warning_says_where_the_reactor_stood_the_longest_time(clock: BlockableClock, warnings: list[str]) -> None:
    onlooker: Any = Bystander()
    monitor = LagMonitor(clock, onlooker=onlooker)
    monitor.startService()
    assert onlooker.running
    for function, blocked in (("first", 0.65), ("write", 2.25), ("short", 0.65)):
        onlooker.stack = (Place(function=function, file="third_party/sink.py", line=12, plugin="guest"),)
        clock.block(blocked)
        clock.advance(0)

    clock.pump([0.25] * 40)
    monitor.stopService()

    assert not onlooker.running
    assert onlooker.beats == 43
    assert warnings == [
        "the reactor was blocked for 400 ms in first (third_party/sink.py:12) of plugin guest",
        "the reactor was blocked for 2000 ms in write (third_party/sink.py:12) of plugin guest",
    ]


def test_a_reactor_that_is_stuck_shows_its_whole_stack_in_one_line(clock: BlockableClock, warnings: list[str]) -> None:
    monitor = make_lag_monitor(clock, lambda module: "guest" if module == __name__ else "")
    onlooker = monitor._onlooker
    assert onlooker is not None
    for _ in range(60):
        clock.block(0.1)
        onlooker.look()

    (line,) = warnings

    assert line.startswith("the reactor has been blocked for 5.")
    assert "test_a_reactor_that_is_stuck_shows_its_whole_stack_in_one_line (net/test_lag.py:" in line
    assert "of plugin guest; innermost first: " in line
    assert "\n" not in line
