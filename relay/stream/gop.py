"""The packets a joining sink needs to show a picture at once: everything since the last keyframe.

Imports packets only. The rule it guards: what is cached starts at a random access point, or is empty.

Audio-only streams keep the last second instead. Every audio frame is a random access point, so keeping nothing would
also decode; but a player first fills its own buffer, and with nothing cached it fills that at the speed of the live
stream, silent meanwhile. One second in one write starts it at once and costs a second of delay.

The sound that an encoder sends before its very first picture belongs to the beginning of the programme: it is kept in
front of the first GOP, so that a recording or a push from the start misses nothing.
"""

from __future__ import annotations

from collections import deque

from relay.media.packets import MediaKind, Packet, TrackSet


def lead_video(tracks: TrackSet) -> int | None:
    """Return the id of the video track whose keyframes open a GOP: the lowest; None without video."""
    return min((track.track_id for track in tracks.tracks if track.kind is MediaKind.VIDEO), default=None)


class GopCache:
    """Packets of all tracks since the last keyframe of the lead video track, within bounds.

    Attributes:
        lead: id of the video track whose keyframes open a GOP; None while the stream has no video.
        packets: what is kept, oldest first. It can be replayed when `ready`.
        nbytes: sum of their bodies.
        overflowed: the GOP in progress grew past a bound, so nothing is cached until the next keyframe.
        overflows: how often that happened.
    """

    __slots__ = (
        "_audio_ms",
        "_beginning",
        "_max_bytes",
        "_max_ms",
        "_open",
        "lead",
        "nbytes",
        "overflowed",
        "overflows",
        "packets",
    )

    def __init__(self, max_bytes: int, max_ms: int, *, audio_ms: int = 1000) -> None:
        self._max_bytes = max_bytes
        self._max_ms = max_ms
        self._audio_ms = audio_ms
        self._open = False
        self._beginning = True
        self.lead: int | None = None
        self.packets: deque[Packet] = deque()
        self.nbytes = 0
        self.overflowed = False
        self.overflows = 0

    @property
    def ready(self) -> bool:
        """Whether a decoder can start with `packets`: there is a keyframe, or no video to wait for."""
        return self._open or self.lead is None

    def add(self, packet: Packet) -> bool:
        """Keep *packet* if it can be replayed; return whether it opens a GOP."""
        if packet.keyframe and packet.track == self.lead:
            self._begin_gop(packet)
            return True
        if self._open:
            packets = self.packets
            packets.append(packet)
            self.nbytes += len(packet.body)
            if self.nbytes > self._max_bytes or packet.dts - packets[0].dts > self._max_ms:
                self._overflow()
        elif self.lead is None or (self._beginning and packet.kind is MediaKind.AUDIO):
            self._add_audio(packet)
        return False

    def clear(self) -> None:
        """Forget everything: the decoder configuration changed, so nothing cached would decode."""
        self.packets.clear()
        self.nbytes = 0
        self._open = False

    def follow(self, lead: int | None) -> None:
        """Open GOPs at the keyframes of video track *lead* from now on; None means the stream has no video."""
        if lead != self.lead:
            if not self._beginning:
                self.clear()
            self.lead = lead

    def _begin_gop(self, packet: Packet) -> None:
        packets = self.packets
        if not self._beginning:
            packets.clear()
            self.nbytes = 0
        self._beginning = False
        packets.append(packet)
        self.nbytes += len(packet.body)
        while len(packets) > 1 and (packet.dts - packets[0].dts > self._max_ms or self.nbytes > self._max_bytes):
            self.nbytes -= len(packets.popleft().body)
        self.overflowed = False
        self._open = self.nbytes <= self._max_bytes
        if not self._open:
            self._overflow()

    def _add_audio(self, packet: Packet) -> None:
        packets = self.packets
        packets.append(packet)
        self.nbytes += len(packet.body)
        while packets and (packet.dts - packets[0].dts > self._audio_ms or self.nbytes > self._max_bytes):
            self.nbytes -= len(packets.popleft().body)

    def _overflow(self) -> None:
        self.clear()
        self.overflowed = True
        self.overflows += 1
