"""Sinks that keep everybody waiting: who they are, how often, and when it was too often.

Imports the media floor. The rule it guards: a sink that blocks is detached like one that raises; nobody is detached for
one long stall.

A stall of the whole process (SIGSTOP, swapping, a starved machine) looks from here like a sink that blocked: it falls
into some call. It is one block, however long it was, and the next one falls into another call. Hence the length of a
block counts for nothing, only how many there were of one sink.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from relay.errors import RelayError
from relay.media.packets import Packet
from relay.stream.sinks import Sink

BLOCKED_S = 0.25
"""A call that takes this long is seen by everybody who publishes or plays; the lag monitor warns from here on."""

BLOCKS = 5
"""Of one sink within `WINDOW_S`: a disk that stalled once or twice is forgiven."""

WINDOW_S = 60.0


class SinkBlocksError(RelayError):
    """A sink blocked the relay too often."""


class Block(NamedTuple):
    """One call that took too long."""

    sink: Sink
    at: float
    took: float


def still() -> float:
    """Stand in for a clock that nobody gave: no time passes, so nobody is slow."""
    return 0.0


class Slowness:
    """Finds the sinks of one stream that block.

    Ordinarily the stream takes the time of all sinks together. When that was too long it calls `suspect`, and as long
    as `suspects` is true it writes through `write`, which times one sink.
    """

    def __init__(self, seconds: Callable[[], float] = still, *, excused: Callable[[Sink], bool] | None = None) -> None:
        """Judge by the clock *seconds* all sinks but those that are *excused*."""
        self.seconds = seconds
        self.suspects = False
        self._excused = excused
        self._quiet_at = 0.0
        self._blocks: list[Block] = []

    def suspect(self) -> None:
        """Time each sink from now on, until none has blocked for `WINDOW_S`."""
        self.suspects = True
        self._quiet_at = self.seconds() + WINDOW_S

    def relax(self) -> None:
        """Stop timing each sink if there was no reason for it lately."""
        if self.suspects and self.seconds() >= self._quiet_at:
            self.suspects = False
            self._blocks.clear()

    def write(self, sink: Sink, packet: Packet) -> None:
        """Give *packet* to *sink*; raise SinkBlocksError if that was one block too many."""
        before = self.seconds()
        sink.write(packet)
        now = self.seconds()
        if now - before >= BLOCKED_S:
            self.suspect()
            if self._excused is None or not self._excused(sink):
                self._count(Block(sink, now, now - before))

    def forget(self, sink: Sink) -> None:
        """Drop what is known of a sink that has left."""
        self._blocks = [block for block in self._blocks if block.sink is not sink]

    def _count(self, block: Block) -> None:
        self._blocks = [old for old in self._blocks if block.at - old.at < WINDOW_S]
        self._blocks.append(block)
        took = [one.took for one in self._blocks if one.sink is block.sink]
        if len(took) >= BLOCKS:
            raise SinkBlocksError(
                f"{type(block.sink).__name__}.write blocked the relay {len(took)} times within {WINDOW_S:.0f} s, "
                f"for {sum(took):.1f} s in all; a sink must not block"
            )
