"""Receive moderation: under load, look at the sockets once a millisecond instead of once a message.

A message of an encoder costs about 10 µs of work here, but waking up for it alone costs three times that: a system
call, a context switch and a turn of the reactor. With many encoders a network card's trick pays (interrupt moderation):
rest for a moment and take everything that arrived together. It adds at most `PAUSE_S` to a message's way and is off
while the relay is quiet; measured with 100 encoders in benchmarks/RESULTS.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

PAUSE_S = 0.001
"""Rest between two looks. At the start threshold it gathers 2 to 3 messages, at 10,000 a second 10."""

TURN_S = PAUSE_S / 10
"""The next rest comes after the turn that takes what has arrived: any time that a turn surely lasts will do."""

START_PER_S = 2_500.0
"""Reads a second above which resting pays: a rest costs about as much as it saves with two messages gathered."""

STOP_PER_S = 1_500.0
"""Reads a second below which it stops; lower than the start, so that it does not flap."""


class Moderation:
    """Counts reads and paces the reactor while there are many. The watch ticks it."""

    def __init__(self, clock: IReactorTime, sleep: Callable[[float], None] = time.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._next: IDelayedCall | None = None
        self.reads = 0
        """Reads since the last tick; whoever reads adds one."""

    @property
    def active(self) -> bool:
        """Whether the reactor is paced now."""
        return self._next is not None

    def tick(self, seconds: float) -> None:
        """Judge the reads of the last *seconds*."""
        rate = self.reads / seconds if seconds > 0 else 0.0
        self.reads = 0
        if self._next is None:
            if rate >= START_PER_S:
                self._rest()
        elif rate < STOP_PER_S:
            self.stop()

    def stop(self) -> None:
        """Wake for every message again."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _rest(self) -> None:
        # Blocking on purpose, for one millisecond: a timer would end at the first message, which is what costs.
        self._sleep(PAUSE_S)
        self._next = self._clock.callLater(TURN_S, self._rest)
