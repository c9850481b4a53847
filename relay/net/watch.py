"""The one timer of all connections: deadlines counted in ticks, so that stopped time does not count.

A deadline per connection as a delayed call would fire for every healthy peer at once after the process was stopped
and continued (reliability.md case 177). Here each tick adds at most `MAX_TICK_S` to every age, however long we slept.
"""

from __future__ import annotations

from typing import Protocol

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

TICK_S = 0.25
MAX_TICK_S = 0.5


class Watched(Protocol):
    """Something with deadlines."""

    def tick(self, seconds: float) -> None:
        """Count *seconds* of running time; act when a deadline has passed."""
        ...


class Watch(Service):
    """Ticks everything that registered, four times a second. An error in one tick never stops the others."""

    log = Logger(namespace="relay.watch")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._watched: dict[Watched, None] = {}
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock
        self._last = 0.0

    def add(self, watched: Watched) -> None:
        """Start ticking *watched*."""
        self._watched[watched] = None

    def discard(self, watched: Watched) -> None:
        """Stop ticking *watched*."""
        self._watched.pop(watched, None)

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._last = self._clock.seconds()
        self._loop.start(TICK_S, now=False)

    def stopService(self) -> None:
        if self._loop.running:
            self._loop.stop()
        super().stopService()  # type: ignore[no-untyped-call]

    def _tick(self) -> None:
        now = self._clock.seconds()
        seconds = min(now - self._last, MAX_TICK_S)
        self._last = now
        for watched in tuple(self._watched):
            if watched not in self._watched:
                continue  # the tick of another one ended it
            try:
                watched.tick(seconds)
            except Exception:
                self.log.failure("a watch tick failed")
