"""What a feed that is not on air keeps, so that it can be put on air at once: its last GOPs, with their arrival times.

Imports packets and `lead_video`'s rule from the GOP cache. The rules it guards: what is kept begins where a decoder can
start; at least one whole GOP and `MIN_MS` are kept, so that a keyframe from before any stall that we notice late is
still there; and never more than `MAX_BYTES`.

Times are the feed's own; arrivals are `now` of the push, the one clock that all feeds share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from relay.media.packets import MediaKind, Packet, Role

MAX_BYTES = 12 * 1024 * 1024
MIN_MS = 4000

AUDIO_MS = 1000
"""Without video every frame may be a start; they are kept in pieces of this length."""

MAX_REPEAT_S = 4.0
"""A keyframe further before the cut than this is not used when there is a nearer one behind it."""

Arrived = tuple[float, Packet]


@dataclass(slots=True)
class _Gop:
    """Packets from a start on, in order of arrival."""

    arrived: float
    dts: int
    packets: list[Arrived] = field(default_factory=list)
    nbytes: int = 0


class StandbyRing:
    """The last packets of one feed.

    Attributes:
        lead: id of the video track whose keyframes are starts; None while the feed has no video.
        nbytes: bodies held.
    """

    __slots__ = ("_gops", "_max_bytes", "_min_ms", "lead", "nbytes")

    def __init__(self, lead: int | None = None, *, max_bytes: int = MAX_BYTES, min_ms: int = MIN_MS) -> None:
        self.lead = lead
        self.nbytes = 0
        self._gops: deque[_Gop] = deque()
        self._max_bytes = max_bytes
        self._min_ms = min_ms

    def __bool__(self) -> bool:
        """Whether there is a start."""
        return bool(self._gops)

    @property
    def span_ms(self) -> int:
        """Time from the oldest to the newest start."""
        return self._gops[-1].dts - self._gops[0].dts if self._gops else 0

    def add(self, packet: Packet, arrived: float) -> bool:
        """Keep *packet*; return whether a decoder can start with it."""
        opens = self._opens(packet)
        if opens:
            self._gops.append(_Gop(arrived, packet.dts))
            self._trim(packet.dts)
        elif not self._gops:
            return False
        size = len(packet.body)
        gop = self._gops[-1]
        gop.packets.append((arrived, packet))
        gop.nbytes += size
        self.nbytes += size
        while self.nbytes > self._max_bytes and self._gops:
            self._forget_oldest()
        return opens and bool(self._gops)

    def packets(self) -> Iterator[Packet]:
        """Return all that is kept, oldest first."""
        return (packet for gop in self._gops for _, packet in gop.packets)

    def clear(self) -> None:
        """Forget everything: the decoder configuration changed, or the feed is on air."""
        self._gops.clear()
        self.nbytes = 0

    def follow(self, lead: int | None) -> None:
        """Start at the keyframes of video track *lead* from now on."""
        if lead != self.lead:
            self.lead = lead
            self.clear()

    def begin(self, at: float) -> list[Arrived]:
        """Return what to replay when the programme so far ends with what arrived at *at*; a start comes first.

        The start is the newest keyframe that is not after *at*, so that nothing is missed. When that one lies too far
        back, or is not held any more, it is the next one behind it.
        """
        if self.lead is None:
            return self._begin_audio(at)
        gops = self._gops
        index = max((n for n, gop in enumerate(gops) if gop.arrived <= at), default=0)
        if at - gops[index].arrived > MAX_REPEAT_S and index + 1 < len(gops):
            index += 1
        start = gops[index].dts
        early = [(when, packet) for when, packet in gops[index - 1].packets if _belongs(packet, start)] if index else []
        rest = [one for n in range(index, len(gops)) for one in gops[n].packets if one[1].dts >= start or _is_data(one)]
        return [*rest[:1], *early, *rest[1:]]

    def _begin_audio(self, at: float) -> list[Arrived]:
        packets = [one for gop in self._gops for one in gop.packets]
        later = [n for n, (when, packet) in enumerate(packets) if when > at and packet.kind is MediaKind.AUDIO]
        return packets[later[0] :] if later else packets[-1:]

    def _opens(self, packet: Packet) -> bool:
        if self.lead is not None:
            return packet.keyframe and packet.track == self.lead
        if packet.kind is not MediaKind.AUDIO or packet.role is not Role.FRAME:
            return False
        return not self._gops or packet.dts - self._gops[-1].dts >= AUDIO_MS

    def _trim(self, newest: int) -> None:
        """Forget the oldest GOPs as long as the others reach back far enough."""
        while len(self._gops) > 2 and newest - self._gops[1].dts >= self._min_ms:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        self.nbytes -= self._gops.popleft().nbytes


def _belongs(packet: Packet, start: int) -> bool:
    """Whether *packet*, which arrived before a keyframe, is sound that goes with it or after it."""
    return packet.kind is MediaKind.AUDIO and packet.role is Role.FRAME and packet.dts >= start


def _is_data(one: Arrived) -> bool:
    return one[1].role is not Role.FRAME
