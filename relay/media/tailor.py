"""One stream as one destination wants it: which tracks, in which form, with which metadata. No transcoding.

Imports the media floor. The rules it guards: what needs no change is the same object, so destinations with equal
wishes share every byte; what was not chosen is never sent in place of what was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from relay.amf_values import Value
from relay.media import flvbuild, metadata
from relay.media.errors import MediaError
from relay.media.packets import MediaKind, Packet, Role, Track, TrackSet
from relay.media.silent_track import SilentTrack

MetadataRule = Literal["correct", "keep", "strip"]

_DATA, _VIDEO, _AUDIO = MediaKind.DATA, MediaKind.VIDEO, MediaKind.AUDIO

_TRACK_MAPS = {_VIDEO: "videoTrackIdInfoMap", _AUDIO: "audioTrackIdInfoMap"}
"""Where onMetaData describes further tracks (E-RTMP v2 §Multitrack)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tailoring:
    """What a destination gets of a stream. Destinations with equal ones get the same packets.

    Attributes:
        multitrack: every track; otherwise the default track of each kind.
        legacy: H.264, AAC and MP3 without Enhanced RTMP, and nothing that has no legacy form but frames.
        video_track: this video track alone, as the default one.
        audio_track: the same for audio.
        silent_audio: silence while the destination would get no audio.
        metadata: ``correct`` what the tracks prove wrong where they differ from the stream's, ``keep`` it as it
            comes, or ``strip`` it to what the sequence headers say.
    """

    multitrack: bool = True
    legacy: bool = False
    video_track: int | None = None
    audio_track: int | None = None
    silent_audio: bool = False
    metadata: MetadataRule = "correct"

    @property
    def changes_nothing(self) -> bool:
        """Whether every packet passes as it is."""
        return replace(self, metadata="keep") == Tailoring(metadata="keep") and self.metadata != "strip"


class Tailor:
    """Applies a `Tailoring` to one stream: `configure` its tracks, then `cut` each of its packets."""

    def __init__(self, tailoring: Tailoring) -> None:
        self._tailoring = tailoring
        self._chosen: dict[MediaKind, int | None] = {}
        self._silence: SilentTrack | None = None
        self._before = TrackSet()
        self._tracks = TrackSet()

    def configure(self, tracks: TrackSet) -> TrackSet:
        """Return *tracks* as the destination gets them."""
        rules = self._tailoring
        self._chosen = {}
        for kind, wanted in ((_VIDEO, rules.video_track), (_AUDIO, rules.audio_track)):
            if wanted is not None or not rules.multitrack:
                self._chosen[kind] = _default(tracks, kind) if wanted is None else wanted
        kept = [cut for track in tracks.tracks if (cut := self._cut_track(track)) is not None]
        if rules.silent_audio and not any(track.kind is _AUDIO for track in kept):
            self._silence = self._silence or SilentTrack()
            kept.append(SilentTrack.track(_dts(tracks)))
        else:
            self._silence = None
        self._before = tracks
        self._tracks = replace(tracks, tracks=tuple(kept), metadata=None)
        described = None if tracks.metadata is None else self._cut_metadata(tracks.metadata)
        if described is None and rules.metadata == "strip":
            described = metadata.packet(metadata.describe(self._tracks), _dts(tracks))
        self._tracks = replace(self._tracks, metadata=described)
        return self._tracks

    def cut(self, packet: Packet) -> Sequence[Packet]:
        """Return what the destination gets for *packet*: mostly that packet itself, sometimes nothing or more."""
        cut = self._cut_one(packet)
        if cut is None:
            return ()
        if self._silence is not None and packet.kind is _VIDEO and packet.role is Role.FRAME:
            return (*self._silence.until(packet.dts), cut)
        return (cut,)

    def _cut_track(self, track: Track) -> Track | None:
        if track.track_id != self._chosen.get(track.kind, track.track_id):
            return None
        header = None if track.header is None else self._cut_one(track.header)
        side = tuple(cut for packet in track.side if (cut := self._cut_one(packet)) is not None)
        if header is track.header and side == track.side and track.kind not in self._chosen:
            return track
        track_id = 0 if track.kind in self._chosen else track.track_id
        return replace(track, track_id=track_id, header=header, side=side)

    def _cut_one(self, packet: Packet) -> Packet | None:
        kind = packet.kind
        if kind is _DATA:
            return self._cut_metadata(packet) if packet.role is Role.METADATA else packet
        try:
            if kind in self._chosen:
                if packet.track != self._chosen[kind]:
                    return None
                packet = flvbuild.unwrap(flvbuild.retrack(packet, 0))
            if self._tailoring.legacy:
                packet = flvbuild.flatten(packet)
                if packet.role in (Role.SIDE, Role.OTHER) and not flvbuild.is_legacy(packet):
                    return None
        except MediaError:
            return None
        return packet if packet.track == 0 or kind not in self._chosen else None

    # Metadata.

    def _cut_metadata(self, packet: Packet) -> Packet:
        rule = self._tailoring.metadata
        if rule == "keep" or (rule == "correct" and self._tracks.tracks == self._before.tracks):
            return packet
        values = self._corrected(packet) if rule == "correct" else {}
        return metadata.packet({**values, **metadata.describe(self._tracks)}, packet.dts)

    def _corrected(self, packet: Packet) -> dict[str, Value]:
        """Return the encoder's own values, with those of a chosen track in place of the default track's."""
        values = metadata.metadata_values(packet)
        for kind, chosen in self._chosen.items():
            info = values.pop(_TRACK_MAPS[kind], None)
            own = info.get(str(chosen)) if isinstance(info, dict) else None
            if chosen and isinstance(own, dict):
                values.update(own)
        return values


def _default(tracks: TrackSet, kind: MediaKind) -> int | None:
    """Return the id of the default track: 0, or the lowest there is."""
    return min((track.track_id for track in tracks.tracks if track.kind is kind), default=None)


def _dts(tracks: TrackSet) -> int:
    """Return the time at which these tracks begin."""
    return min((track.header.dts for track in tracks.tracks if track.header is not None), default=0)
