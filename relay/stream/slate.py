"""What subscribers get while no feed is on air: the last keyframe again and again, and silence.

Imports the media floor. The rule it guards: it fits by construction. The pictures are the stream's own newest
keyframes, byte for byte, and the sound is silence for the stream's own configuration, so no decoder, recorder or
platform sees a change of parameters: no "green picture with every metric good" (peers.md §2).

Tracks without a keyframe or with a codec that we cannot be silent in get nothing. An operator's own picture or clip
(`relay.stream.clip`) takes the place of the keyframe when it was made for this very configuration.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from relay.media import flvbuild
from relay.media.packets import MediaKind, Packet, Role, Track, TrackSet
from relay.media.silence import silence_for
from relay.stream.clip import Clip

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
        return self.count * self.every.numerator // self.every.denominator  # ten times as quick as a Fraction's own

    def take(self) -> Packet:
        self.count += 1
        return self.packet


@dataclass(slots=True)
class _Reel:
    """Packets that are played again and again; their times are those of the first turn, one turn lasts *every* ms."""

    packets: tuple[Packet, ...]
    every: int
    count: int = 0

    @property
    def next_ms(self) -> int:
        turn, index = divmod(self.count, len(self.packets))
        return turn * self.every + self.packets[index].dts

    def take(self) -> Packet:
        packet = self.packets[self.count % len(self.packets)]
        self.count += 1
        return packet


class Slate:
    """Repeats what the stream showed last, on the stream's clock.

    Attributes:
        pictures: how many it has given.
    """

    def __init__(
        self, tracks: TrackSet, recent: Iterable[Packet], *, start: int, now: float, clip: Clip | None = None
    ) -> None:
        """Begin at stream time *start*; *recent* are the newest packets of the stream, from a keyframe on.

        A *clip* that fits *tracks* is shown instead of the last keyframe.
        """
        self.pictures = 0
        self._start = start
        self._began = self._last_call = now
        self._last = start - 1
        self._loops = _loops(tracks, recent, clip if clip is not None and clip.fits(tracks) else None)

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
                due = self._start + loop.next_ms
                packet = loop.take()
                packets.append(replace(packet, dts=due))
                self.pictures += packet.kind is MediaKind.VIDEO
        packets.sort(key=lambda packet: (packet.dts, not packet.keyframe))
        if packets:
            self._last = packets[-1].dts
        return packets


def _loops(tracks: TrackSet, recent: Iterable[Packet], clip: Clip | None) -> list[_Loop | _Reel]:
    newest: dict[tuple[MediaKind, int], Packet] = {}
    for packet in recent:
        if packet.role is Role.FRAME and (packet.keyframe or packet.kind is MediaKind.AUDIO):
            newest[(packet.kind, packet.track)] = packet
    loops: list[_Loop | _Reel] = []
    for track in tracks.tracks:
        last = newest.get((track.kind, track.track_id))
        if track.kind is MediaKind.AUDIO:
            loop = _reel_of_sound(track, clip, last) if clip and clip.has_sound_for(track) else _silent(track, last)
            if loop is not None:
                loops.append(loop)
        elif clip is not None and track.track_id == 0:
            loops.append(_reel_of_pictures(track, clip))
        elif last is not None and last.codec is track.codec:
            loops.append(_Loop(last, Fraction(PICTURE_MS)))
    return loops


def _silent(track: Track, like: Packet | None) -> _Loop | None:
    """Make the silent frame of a track."""
    silence = silence_for(track)
    if silence is None:
        return None
    return _Loop(_sound(track, like, silence.payload, 0), silence.duration)


def _sound(track: Track, like: Packet | None, payload: bytes, at: int) -> Packet:
    """Make a frame of sound behind the same tag header as the one that came before."""
    packet = Packet(MediaKind.AUDIO, track.track_id, track.codec, Role.FRAME, False, at, 0, payload, 0)
    if like is not None and like.codec is track.codec:
        head = like.body[: like.offset]
    else:
        body = flvbuild.build(packet)
        head = body[: len(body) - len(payload)]
    packet.body, packet.offset = head + payload, len(head)
    return packet


def _reel_of_sound(track: Track, clip: Clip, like: Packet | None) -> _Reel:
    return _Reel(tuple(_sound(track, like, payload, at) for at, payload in clip.sounds), clip.duration_ms)


def _reel_of_pictures(track: Track, clip: Clip) -> _Reel:
    """Make the pictures in the form, legacy or enhanced, of the track's own header."""
    legacy = track.header is None or flvbuild.is_legacy(track.header)
    write = flvbuild.legacy_video if legacy else flvbuild.enhanced_video
    packets = []
    for at, key, payload in clip.pictures:
        body = write(track.codec, payload, keyframe=key)
        offset = len(body) - len(payload)
        packets.append(Packet(MediaKind.VIDEO, 0, track.codec, Role.FRAME, key, at, 0, body, offset))
    return _Reel(tuple(packets), clip.duration_ms)
