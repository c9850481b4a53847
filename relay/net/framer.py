"""What a link sends next of its outbox: the opening, then packets, in the peer's own time and at its pace."""

from __future__ import annotations

import sys

from relay.media.packets import Packet, Role
from relay.net.lanes import Lane, Lanes, frame
from relay.stream.outbox import Outbox
from relay.stream.pace import Pace

PUMP_BYTES = 64 * 1024
"""Bytes taken from the outbox at a time while it drains."""


class Framer:
    """The outbox of one link, framed.

    Attributes:
        msid: the message stream id that the peer gave.
        base: stream time that is the peer's time 0.
    """

    __slots__ = ("_based", "_dropped", "_outbox", "_pace", "base", "msid")

    def __init__(self, outbox: Outbox) -> None:
        self.msid = 0
        self.base = 0
        self._based = False
        self._outbox = outbox
        self._dropped = 0
        self._pace = Pace()

    @property
    def in_step(self) -> bool:
        """Whether nothing waits, so that the next packet may come through a lane."""
        outbox = self._outbox
        return not (outbox.waiting or outbox.needs_opening or outbox)

    def fall_in(self, lanes: Lanes) -> Lane:
        """Return the lane that goes on where the outbox ended. Who is level with the programme begins a new pace."""
        self._pace = Pace()
        return lanes.find(self.base, self.msid)

    @property
    def held(self) -> bool:
        """Whether something waits; the pace may hold it back."""
        return len(self._outbox) > 0

    def take(self, now: float, *, all_of_it: bool) -> list[bytes]:
        """Return what may leave now; *all_of_it* is for the end, when there is no time to keep a pace."""
        outbox = self._outbox
        oldest = outbox.peek()
        if oldest is None:
            return []
        if self._dropped != outbox.dropped_packets:
            self._dropped = outbox.dropped_packets
            self._pace.jump()
        until = self._pace.until(oldest.dts, oldest.dts + outbox.queue_ms, now)
        before = sys.maxsize if all_of_it else until
        frames: list[bytes] = []
        if outbox.needs_opening and oldest.dts < before:
            frames += [self._frame(packet) for packet in outbox.take_opening().opening()]
        packets = outbox.take(PUMP_BYTES, before)
        frames += [self._frame(packet) for packet in packets]
        if packets:
            self._pace.sent(packets[-1].dts)
        return frames

    def _frame(self, packet: Packet) -> bytes:
        if packet.role is Role.FRAME and not self._based:
            self._based = True
            self.base = packet.dts
        return frame(packet, self.base if self._based else packet.dts, self.msid)
