"""What the muxer tests write: corpus files with their tracks, and packets made by hand."""

from __future__ import annotations

from functools import cache

from relay.media.packets import Codec, MediaKind, Packet, Role, Track, TrackSet
from relay.media.tracks import TrackTable
from relay.mux.segment import Fragment, SegmentMuxer
from tests.media import samples
from tests.media.samples import FLV_FILES, packets

AVCC = samples.AVCC_1080P
ASC = bytes.fromhex("1190")  # AAC-LC, 48 kHz, stereo

__all__ = ["ASC", "AVCC", "FLV_FILES", "packets"]


@cache
def tracks(name: str) -> TrackSet:
    """The tracks of a corpus file."""
    table = TrackTable()
    for packet in packets(name):
        table.see(packet)
    return table.tracks


def track(kind: MediaKind, codec: Codec, record: bytes = b"", track_id: int = 0) -> Track:
    """A track with a configuration record."""
    header = Packet(kind, track_id, codec, Role.HEADER, False, 0, 0, record, 0) if record else None
    return Track(kind=kind, track_id=track_id, codec=codec, header=header)


AVC = track(MediaKind.VIDEO, Codec.AVC, AVCC)
AAC = track(MediaKind.AUDIO, Codec.AAC, ASC)


def nal(size: int, kind: int = 0x41, fill: int = 0x55) -> bytes:
    """One length-prefixed NAL unit of *size* bytes."""
    return size.to_bytes(4, "big") + bytes((kind,)).ljust(size, bytes((fill,)))


def video(
    dts: int, key: bool = False, *, cts: int = 0, body: bytes | None = None, codec: Codec = Codec.AVC, size: int = 40
) -> Packet:
    """A picture."""
    body = nal(size, 0x65 if key else 0x41, dts & 0x7F | 0x80) if body is None else body
    return Packet(
        MediaKind.VIDEO, 0, codec, Role.FRAME, key, dts, cts, (b"\x17" if key else b"\x27") + b"\x01\0\0\0" + body, 5
    )


def audio(dts: int, body: bytes = b"", *, track_id: int = 0, codec: Codec = Codec.AAC) -> Packet:
    """An audio frame."""
    body = body or b"\x21" + dts.to_bytes(8, "big", signed=True) + b"\xfc"
    return Packet(MediaKind.AUDIO, track_id, codec, Role.FRAME, False, dts, 0, b"\xaf\x01" + body, 2)


def programme(seconds: float, *, fps: int = 30, gop: int = 30, start: int = 0, size: int = 40) -> list[Packet]:
    """Pictures and AAC frames in order of time, with timestamps rounded to milliseconds as encoders do."""
    pictures = [video(start + n * 1000 // fps, n % gop == 0, size=size) for n in range(int(seconds * fps))]
    sounds = [audio(start + n * 1024 * 1000 // 48_000) for n in range(int(seconds * 48_000 / 1024))]
    return sorted(pictures + sounds, key=lambda packet: packet.dts)


def mux(muxer: SegmentMuxer, feed: list[Packet], *, part_ms: int = 200) -> list[Fragment]:
    """Write packets as a packager does: a cut in front of every keyframe and when a part is full."""
    found = []
    for packet in feed:
        if packet.keyframe:
            found.append(muxer.cut_before(packet))
        muxer.write(packet)
        if muxer.pending_ms >= part_ms:
            found.append(muxer.cut())
    found.append(muxer.cut(last=True))
    return [fragment for fragment in found if fragment is not None]
