"""What stands in a track's stsd: the sample entry with its decoder configuration, colour and time scale.

One function per codec, in a table. Codecs whose configuration is in their frames (AC-3, E-AC-3, MP3, and VP9 for the
picture size) are given the first frame.

Opus pre-skip stands in dOps and nowhere else: there is no edit list. A muxer usually begins in the middle of a
programme, where there is no priming to cut off, and the encoder's timestamps say when each packet is due.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from relay.media import ac3, configs, hevc, opus, side, vp9
from relay.media.errors import MediaError
from relay.media.facts import AudioFacts, VideoFacts
from relay.media.packets import Codec, MediaKind, Track
from relay.media.side import ColorInfo
from relay.mux.boxes import box, descriptor, full_box, u16, u32

VIDEO_SCALE = 90_000
"""Ticks a second of video: every millisecond and every usual frame rate is whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """How one track is written."""

    box: bytes
    scale: int
    """Ticks a second: 90,000 for video, the sample rate for audio."""
    frame: int = 0
    """Ticks of a frame; 0 when only timestamps (or, for Opus, the packet) tell."""
    width: int = 0
    height: int = 0


_Build = Callable[[Track, bytes], Entry]


def _video(name: bytes, facts: VideoFacts, track: Track, *config: bytes) -> Entry:
    fixed = b"".join((
        bytes(6), u16(1), bytes(16), u16(facts.width), u16(facts.height),
        u32(0x480000), u32(0x480000), bytes(4), u16(1), bytes(32), u16(0x18), b"\xff\xff",
    ))  # fmt: skip
    made = box(name, fixed, *config, *_colour(facts, track))
    return Entry(box=made, scale=VIDEO_SCALE, width=facts.width, height=facts.height)


def _colour(facts: VideoFacts, track: Track) -> list[bytes]:
    """Write colr, mdcv and clli. The bitstream's word counts before that of colorInfo."""
    info = next((info for packet in track.side if (info := side.color_info(packet))), ColorInfo())
    points = tuple(
        own if own != 2 else told
        for own, told in (
            (facts.primaries, info.primaries), (facts.transfer, info.transfer), (facts.matrix, info.matrix),
        )
    )  # fmt: skip
    boxes = []
    if points != (2, 2, 2):
        nclx = b"".join(u16(min(point, 255)) for point in points)
        boxes.append(box(b"colr", b"nclx", nclx, bytes((facts.full_range << 7,))))
    if info.mastering:
        red, green, blue, white = (info.mastering[n : n + 2] for n in (0, 2, 4, 6))
        points_50k = (u16(min(round(v * 50_000), 65_535)) for v in (*green, *blue, *red, *white))
        light = (u32(min(round(v * 10_000), 0xFFFF_FFFF)) for v in info.mastering[8:10])
        boxes.append(box(b"mdcv", *points_50k, *light))
    if info.max_cll or info.max_fall:
        boxes.append(box(b"clli", u16(min(info.max_cll, 65_535)), u16(min(info.max_fall, 65_535))))
    return boxes


def _configured(name: bytes, config_name: bytes) -> _Build:
    def build(track: Track, frame: bytes) -> Entry:
        facts = configs.video_facts(track)
        if facts is None:
            raise MediaError("media.no_config", f"{track.codec.value} configuration says no picture size")
        record = hevc.complete(track.config) if track.codec is Codec.HEVC else track.config
        return _video(name, facts, track, box(config_name, record))

    return build


def _vp9(track: Track, frame: bytes) -> Entry:
    record = track.config or vp9.config_from_frame(frame)
    facts = vp9.frame_facts(frame, record) if record else None
    if facts is None or not record:
        raise MediaError("media.no_config", "VP9 begins without a key frame")
    return _video(b"vp09", facts, track, full_box(b"vpcC", 1, 0, vp9.bare_config(record)))


def _audio(name: bytes, facts: AudioFacts, frame: int, *config: bytes) -> Entry:
    rate = facts.sample_rate if facts.sample_rate < 65_536 else 0  # then the configuration alone says it
    fixed = b"".join((bytes(6), u16(1), bytes(8), u16(facts.channels or 2), u16(16), bytes(4), u16(rate), bytes(2)))
    return Entry(box=box(name, fixed, *config), scale=facts.sample_rate, frame=frame)


def _sound(track: Track, frame: bytes) -> AudioFacts:
    facts = configs.audio_facts(track, frame)
    if facts is None:
        raise MediaError("media.no_config", f"{track.codec.value} frame or configuration cannot be read")
    return facts


def _esds(object_type: int, specific: bytes) -> bytes:
    info = descriptor(5, specific) if specific else b""
    decoder = descriptor(4, bytes((object_type, 0x15)), bytes(3), bytes(8), info)
    return full_box(b"esds", 0, 0, descriptor(3, u16(0), b"\0", decoder, descriptor(6, b"\x02")))


def _aac(track: Track, frame: bytes) -> Entry:
    facts = _sound(track, frame)
    return _audio(b"mp4a", facts, facts.samples_per_frame, _esds(0x40, track.config))


def _mp3(track: Track, frame: bytes) -> Entry:
    facts = _sound(track, frame)
    return _audio(b"mp4a", facts, facts.samples_per_frame, _esds(0x6B if facts.sample_rate >= 32_000 else 0x69, b""))


def _opus(track: Track, frame: bytes) -> Entry:
    return _audio(b"Opus", _sound(track, frame), 0, box(b"dOps", opus.dops(track.config)))


def _flac(track: Track, frame: bytes) -> Entry:
    facts = _sound(track, frame)
    streaminfo = track.config[:34]
    return _audio(b"fLaC", facts, facts.samples_per_frame, full_box(b"dfLa", 0, 0, b"\x80\0\0\x22", streaminfo))


def _dolby(track: Track, frame: bytes) -> Entry:
    facts = _sound(track, frame)
    name, config = (b"ac-3", b"dac3") if track.codec is Codec.AC3 else (b"ec-3", b"dec3")
    return _audio(name, facts, ac3.packet_samples(frame), box(config, ac3.box_payload(frame)))


_BUILD: dict[Codec, _Build] = {
    Codec.AVC: _configured(b"avc1", b"avcC"),
    Codec.HEVC: _configured(b"hvc1", b"hvcC"),
    Codec.AV1: _configured(b"av01", b"av1C"),
    Codec.VP9: _vp9,
    Codec.AAC: _aac,
    Codec.MP3: _mp3,
    Codec.OPUS: _opus,
    Codec.FLAC: _flac,
    Codec.AC3: _dolby,
    Codec.EAC3: _dolby,
}
FROM_FRAME = frozenset({Codec.VP9, Codec.MP3, Codec.AC3, Codec.EAC3})
"""Codecs whose entry is made from a frame."""


def can_write(track: Track) -> bool:
    """Whether fMP4 has a place for the track, and its configuration can be used."""
    if track.codec not in _BUILD or (track.kind is MediaKind.DATA):
        return False
    return track.codec in FROM_FRAME or sample_entry(track) is not None


def sample_entry(track: Track, frame: bytes = b"") -> Entry | None:
    """Return the track's entry; None when its configuration (or *frame*) does not give one."""
    try:
        return _BUILD[track.codec](track, frame)
    except MediaError:
        return None
