"""The replay of a feed that was put on air behind its own time: not faster than twice as fast.

Imports packets. The rule it guards: order is kept. While anything waits here, what the feed sends goes to the end of
the queue, and only when the queue is empty may it go directly again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from relay.media.packets import Packet, Role
from relay.stream.standby import Arrived

CATCH_UP = 2.0
"""Media time per time while catching up: what destinations and players are asked to take at most."""

MAX_QUEUE_BYTES = 24 * 1024 * 1024
"""Above this everything goes out at once. Twice the standby ring: it is reached when our own process was stopped."""


class Splice:
    """Packets of the feed on air that wait for their moment."""

    __slots__ = ("_began", "_first", "_nbytes", "_queue")

    def __init__(self, packets: Iterable[Arrived], now: float) -> None:
        self._queue: deque[Arrived] = deque(packets)
        self._nbytes = sum(len(packet.body) for _, packet in self._queue)
        self._began = now
        self._first = self._queue[0][1].dts

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._queue)

    @property
    def waiting_ms(self) -> int:
        """Media time between the next packet and the last."""
        return self._queue[-1][1].dts - self._queue[0][1].dts if self._queue else 0

    def append(self, packet: Packet, arrived: float) -> None:
        """Queue what the feed just sent."""
        self._queue.append((arrived, packet))
        self._nbytes += len(packet.body)

    def due(self, now: float) -> list[Arrived]:
        """Take what may go out at *now*."""
        if self._nbytes > MAX_QUEUE_BYTES:
            return self.rest()
        until = self._first + (now - self._began) * 1000 * CATCH_UP
        taken: list[Arrived] = []
        queue = self._queue
        while queue and (queue[0][1].dts <= until or queue[0][1].role is not Role.FRAME):
            self._nbytes -= len(queue[0][1].body)
            taken.append(queue.popleft())
        return taken

    def rest(self) -> list[Arrived]:
        """Take everything."""
        taken = list(self._queue)
        self._queue.clear()
        self._nbytes = 0
        return taken
