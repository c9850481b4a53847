"""The headers of Enhanced RTMP v1 and v2: ModEx, multitrack, FourCC (E-RTMP v2 §ExVideoTagHeader, §ExAudioTagHeader).

Only bytes are taken apart here; what they mean is decided in `relay.media.flv`. Everything is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.media.errors import MediaError
from relay.media.packets import Codec

SEQUENCE_START, CODED_FRAMES, SEQUENCE_END, CODED_FRAMES_X, METADATA, TS_SEQUENCE_START, MULTITRACK, MODEX = range(8)
MULTICHANNEL_CONFIG, AUDIO_MULTITRACK = 4, 5
"""AudioPacketTypes that differ from the VideoPacketTypes of the same number."""
ONE_TRACK, MANY_TRACKS, MANY_TRACKS_MANY_CODECS = range(3)
COMMAND_FRAME = 5
"""FrameType of seek commands."""

VIDEO_FOURCCS = {
    codec.value.encode(): codec for codec in (Codec.AVC, Codec.HEVC, Codec.VVC, Codec.AV1, Codec.VP8, Codec.VP9)
}
AUDIO_FOURCCS = {
    codec.value.encode(): codec for codec in (Codec.AAC, Codec.MP3, Codec.OPUS, Codec.FLAC, Codec.AC3, Codec.EAC3)
}
COMPOSED_CODECS = frozenset({Codec.AVC, Codec.HEVC, Codec.VVC})
"""Codecs whose CodedFrames carry a composition time offset."""

MAX_MODEX = 8
"""ModEx units in front of one body. One is defined so far; 8 MiB of 3-byte units would be 2.7 million loops."""
MAX_TRACKS = 16
"""Tracks of one stream; Twitch's ladder has 5 video tracks, OBS 6 audio tracks."""


@dataclass(frozen=True, slots=True)
class ExHeader:
    """One Enhanced RTMP header, or one track's share of a ManyTracks body."""

    packet_type: int
    frame_type: int
    fourcc: bytes
    track: int
    start: int
    """Where the track's data starts in the body."""
    stop: int
    multitrack: int | None
    """Multitrack type, None for the single form."""
    prefix: int
    """Length of byte 0 and the ModEx units in front of the multitrack byte or FourCC."""
    nanos: int
    """TimestampOffsetNano: added to the presentation time, 0 to 999,999 ns."""


def parse(body: bytes, *, video: bool) -> list[ExHeader]:
    """Read the header of an enhanced body: one entry, or one per track for ManyTracks. Raises `MediaError`.

    FrameType command bodies come back with an empty FourCC and no data.
    """
    try:
        return _parse(body, video)
    except IndexError:
        raise MediaError("media.short", "enhanced header ends early") from None


def _parse(body: bytes, video: bool) -> list[ExHeader]:
    frame_type = body[0] >> 4 & 7 if video else 0
    packet_type, position, nanos = _skip_modex(body)
    prefix = position
    if frame_type == COMMAND_FRAME and packet_type != METADATA:
        return [ExHeader(packet_type, frame_type, b"", 0, len(body), len(body), None, prefix, nanos)]
    if packet_type != (MULTITRACK if video else AUDIO_MULTITRACK):
        fourcc = _fourcc(body, position)
        return [ExHeader(packet_type, frame_type, fourcc, 0, position + 4, len(body), None, prefix, nanos)]
    mode, packet_type = body[position] >> 4, body[position] & 0x0F
    position += 1
    if mode > MANY_TRACKS_MANY_CODECS or packet_type == (MULTITRACK if video else AUDIO_MULTITRACK):
        raise MediaError("media.multitrack", f"multitrack type {mode} of packet type {packet_type}")
    fourcc = b""
    if mode != MANY_TRACKS_MANY_CODECS:
        fourcc = _fourcc(body, position)
        position += 4
    if mode == ONE_TRACK:
        track = body[position]
        return [ExHeader(packet_type, frame_type, fourcc, track, position + 1, len(body), mode, prefix, nanos)]
    return _many(body, position, ExHeader(packet_type, frame_type, fourcc, 0, 0, 0, mode, prefix, nanos))


def _skip_modex(body: bytes) -> tuple[int, int, int]:
    """Return the packet type behind the ModEx units, the position after them and the nanosecond offset."""
    packet_type, position, nanos = body[0] & 0x0F, 1, 0
    for _ in range(MAX_MODEX):
        if packet_type != MODEX:
            return packet_type, position, nanos
        size = body[position] + 1
        position += 1
        if size == 256:
            size = (body[position] << 8 | body[position + 1]) + 1
            position += 2
        kind = body[position + size]
        if kind >> 4 == 0 and size >= 3:  # TimestampOffsetNano
            nanos = int.from_bytes(body[position : position + 3], "big")
        packet_type = kind & 0x0F
        position += size + 1
    if packet_type == MODEX:
        raise MediaError("media.modex", f"more than {MAX_MODEX} ModEx units")
    return packet_type, position, nanos


def _fourcc(body: bytes, position: int) -> bytes:
    fourcc = body[position : position + 4]
    if len(fourcc) < 4:
        raise MediaError("media.short", "enhanced header ends inside its FourCC")
    return fourcc


def _many(body: bytes, position: int, common: ExHeader) -> list[ExHeader]:
    """Read the tracks of a ManyTracks body. A track that lies about its size ends the list; those before it count."""
    headers: list[ExHeader] = []
    while position < len(body) and len(headers) < MAX_TRACKS:
        fourcc = common.fourcc
        try:
            if common.multitrack == MANY_TRACKS_MANY_CODECS:
                fourcc = _fourcc(body, position)
                position += 4
            track = body[position]
            start = position + 4
            if start > len(body):
                raise MediaError("media.short", "track size missing")
            position = start + int.from_bytes(body[position + 1 : start], "big")
            if position > len(body):
                raise MediaError("media.short", "track runs past the body")
        except (IndexError, MediaError):
            if headers:
                return headers
            raise
        headers.append(
            ExHeader(
                common.packet_type,
                common.frame_type,
                fourcc,
                track,
                start,
                position,
                common.multitrack,
                common.prefix,
                common.nanos,
            )
        )
    return headers


def one_track_body(body: bytes, header: ExHeader) -> bytes:
    """Cut one track out of a ManyTracks body: the same head, OneTrack, the track's own data."""
    return b"".join(
        (
            body[: header.prefix],
            bytes((ONE_TRACK << 4 | header.packet_type,)),
            header.fourcc,
            bytes((header.track,)),
            body[header.start : header.stop],
        )
    )


def nano_offset(body: bytes, *, video: bool) -> int:
    """Return the TimestampOffsetNano of an enhanced body in ns, 0 when it has none."""
    try:
        return parse(body, video=video)[0].nanos if body and _is_enhanced(body, video) else 0
    except (MediaError, IndexError):
        return 0


def _is_enhanced(body: bytes, video: bool) -> bool:
    return bool(body[0] & 0x80) if video else body[0] >> 4 == 9
