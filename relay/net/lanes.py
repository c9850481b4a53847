"""Destinations that are in step: each packet is framed once for all that began at the same picture.

A destination's bytes depend on its first timestamp and its message stream id only, so those that agree share a lane:
one frame, one join, and the same `bytes` object for every socket, as in the audience of players. A destination that
the kernel cannot take more for leaves its lane with what it still has to get, lives from its own outbox, and joins a
lane again when that is empty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from relay.media import metadata
from relay.media.packets import Packet, Role
from relay.net.cadence import Cadence
from relay.net.chorus import Chorus
from relay.net.flusher import Flusher
from relay.rtmp.framing import CHUNK_SIZE, media_frame


class Member(Protocol):
    """A destination in a lane."""

    def fell_behind(self, sent: int, rest: memoryview) -> None:
        """The socket took *sent* bytes and not *rest*; the member has left its lane."""
        ...


class Lane:
    """Destinations with the same first timestamp and message stream id."""

    def __init__(self, flusher: Flusher, base: int, msid: int) -> None:
        self._flusher = flusher
        self._base = base
        self._msid = msid
        self._parts: list[bytes] = []
        self._members: Chorus[Member] = Chorus()
        self.bytes_total = 0
        """Bytes that each member got while it was in the lane; a member remembers where it joined."""

    def __bool__(self) -> bool:
        return len(self._members) > 0

    def join(self, member: Member, send: Callable[[bytes], int]) -> None:
        """Send to *member* what is written from now on; it has everything before."""
        self.flush()
        self._members.add(member, send)

    def leave(self, member: Member) -> bytes:
        """Return what was written but not sent to *member* yet."""
        if not self._members.discard(member):
            return b""
        return b"".join(self._parts)

    def write(self, packet: Packet, *, expecting: bool) -> None:
        """Frame *packet* for every member. *expecting*: another one is due that may leave with it."""
        if not self._parts:
            self._flusher.add(self.flush, expecting=expecting)
        elif not expecting:
            self._flusher.settle(self.flush)
        self._parts.append(frame(packet, self._base, self._msid))

    def flush(self) -> None:
        """Send what was written."""
        parts = self._parts
        if not parts:
            return
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        for member, sent in self._members.send_all(data):
            member.fell_behind(sent, memoryview(data)[sent:])
        self.bytes_total += len(data)


class Lanes:
    """The lanes of one stream."""

    def __init__(self, flusher: Flusher) -> None:
        self.flusher = flusher
        self._lanes: dict[tuple[int, int], Lane] = {}
        self._cadence = Cadence()

    def find(self, base: int, msid: int) -> Lane:
        """Return the lane of destinations whose time 0 is stream time *base* and whose stream id is *msid*."""
        key = (base, msid)
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes = {known: lane for known, lane in self._lanes.items() if lane}
            lane = self._lanes[key] = Lane(self.flusher, base, msid)
        return lane

    def write(self, packet: Packet) -> None:
        """Write *packet* to every lane that has members."""
        self._cadence.note(packet, now := self.flusher.now())
        more = self._cadence.expects(now, self.flusher.deadline(now), self.flusher.tolerance_s)
        for lane in self._lanes.values():
            if lane:
                lane.write(packet, expecting=more)


def frame(packet: Packet, base: int, msid: int) -> bytes:
    """Frame *packet* for a destination whose time 0 is stream time *base*."""
    body = metadata.for_servers(packet.body) if packet.role is Role.METADATA else packet.body
    return media_frame(packet.kind, max(packet.dts - base, 0), body, CHUNK_SIZE, msid)
