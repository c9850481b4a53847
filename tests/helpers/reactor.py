"""Tests on the real reactor: waiting for what must happen, and sockets that are gone when the test is over."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from twisted.internet import reactor as _reactor  # noqa: TID251 - tests choose a reactor too
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from relay.net.monotonic import use_monotonic_time
from relay.net.watch import TICK_S

T = TypeVar("T")

reactor: Any = _reactor
use_monotonic_time(reactor)

POLL_S = 0.002


async def until(found: Callable[[], T], what: str = "", timeout: float = 5.0) -> T:
    """Let the reactor run until *found* returns something true, and return that."""
    end = time.monotonic() + timeout
    while True:
        result = found()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what or found}")
        await deferLater(reactor, POLL_S)


async def turns(count: int = 3) -> None:
    """Let the reactor run *count* turns: what is due now has happened then."""
    for _ in range(count):
        await deferLater(reactor, 0)


async def quiet(total: Callable[[], object], turns_quiet: int = 20, timeout: float = 10.0) -> None:
    """Wait until *total* has not changed for some turns: a pipe is full, or empty."""
    end = time.monotonic() + timeout
    last, same = total(), 0
    while same < turns_quiet:
        assert time.monotonic() < end, f"still changing after {timeout} s: {total()}"
        await deferLater(reactor, POLL_S)
        now = total()
        last, same = now, same + 1 if now == last else 0


def pass_time(clock: Clock, seconds: float, step: float = TICK_S) -> None:
    """Advance *clock* in the steps of the watch."""
    for _ in range(round(seconds / step)):
        clock.advance(step)


OPEN: set[Any] = set()
"""Protocols of our own whose connection is open; each enters and leaves by itself."""


class NetTestCase(TestCase):
    """A test on the real reactor; what was opened with `listen`, and what is in `OPEN`, is closed afterwards."""

    timeout = 20

    def setUp(self) -> None:
        self.addCleanup(self._close_connections)  # the first one registered runs last

    async def _close_connections(self) -> None:
        for protocol in tuple(OPEN):
            protocol.transport.abortConnection()
        await until(lambda: not OPEN, "the end of all connections")

    @pytest.fixture(autouse=True)
    def _keep_tmp_path(self, tmp_path: Any) -> None:
        self.tmp_path = tmp_path

    def listen(self, factory: Any, interface: str = "127.0.0.1") -> int:
        """Open a port; return its number."""
        port = reactor.listenTCP(0, factory, interface=interface)
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def later(self, work: Callable[[], Awaitable[object] | Deferred[object] | None]) -> None:
        """Run *work* when the test is over."""
        self.addCleanup(work)
