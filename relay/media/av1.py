"""AV1: AV1CodecConfigurationRecord (AV1-ISOBMFF 2.3), the OBU walk, sequence header facts, keyframes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from relay.media.bits import BitReader, BitWriter, leb128, to_leb128
from relay.media.errors import MediaError, bad_config
from relay.media.facts import MAX_DIMENSION, VideoFacts

SEQUENCE_HEADER, TEMPORAL_DELIMITER, FRAME_HEADER, TILE_GROUP, METADATA, FRAME = 1, 2, 3, 4, 5, 6
REDUNDANT_FRAME_HEADER, TILE_LIST, PADDING = 7, 8, 15

MAX_OBUS = 4096
"""OBUs of one temporal unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceHeader:
    """What the sequence header OBU says (AV1 5.5)."""

    profile: int
    level: int
    tier: int
    width: int
    height: int
    fps: Fraction | None
    bit_depth: int
    monochrome: bool
    subsampling_x: int
    subsampling_y: int
    sample_position: int
    primaries: int
    transfer: int
    matrix: int
    full_range: bool


def obus(payload: bytes) -> list[tuple[int, bytes, bytes]]:
    """Return (type, whole OBU, its payload) of each OBU of a temporal unit in low-overhead format (AV1 5.3)."""
    found: list[tuple[int, bytes, bytes]] = []
    position = 0
    for _ in range(MAX_OBUS):
        if position >= len(payload):
            return found
        header = payload[position]
        start = position + (2 if header & 0x04 else 1)
        if header & 0x80:
            raise MediaError("media.bad_obu", "forbidden bit set")
        size = len(payload) - start
        if header & 0x02:
            size, start = leb128(payload, start)
        if size < 0 or start + size > len(payload):
            raise MediaError("media.bad_obu", "OBU runs past the temporal unit")
        found.append(((header >> 3) & 0x0F, payload[position : start + size], payload[start : start + size]))
        position = start + size
    raise MediaError("media.bad_obu", f"more than {MAX_OBUS} OBUs in one temporal unit")


def strip_temporal_delimiters(payload: bytes) -> bytes:
    """Remove temporal delimiters, which ISO files must not hold (FFmpeg leaves them in, OBS does not)."""
    while payload.startswith(b"\x12\x00"):
        payload = payload[2:]
    return payload


def parse_config(record: bytes) -> SequenceHeader | None:
    """Validate an av1C record; return its sequence header, None when it carries no configOBUs."""
    if len(record) < 4 or record[0] & 0x7F != 1:
        raise bad_config("not an AV1 configuration record")
    try:
        for kind, _, body in obus(record[4:]):
            if kind == SEQUENCE_HEADER:
                return parse_sequence_header(body)
    except MediaError as error:
        raise bad_config(error.text) from error
    return None


def check(record: bytes) -> None:
    """Raise `MediaError` unless *record* is a configuration with a picture size one can believe."""
    parse_config(record)


def build_config(sequence_header: bytes) -> bytes:
    """Write av1C around the payload of a sequence header OBU."""
    header = parse_sequence_header(sequence_header)
    fixed = (
        BitWriter()
        .bits(0x81, 8)
        .bits(header.profile, 3)
        .bits(header.level, 5)
        .bits(header.tier, 1)
        .bits(header.bit_depth > 8, 1)
        .bits(header.bit_depth == 12, 1)
        .bits(header.monochrome, 1)
        .bits(header.subsampling_x, 1)
        .bits(header.subsampling_y, 1)
        .bits(header.sample_position, 2)
        .bits(0, 8)
    )
    return fixed.to_bytes() + b"\x0a" + to_leb128(len(sequence_header)) + sequence_header


def config_from_obus(payload: bytes) -> bytes | None:
    """Build a record from the sequence header in a temporal unit, None when there is none."""
    for kind, _, body in obus(payload):
        if kind == SEQUENCE_HEADER:
            return build_config(body)
    return None


def facts(record: bytes) -> VideoFacts | None:
    """Return what the record's sequence header says, None when the record carries none."""
    header = parse_config(record)
    if header is None:
        return None
    chroma = 0 if header.monochrome else {(1, 1): 1, (1, 0): 2}.get((header.subsampling_x, header.subsampling_y), 3)
    return VideoFacts(
        width=header.width,
        height=header.height,
        profile=header.profile,
        level=header.level,
        fps=header.fps,
        bit_depth=header.bit_depth,
        chroma_format=chroma,
        primaries=header.primaries,
        transfer=header.transfer,
        matrix=header.matrix,
        full_range=header.full_range,
    )


def parse_sequence_header(data: bytes) -> SequenceHeader:
    """Read sequence_header_obu (AV1 5.5.1)."""
    reader = BitReader(data)
    profile = reader.bits(3)
    reader.skip(1)
    reduced = reader.flag()
    fps: Fraction | None = None
    if reduced:
        level, tier = reader.bits(5), 0
    else:
        fps, level, tier = _operating_points(reader)
    width_bits, height_bits = reader.bits(4) + 1, reader.bits(4) + 1
    width, height = reader.bits(width_bits) + 1, reader.bits(height_bits) + 1
    if width > MAX_DIMENSION or height > MAX_DIMENSION:
        raise bad_config(f"picture of {width} x {height}")
    _tools(reader, reduced)
    depth, mono, subsampling, position, colour, full_range = _colour(reader, profile)
    return SequenceHeader(
        profile=profile,
        level=level,
        tier=tier,
        width=width,
        height=height,
        fps=fps,
        bit_depth=depth,
        monochrome=mono,
        subsampling_x=subsampling[0],
        subsampling_y=subsampling[1],
        sample_position=position,
        primaries=colour[0],
        transfer=colour[1],
        matrix=colour[2],
        full_range=full_range,
    )


def _operating_points(reader: BitReader) -> tuple[Fraction | None, int, int]:
    """Read timing and operating points; return the frame rate and the first point's level and tier."""
    fps: Fraction | None = None
    delay_bits = 0
    if reader.flag():
        ticks, scale = reader.bits(32), reader.bits(32)
        per_picture = reader.ue() + 1 if reader.flag() else 0
        if ticks and scale and per_picture:
            fps = Fraction(scale, ticks * per_picture)
        if reader.flag():
            delay_bits = reader.bits(5) + 1
            reader.skip(42)
    display_delay = reader.flag()
    first: tuple[int, int] | None = None
    for _ in range(reader.bits(5) + 1):
        reader.skip(12)
        level = reader.bits(5)
        tier = reader.bits(1) if level > 7 else 0
        if delay_bits and reader.flag():
            reader.skip(2 * delay_bits + 1)
        if display_delay and reader.flag():
            reader.skip(4)
        first = first or (level, tier)
    return fps, *(first or (0, 0))


def _tools(reader: BitReader, reduced: bool) -> None:
    """Pass over the coding tools between the picture size and the colour configuration."""
    if not reduced and reader.flag():
        reader.skip(7)
    reader.skip(3)
    if not reduced:
        reader.skip(4)
        order_hint = reader.flag()
        if order_hint:
            reader.skip(2)
        screen_content = 2 if reader.flag() else reader.bits(1)
        if screen_content and not reader.flag():
            reader.skip(1)
        if order_hint:
            reader.skip(3)
    reader.skip(3)


def _colour(reader: BitReader, profile: int) -> tuple[int, bool, tuple[int, int], int, tuple[int, int, int], bool]:
    """Read color_config (AV1 5.5.2): depth, monochrome, subsampling, sample position, code points, range."""
    high = reader.flag()
    depth = (12 if reader.flag() else 10) if profile == 2 and high else 10 if high else 8
    mono = profile != 1 and reader.flag()
    colour = (reader.bits(8), reader.bits(8), reader.bits(8)) if reader.flag() else (2, 2, 2)
    if mono:
        return depth, True, (1, 1), 0, colour, reader.flag()
    if colour == (1, 13, 0):
        return depth, False, (0, 0), 0, colour, True
    full_range = reader.flag()
    subsampling = {0: (1, 1), 1: (0, 0)}.get(profile)
    if subsampling is None:
        subsampling = (1, 0)
        if depth == 12:
            across = reader.bits(1)
            subsampling = (across, reader.bits(1) if across else 0)
    position = reader.bits(2) if subsampling == (1, 1) else 0
    return depth, False, subsampling, position, colour, full_range


def codec_string(record: bytes) -> str:
    """RFC 6381 string, for example ``av01.0.08M.08`` (AV1-ISOBMFF 5)."""
    if len(record) < 4:
        raise bad_config("not an AV1 configuration record")
    depth = (12 if record[2] & 0x20 else 10) if record[2] & 0x40 else 8
    base = f"av01.{record[1] >> 5}.{record[1] & 0x1F:02d}{'H' if record[2] & 0x80 else 'M'}.{depth:02d}"
    header = parse_config(record)
    if header is None or (header.primaries, header.transfer, header.matrix) in {(2, 2, 2), (1, 1, 1)}:
        return base
    subsampling = f"{header.subsampling_x}{header.subsampling_y}{header.sample_position}"
    return (
        f"{base}.{int(header.monochrome)}.{subsampling}.{header.primaries:02d}.{header.transfer:02d}"
        f".{header.matrix:02d}.{int(header.full_range)}"
    )


def is_keyframe(payload: bytes) -> bool:
    """Whether a temporal unit starts a coded video sequence: a sequence header and a shown key frame."""
    has_header = False
    for kind, _, body in obus(payload):
        if kind == SEQUENCE_HEADER:
            has_header = True
        elif kind in (FRAME, FRAME_HEADER) and body:
            # show_existing_frame 0, frame_type 00 KEY_FRAME, show_frame 1 (AV1 5.9.2)
            return has_header and body[0] & 0xF0 == 0x10
    return False
