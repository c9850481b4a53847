"""Receive moderation: under load, look at the sockets of encoders fifty times a second or more, not once a message.

A message of an encoder costs about 10 µs of work here, but waking up for it alone costs three times that: a system
call, a context switch, a turn of the reactor, and caches that others have used meanwhile. With many encoders a network
card's trick pays (interrupt moderation): leave the sockets alone for a moment and read everything that has arrived
together. It adds at most `MAX_PAUSE_S` (and the millisecond to which the reactor rounds) to a message's way, is off
while the relay is quiet, and touches nobody but encoders. Measured with 100 encoders in benchmarks/RESULTS.md.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from relay.net.pollset import HAVE_EPOLL, PollSet

FEW_PAUSE_S, MAX_PAUSE_S = 0.004, 0.020
"""Time between two looks with few encoders, an eighth of a frame at 30 fps, and with many, three fifths."""

PAUSE_S_PER_READ = 0.000_007
"""The more reads a second the longer it is, because there is more to save: 7 ms at `START_PER_S`, the most from about
a hundred encoders on."""

GATHERED = 64
"""Reads that one look should find at most: 3 ms of work, in which nobody else has a turn. Who has more to read than
that in `MAX_PAUSE_S` looks sooner again."""

START_PER_S = 1_000.0
"""Reads a second above which it pays. Twelve encoders, or five at 60 fps with big frames."""

STOP_PER_S = 250.0
"""Reads a second below which it stops. A quarter of the start, because gathering lowers the number by itself: OBS
writes each chunk of a message by itself, and what was three or four reads is one when it is gathered."""


class Moderation:
    """Counts reads and paces them while there are many. The watch ticks it.

    Attributes:
        encoders: the sockets that are paced.
        pause_s: time between two looks while it is active.
        reads: reads of encoders since the last tick; whoever reads adds one.
    """

    def __init__(self, clock: IReactorTime, encoders: PollSet) -> None:
        self._clock = clock
        self._next: IDelayedCall | None = None
        self.encoders = encoders
        self.pause_s = MAX_PAUSE_S
        self.reads = 0

    @property
    def active(self) -> bool:
        """Whether encoders are read in paces now."""
        return self._next is not None

    def tick(self, seconds: float) -> None:
        """Judge the reads of the last *seconds*."""
        rate = self.reads / seconds if seconds > 0 else 0.0
        self.reads = 0
        if not HAVE_EPOLL or rate < (STOP_PER_S if self.active else START_PER_S):
            self.stop()
            return
        self.pause_s = min(max(rate * PAUSE_S_PER_READ, FEW_PAUSE_S), MAX_PAUSE_S, GATHERED / rate)
        if not self.active:
            self.encoders.start()
            self._look()

    def stop(self) -> None:
        """Wake for every message again."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
            self.encoders.stop()

    def _look(self) -> None:
        self._next = self._clock.callLater(self.pause_s, self._look)
        self.encoders.look()
