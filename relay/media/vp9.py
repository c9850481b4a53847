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


_LEVELS = (
    *((36_864, 10), (73_728, 11), (122_880, 20), (245_760, 21), (552_960, 30), (983_040, 31)),
    *((2_228_224, 40), (8_912_896, 50), (35_651_584, 60)),
)
"""Largest picture of each level, the lowest level of that size (VP9 Annex A)."""


def bare_config(record: bytes) -> bytes:
    """Return a vpcC record without the FullBox version and flags that FFmpeg writes in front."""
    return record[4:] if record.startswith(b"\x01\x00\x00\x00") and len(record) >= 12 else record


def parse_config(record: bytes) -> VpConfig:
    """Read a vpcC record, with the FullBox version and flags in front as FFmpeg writes it, or without."""
    body = bare_config(record)
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
    head = _read_key_frame(payload)
    if head is None:
        return None
    width, height = head[-2:]
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


def config_from_frame(payload: bytes) -> bytes | None:
    """Build a vpcC record from a key frame whose encoder sent none; None for other frames. The level is the size's."""
    head = _read_key_frame(payload)
    if head is None:
        return None
    profile, depth, chroma, full_range, width, height = head
    level = next((level for size, level in _LEVELS if width * height <= size), 62)
    return bytes((profile, level, depth << 4 | chroma << 1 | full_range, 2, 2, 2, 0, 0))


def _read_key_frame(payload: bytes) -> tuple[int, int, int, int, int, int] | None:
    """Return profile, bit depth, vpcC chroma, full range, width and height of a key frame (VP9 6.2, 7.2)."""
    reader = BitReader(payload[:32])
    profile = _key_frame(reader)
    if profile is None:
        return None
    if reader.bits(24) != 0x498342:
        raise MediaError("media.bad_frame", "VP9 sync code missing")
    depth = 8 if profile < 2 else 12 if reader.flag() else 10
    chroma, full_range = 1, 0
    if reader.bits(3) == 7:  # CS_RGB: no range and, in profiles 0 and 2, no subsampling bits either
        chroma, full_range = 3, 1
        reader.skip(1 if profile in (1, 3) else 0)
    else:
        full_range = reader.bits(1)
        if profile in (1, 3):
            chroma = {0: 3, 2: 2}.get(reader.bits(2), 3)  # vpcC knows no 4:4:0
            reader.skip(1)
    return profile, depth, chroma, full_range, reader.bits(16) + 1, reader.bits(16) + 1


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
