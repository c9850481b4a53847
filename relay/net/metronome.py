"""Gives the streams their time: judgement four times a second, and a quicker beat while one of them needs it.

The quicker beat runs only while a stream shows the slate or a feed catches up; with healthy feeds there is no timer but
the one that all connections share. An error in one stream never stops the others.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from relay.stream.registry import Registry

BEAT_S = 0.02
"""One audio frame; finer than any picture distance."""


class Metronome:
    """Ticks every stream of a registry; the watch ticks it."""

    log = Logger(namespace="relay.failover")

    def __init__(self, clock: IReactorTime, registry: Registry) -> None:
        self._clock = clock
        self._registry = registry
        self._beat = LoopingCall(self.beat)
        self._beat.clock = clock

    def tick(self, seconds: float) -> None:
        """Let every stream judge its feeds, after *seconds* of running time."""
        now = self._clock.seconds()
        for stream in self._registry:
            try:
                stream.failover.tick(now, seconds)
            except Exception:
                self.log.failure("judging the feeds of stream {stream} failed", stream=stream.name)
        self.attend()

    def attend(self) -> None:
        """Start the quicker beat if a stream needs it now: call it when a feed may have gone on air."""
        if not self._beat.running and any(stream.failover.pacing for stream in self._registry):
            self._beat.start(BEAT_S, now=False)

    def beat(self) -> None:
        """Send what is due; stop when no stream needs it."""
        now = self._clock.seconds()
        needed = False
        for stream in self._registry:
            if not stream.failover.pacing:
                continue
            needed = True
            try:
                stream.failover.pace(now)
            except Exception:
                self.log.failure("pacing stream {stream} failed", stream=stream.name)
        if not needed:
            self.stop()

    def stop(self) -> None:
        """No more beats until one is needed."""
        if self._beat.running:
            self._beat.stop()
