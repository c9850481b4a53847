"""Receive moderation: under load, look at the sockets a few hundred times a second instead of once a message.

A message of an encoder costs about 10 µs of work here, but waking up for it alone costs three times that: a system
call, a context switch and a turn of the reactor. With many encoders a network card's trick pays (interrupt moderation):
rest for a moment and take everything that arrived together. It adds at most `MAX_PAUSE_S` to a message's way and is off
while the relay is quiet. A turn that itself lasts longer has gathered enough, and no rest follows it: the busier the
relay, the less it rests. Measured with 20 and 100 encoders in benchmarks/RESULTS.md and HLS.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

MIN_PAUSE_S, MAX_PAUSE_S = 0.001, 0.004
"""Bounds of the time between two looks. The longer one is an eighth of a frame at 30 fps, which no player can tell."""

TURN_S = 0.00005
"""The next rest comes after the turn that takes what has arrived: any time that a turn surely lasts will do."""

GATHERED = 16
"""Reads that one look should find; more save little."""

START_PER_S = 1_000.0
"""Reads a second above which resting pays: four for each look. Twelve encoders, or five at 60 fps with big frames."""

STOP_PER_S = 250.0
"""Reads a second below which it stops. A quarter of the start, because resting lowers the number by itself: OBS writes
each chunk of a message by itself, and what was three or four reads is one when it is gathered."""


class Moderation:
    """Counts reads and paces the reactor while there are many. The watch ticks it."""

    def __init__(self, clock: IReactorTime, sleep: Callable[[float], None] = time.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._next: IDelayedCall | None = None
        self._look_at = 0.0
        self.pause_s = MAX_PAUSE_S
        """Time between two looks while it is active."""
        self.reads = 0
        """Reads of encoders since the last tick; whoever reads adds one."""

    @property
    def active(self) -> bool:
        """Whether the reactor is paced now."""
        return self._next is not None

    def tick(self, seconds: float) -> None:
        """Judge the reads of the last *seconds*."""
        rate = self.reads / seconds if seconds > 0 else 0.0
        self.reads = 0
        if rate < (STOP_PER_S if self.active else START_PER_S):
            self.stop()
            return
        self.pause_s = min(max(GATHERED / rate, MIN_PAUSE_S), MAX_PAUSE_S)
        if not self.active:
            self._rest()

    def stop(self) -> None:
        """Wake for every message again."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _rest(self) -> None:
        # Blocking on purpose, for a few milliseconds: a timer would end at the first message, which is what costs.
        now = self._clock.seconds()
        if now < self._look_at:
            self._sleep(self._look_at - now)
            now = self._look_at
        self._look_at = now + self.pause_s
        self._next = self._clock.callLater(TURN_S, self._rest)
