"""Packets for tests: well-formed bodies of H.264, HEVC and AAC without an encoder. Use them from `relay.testing`."""

from __future__ import annotations

from collections.abc import Iterator

from relay.api import Codec, MediaKind, Packet, Role, Track, TrackSet

AVC_CONFIG = bytes.fromhex("0142c01effe100196742c01ed900a02ff97011000003000100000300320f162e4801000568cb83cb20")
"""avcC record of a 640x360 baseline stream."""
HEVC_CONFIG = bytes.fromhex(
    "0101600000009000000000001ef000fcfdf8f800000f03200001001840010c01ffff01600000030090000003000003001e95"
    "9409210001002a42010101600000030090000003000003001ea0142061f26595952930bc05a0200000030020000003014122"
    "000100064401c073c189"
)
"""hvcC record with parameter sets, 8 bit."""
FILL = 0x55
"""What frames are full of: rows of zeros would be no coded media, and look like holes in a file."""
AAC_CONFIG = b"\x11\x90"
"""AudioSpecificConfig: AAC-LC, 48 kHz, stereo."""


def avc_header(config: bytes = AVC_CONFIG) -> Packet:
    """Return an H.264 sequence header (FLV legacy form)."""
    body = b"\x17\x00\x00\x00\x00" + config
    return _packet(MediaKind.VIDEO, Codec.AVC, Role.HEADER, 0, body, 5)


def hevc_header(config: bytes = HEVC_CONFIG) -> Packet:
    """Return an HEVC sequence header (E-RTMP v2 §ExVideoTagHeader)."""
    return _packet(MediaKind.VIDEO, Codec.HEVC, Role.HEADER, 0, b"\x90hvc1" + config, 5)


def aac_header(config: bytes = AAC_CONFIG) -> Packet:
    """Return an AAC sequence header."""
    return _packet(MediaKind.AUDIO, Codec.AAC, Role.HEADER, 0, b"\xaf\x00" + config, 2)


def avc_frame(dts: int, *, keyframe: bool = False, size: int = 200, cts: int = 0) -> Packet:
    """Return an H.264 picture with one NAL unit of *size* bytes."""
    nal = (b"\x65" if keyframe else b"\x41") + bytes([FILL]) * (size - 1)
    head = (b"\x17" if keyframe else b"\x27") + b"\x01" + cts.to_bytes(3, "big", signed=True)
    body = head + len(nal).to_bytes(4, "big") + nal
    return _packet(MediaKind.VIDEO, Codec.AVC, Role.FRAME, dts, body, 5, keyframe=keyframe, cts=cts)


def hevc_frame(dts: int, *, keyframe: bool = False, size: int = 200) -> Packet:
    """Return an HEVC picture (E-RTMP v2, packet type CodedFramesX)."""
    nal = (b"\x26\x01" if keyframe else b"\x02\x01") + bytes([FILL]) * (size - 2)
    body = (b"\x93" if keyframe else b"\xa3") + b"hvc1" + len(nal).to_bytes(4, "big") + nal
    return _packet(MediaKind.VIDEO, Codec.HEVC, Role.FRAME, dts, body, 5, keyframe=keyframe)


def aac_frame(dts: int, *, size: int = 100) -> Packet:
    """Return an AAC frame."""
    return _packet(MediaKind.AUDIO, Codec.AAC, Role.FRAME, dts, b"\xaf\x01" + bytes([FILL]) * size, 2)


def _packet(
    kind: MediaKind,
    codec: Codec,
    role: Role,
    dts: int,
    body: bytes,
    offset: int,
    *,
    keyframe: bool = False,
    cts: int = 0,
) -> Packet:
    return Packet(
        kind=kind, track=0, codec=codec, role=role, keyframe=keyframe, dts=dts, cts=cts, body=body, offset=offset
    )


def track_set(video: Packet | None = None, audio: Packet | None = None, *, generation: int = 1) -> TrackSet:
    """Return the tracks of a stream with these sequence headers: H.264 and AAC unless said otherwise."""
    headers = (video or avc_header(), audio or aac_header())
    tracks = tuple(Track(kind=one.kind, track_id=0, codec=one.codec, header=one) for one in headers)
    return TrackSet(tracks=tracks, generation=generation)


def packets(
    seconds: float = 2.0, *, start: int = 0, fps: int = 25, gop: int = 25, codec: Codec = Codec.AVC
) -> Iterator[Packet]:
    """Yield the frames of a programme in order of time: pictures with a keyframe every *gop*, and AAC at 48 kHz."""
    picture = hevc_frame if codec is Codec.HEVC else avc_frame
    video = [(start + 1000 * n // fps, 0, n) for n in range(int(seconds * fps))]
    audio = [(start + 1024 * n // 48, 1, n) for n in range(int(seconds * 48_000 / 1024))]
    for dts, is_audio, number in sorted(video + audio):
        yield aac_frame(dts) if is_audio else picture(dts, keyframe=number % gop == 0)
