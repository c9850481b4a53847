"""VP9 (and the vpcC record that VP8 shares): configuration (VP-ISOBMFF 2.2), the frame header, codec strings."""

from __future__ import annotations

from dataclasses import dataclass

from relay.media.bits import BitReader
from relay.media.errors import MediaError, bad_config
from relay.media.facts import VideoFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class VpConfig:
    """The fields of vpcC."""

    profile: int
    level: int
    bit_depth: int
    chroma: int
    full_range: bool
    primaries: int
    transfer: int
    matrix: int


def parse_config(record: bytes) -> VpConfig:
    """Read a vpcC record, with the FullBox version and flags in front as FFmpeg writes it, or without."""
    body = record[4:] if record.startswith(b"\x01\x00\x00\x00") and len(record) >= 12 else record
    if len(body) < 8:
        raise bad_config("not a VP configuration record")
    config = VpConfig(
        profile=body[0],
        level=body[1],
        bit_depth=body[2] >> 4,
        chroma=(body[2] >> 1) & 7,
        full_range=bool(body[2] & 1),
        primaries=body[3],
        transfer=body[4],
        matrix=body[5],
    )
    if config.profile > 3 or config.bit_depth not in (8, 10, 12):
        raise bad_config(f"VP profile {config.profile} with {config.bit_depth} bits")
    return config


def check(record: bytes) -> None:
    """Raise `MediaError` unless *record* is a vpcC record."""
    parse_config(record)


def codec_string(record: bytes, fourcc: str = "vp09") -> str:
    """RFC 6381 string, for example ``vp09.00.11.08``; the long form when the colours are not the default."""
    config = parse_config(record)
    base = f"{fourcc}.{config.profile:02d}.{config.level:02d}.{config.bit_depth:02d}"
    if (config.primaries, config.transfer, config.matrix) in {(2, 2, 2), (1, 1, 1)}:
        return base
    return (
        f"{base}.{config.chroma:02d}.{config.primaries:02d}.{config.transfer:02d}.{config.matrix:02d}"
        f".{int(config.full_range):02d}"
    )


def is_keyframe(payload: bytes) -> bool:
    """Whether a VP9 frame is a key frame (VP9 6.2)."""
    try:
        return _key_frame(BitReader(payload[:16])) is not None
    except MediaError:
        return False


def frame_facts(payload: bytes, record: bytes) -> VideoFacts | None:
    """Return the facts of a key frame; only the frame itself knows the picture size. None for other frames."""
    config = parse_config(record)
    reader = BitReader(payload[:32])
    profile = _key_frame(reader)
    if profile is None:
        return None
    if reader.bits(24) != 0x498342:
        raise MediaError("media.bad_frame", "VP9 sync code missing")
    if profile >= 2:
        reader.skip(1)
    if reader.bits(3) == 7:  # CS_RGB: no range and, in profiles 0 and 2, no subsampling bits either
        reader.skip(1 if profile in (1, 3) else 0)
    else:
        reader.skip(4 if profile in (1, 3) else 1)
    width, height = reader.bits(16) + 1, reader.bits(16) + 1
    return VideoFacts(
        width=width,
        height=height,
        profile=config.profile,
        level=config.level,
        bit_depth=config.bit_depth,
        chroma_format={0: 1, 1: 1, 2: 2, 3: 3}.get(config.chroma, 1),
        primaries=config.primaries,
        transfer=config.transfer,
        matrix=config.matrix,
        full_range=config.full_range,
    )


def _key_frame(reader: BitReader) -> int | None:
    """Read the front of uncompressed_header; return the profile of a key frame, None for any other frame."""
    if reader.bits(2) != 2:
        return None
    profile = reader.bits(1) | reader.bits(1) << 1
    if profile == 3:
        reader.skip(1)
    show_existing, not_key = reader.flag(), reader.flag()
    if show_existing or not_key:
        return None
    reader.skip(2)  # show_frame, error_resilient_mode
    return profile
