"""The unit of media and what it belongs to: Packet, Track, TrackSet. Pure data, no parsing.

A `Packet` keeps the RTMP message body it came from, so relaying re-chunks and never re-encodes. Its fields are
set by `relay.media.flv` and `relay.media.timeline` before the packet is published; from then on nobody changes it,
because every sink holds the same object. (It is not a frozen dataclass only because freezing costs 0.7 µs for
each of ten thousand packets a second.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum


class MediaKind(IntEnum):
    """What a packet carries; the value is the RTMP message type id and the FLV tag type."""

    AUDIO = 8
    VIDEO = 9
    DATA = 18


class Role(IntEnum):
    """What a packet is for."""

    FRAME = 0
    """One coded picture or audio frame."""
    HEADER = 1
    """Sequence header: the decoder configuration of its track."""
    SIDE = 2
    """Track side information that a joining player needs too: colorInfo, multichannel configuration."""
    METADATA = 3
    """onMetaData (kind DATA)."""
    END = 4
    """End of sequence."""
    OTHER = 5
    """Anything passed through without understanding: cue points, captions, unknown packet types."""


class Codec(Enum):
    """Coded format; the value is the FourCC of Enhanced RTMP where there is one."""

    AVC = "avc1"
    HEVC = "hvc1"
    VVC = "vvc1"
    AV1 = "av01"
    VP8 = "vp08"
    VP9 = "vp09"
    H263 = "h263"
    VP6 = "vp6"
    MPEG4 = "mp4v"
    AAC = "mp4a"
    MP3 = ".mp3"
    OPUS = "Opus"
    FLAC = "fLaC"
    AC3 = "ac-3"
    EAC3 = "ec-3"
    SPEEX = "spex"
    G711A = "alaw"
    G711U = "ulaw"
    PCM = "lpcm"
    ADPCM = "adpc"
    NELLYMOSER = "nmos"
    AMF = "amf0"
    """Data messages."""
    UNKNOWN = "????"


@dataclass(slots=True, eq=False)
class Packet:
    """One coded access unit, sequence header or data message of one track.

    Attributes:
        kind: audio, video or data.
        track: track id; 0 is the default track (E-RTMP v2 §Multitrack).
        codec: coded format.
        role: what the packet is for.
        keyframe: random-access picture. Always False for audio and data.
        dts: decode time in ms. 32-bit wire value when it leaves the demuxer, 64-bit stream time once published.
        cts: presentation time minus decode time, signed ms.
        body: the whole RTMP message body (FLV tag body), exactly one track's.
        offset: where the coded payload (NAL units, raw AAC, config record...) starts in *body*.
    """

    kind: MediaKind
    track: int
    codec: Codec
    role: Role
    keyframe: bool
    dts: int
    cts: int
    body: bytes
    offset: int

    @property
    def payload(self) -> bytes:
        """The coded bytes without the FLV tag header."""
        return self.body[self.offset :]

    @property
    def pts(self) -> int:
        """Presentation time in ms."""
        return self.dts + self.cts


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One elementary stream with what a decoder needs before its first frame."""

    kind: MediaKind
    track_id: int
    codec: Codec
    header: Packet | None = None
    """The sequence header, None for codecs without one (MP3, G.711) or before it arrived."""
    side: tuple[Packet, ...] = ()
    """Latest side packets (colorInfo, multichannel configuration), in order of arrival."""

    @property
    def config(self) -> bytes:
        """Decoder configuration record (avcC, hvcC, AudioSpecificConfig...), empty when there is none."""
        return self.header.payload if self.header is not None else b""


@dataclass(frozen=True, slots=True)
class TrackSet:
    """All tracks of a stream and its onMetaData; what a sink gets before the first packet."""

    tracks: tuple[Track, ...] = ()
    metadata: Packet | None = None
    generation: int = field(default=0)
    """Rises by one whenever a track or its sequence header changes."""

    def find(self, kind: MediaKind, track_id: int = 0) -> Track | None:
        """Return the track with this kind and id."""
        for track in self.tracks:
            if track.kind is kind and track.track_id == track_id:
                return track
        return None

    @property
    def has_video(self) -> bool:
        """Whether any video track is known."""
        return any(track.kind is MediaKind.VIDEO for track in self.tracks)

    def opening(self) -> list[Packet]:
        """The packets to send before the first frame: metadata, then each track's header and side packets."""
        packets = [] if self.metadata is None else [self.metadata]
        for track in self.tracks:
            if track.header is not None:
                packets.append(track.header)
            packets.extend(track.side)
        return packets
