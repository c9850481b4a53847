"""Which tracks become which renditions.

Pure. The rule it guards: one picture with one sound is one rendition, the cheapest to serve; only when there is a
choice of pictures or sounds does each track get a rendition of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from relay.api import Codec, MediaKind, Track

from .options import MAX_RENDITIONS

IN_FMP4 = frozenset(
    {
        Codec.AVC,
        Codec.HEVC,
        Codec.AV1,
        Codec.VP9,
        Codec.AAC,
        Codec.MP3,
        Codec.OPUS,
        Codec.FLAC,
        Codec.AC3,
        Codec.EAC3,
    }
)
IN_TS = frozenset({Codec.AVC, Codec.HEVC, Codec.AAC, Codec.MP3, Codec.AC3, Codec.EAC3})


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One rendition. *lead* is the track that says where it is cut; *follows*: another rendition says it."""

    name: str
    tracks: Sequence[Track]
    lead: Track
    follows: bool = False

    @property
    def has_video(self) -> bool:
        """Whether there is a picture in it."""
        return self.lead.kind is MediaKind.VIDEO

    @property
    def sound(self) -> Track | None:
        """Its audio track."""
        return next((track for track in self.tracks if track.kind is MediaKind.AUDIO), None)


def plan(tracks: Iterable[Track], codecs: frozenset[Codec]) -> list[Planned]:
    """Return the renditions for *tracks*, the one that leads first; none when nothing of it can be packaged."""
    usable = [track for track in tracks if track.codec in codecs]
    videos = [track for track in usable if track.kind is MediaKind.VIDEO]
    audios = [track for track in usable if track.kind is MediaKind.AUDIO]
    if not usable:
        return []
    if len(videos) <= 1 and len(audios) <= 1:
        return [Planned(name="main", tracks=(*videos, *audios), lead=usable_lead(videos, audios))]
    planned = [Planned(name=f"v{track.track_id}", tracks=(track,), lead=track) for track in videos]
    planned += [
        Planned(name=f"a{track.track_id}", tracks=(track,), lead=track, follows=bool(videos) or index > 0)
        for index, track in enumerate(audios)
    ]
    return planned[:MAX_RENDITIONS]


def usable_lead(videos: Sequence[Track], audios: Sequence[Track]) -> Track:
    """Return the track whose frames say where to cut."""
    return videos[0] if videos else audios[0]
