"""What subscribers get while no feed is on air: the last keyframe again and again, and silence.

Imports the media floor. The rule it guards: it fits by construction. The pictures are the stream's own newest
keyframes, byte for byte, and the sound is silence for the stream's own configuration, so no decoder, recorder or
platform sees a change of parameters: no "green picture with every metric good" (peers.md §2).

Tracks without a keyframe or with a codec that we cannot be silent in get nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from relay.media import flvbuild
from relay.media.packets import MediaKind, Packet, Role, Track, TrackSet
from relay.media.silence import silence_for

PICTURE_MS = 500
"""A keyframe comes so often: at least once a second, whatever the timer does."""

MAX_STEP_S = 1.0
"""Time between two calls that is made up for; more means that our own process was stopped."""


@dataclass(slots=True)
class _Loop:
    """One packet that is repeated: the n-th time at *n* times *every* ms."""

    packet: Packet
    every: Fraction
    count: int = 0

    @property
    def next_ms(self) -> int:
        return int(self.count * self.every)


class Slate:
    """Repeats what the stream showed last, on the stream's clock.

    Attributes:
        pictures: how many keyframes it has given.
    """

    def __init__(self, tracks: TrackSet, recent: Iterable[Packet], *, start: int, now: float) -> None:
        """Begin at stream time *start*; *recent* are the newest packets of the stream, from a keyframe on."""
        self.pictures = 0
        self._start = start
        self._began = self._last_call = now
        self._last = start - 1
        self._loops = _loops(tracks, recent)

    @property
    def next_dts(self) -> int:
        """Stream time at which a feed may cut in."""
        return self._last + 1

    @property
    def last_dts(self) -> int:
        """Stream time of the newest packet given."""
        return self._last

    def due(self, now: float) -> list[Packet]:
        """Return the packets whose moment has come, in order."""
        late = now - self._last_call - MAX_STEP_S
        if late > 0:
            self._began += late
        self._last_call = now
        elapsed = int((now - self._began) * 1000)
        packets: list[Packet] = []
        for loop in self._loops:
            while loop.next_ms <= elapsed:
                packets.append(replace(loop.packet, dts=self._start + loop.next_ms))
                loop.count += 1
                self.pictures += loop.packet.kind is MediaKind.VIDEO
        packets.sort(key=lambda packet: (packet.dts, not packet.keyframe))
        if packets:
            self._last = packets[-1].dts
        return packets


def _loops(tracks: TrackSet, recent: Iterable[Packet]) -> list[_Loop]:
    newest: dict[tuple[MediaKind, int], Packet] = {}
    for packet in recent:
        if packet.role is Role.FRAME and (packet.keyframe or packet.kind is MediaKind.AUDIO):
            newest[(packet.kind, packet.track)] = packet
    loops = []
    for track in tracks.tracks:
        last = newest.get((track.kind, track.track_id))
        if track.kind is MediaKind.AUDIO:
            loop = _silent(track, last)
            if loop is not None:
                loops.append(loop)
        elif last is not None and last.codec is track.codec:
            loops.append(_Loop(last, Fraction(PICTURE_MS)))
    return loops


def _silent(track: Track, like: Packet | None) -> _Loop | None:
    """Make the silent frame of a track, behind the same tag header as the sound that came before."""
    silence = silence_for(track)
    if silence is None:
        return None
    packet = Packet(MediaKind.AUDIO, track.track_id, track.codec, Role.FRAME, False, 0, 0, silence.payload, 0)
    if like is not None and like.codec is track.codec:
        head = like.body[: like.offset]
    else:
        body = flvbuild.build(packet)
        head = body[: len(body) - len(silence.payload)]
    packet.body, packet.offset = head + silence.payload, len(head)
    return _Loop(packet, silence.duration)
