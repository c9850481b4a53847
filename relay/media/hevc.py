"""H.265: HEVCDecoderConfigurationRecord (ISO/IEC 14496-15 8.3.3), SPS facts, NAL unit types, keyframes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

from relay.media import nal as nals
from relay.media.bits import BitReader, unescape
from relay.media.errors import MediaError, bad_config
from relay.media.facts import MAX_DIMENSION, VideoFacts

RADL_N, RASL_N, RASL_R, BLA, IDR_W_RADL, CRA, VPS, SPS, PPS, AUD, SEI = 6, 8, 9, 16, 19, 21, 32, 33, 34, 35, 39

MAX_ARRAYS = 16
"""Arrays in one record; VPS, SPS, PPS and two kinds of SEI are what encoders write."""
MAX_NALS = 16
"""NAL units in one array."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HevcConfig:
    """The decoder configuration of an HEVC track."""

    profile_space: int
    tier: bool
    profile: int
    compatibility: int
    constraints: bytes
    level: int
    length_size: int
    arrays: tuple[tuple[int, tuple[bytes, ...]], ...]
    """NAL unit type and NAL units, in the order of the record."""

    def units(self, nal_type: int) -> list[bytes]:
        """Return the NAL units of one type."""
        return [unit for kind, units in self.arrays if kind == nal_type for unit in units]


def nal_type(unit: bytes) -> int:
    """Return nal_unit_type of a NAL unit."""
    return (unit[0] >> 1) & 0x3F


def parse_config(record: bytes) -> HevcConfig:
    """Read an HEVCDecoderConfigurationRecord."""
    if len(record) < 23 or record[0] != 1:
        raise bad_config("not an HEVC configuration record")
    if record[22] > MAX_ARRAYS:
        raise bad_config(f"{record[22]} arrays")
    arrays = []
    position = 23
    for _ in range(record[22]):
        if position + 3 > len(record):
            raise bad_config("array runs past the record")
        kind = record[position] & 0x3F
        units, position = _units(record, position + 3, int.from_bytes(record[position + 1 : position + 3], "big"))
        arrays.append((kind, units))
    config = HevcConfig(
        profile_space=record[1] >> 6,
        tier=bool(record[1] & 0x20),
        profile=record[1] & 0x1F,
        compatibility=int.from_bytes(record[2:6], "big"),
        constraints=record[6:12],
        level=record[12],
        length_size=(record[21] & 3) + 1,
        arrays=tuple(arrays),
    )
    if not config.units(SPS):
        raise bad_config("no SPS")
    return config


def _units(record: bytes, position: int, count: int) -> tuple[tuple[bytes, ...], int]:
    if count > MAX_NALS:
        raise bad_config(f"{count} NAL units in an array")
    units = []
    for _ in range(count):
        start = position + 2
        position = start + int.from_bytes(record[position:start], "big")
        if position > len(record) or position < start + 2:
            raise bad_config("NAL unit runs past the record")
        units.append(record[start:position])
    return tuple(units), position


def build_config(vps: Iterable[bytes], sps: Iterable[bytes], pps: Iterable[bytes]) -> bytes:
    """Write a record from parameter sets that came in-band or as Annex B."""
    sets = [(VPS, tuple(vps)), (SPS, tuple(sps)), (PPS, tuple(pps))]
    if any(not units or len(units) > MAX_NALS for _, units in sets):
        raise bad_config("parameter sets do not make a record")
    first = unescape(sets[1][1][0])
    facts = parse_sps(sets[1][1][0])
    sub_layers = ((first[2] >> 1) & 7) + 1
    parts = [
        b"\x01" + first[3:15],  # profile_tier_level stands after the id bits of the SPS, byte aligned
        b"\xf0\x00\xfc",
        bytes((0xFC | facts.chroma_format, 0xF8 | facts.bit_depth - 8, 0xF8 | facts.bit_depth - 8, 0, 0)),
        bytes((sub_layers << 3 | (first[2] & 1) << 2 | 3, len(sets))),
    ]
    for kind, units in sets:
        parts.append(bytes((0x80 | kind,)) + len(units).to_bytes(2, "big"))
        parts += [len(unit).to_bytes(2, "big") + unit for unit in units]
    return b"".join(parts)


def complete(record: bytes) -> bytes:
    """Return a record that says of its VPS, SPS and PPS that they are all there are, as the sample entry hvc1 demands.

    FFmpeg and OBS leave array_completeness 0 (ISO/IEC 14496-15 8.3.3.1.3); Apple's players take that at its word.
    """
    changed, position = bytearray(record), 23
    for _ in range(record[22] if len(record) > 22 else 0):
        if position + 3 > len(record):
            break
        if record[position] & 0x3F in (VPS, SPS, PPS):
            changed[position] |= 0x80
        count = int.from_bytes(record[position + 1 : position + 3], "big")
        position += 3
        for _ in range(min(count, MAX_NALS)):
            position += 2 + int.from_bytes(record[position : position + 2], "big")
    return bytes(changed)


def config_from_nals(units: Iterable[bytes]) -> bytes | None:
    """Build a record from the parameter sets among *units*, None unless there are VPS, SPS and PPS."""
    sets: dict[int, list[bytes]] = {VPS: [], SPS: [], PPS: []}
    for unit in units:
        found = sets.get(nal_type(unit))
        if found is not None and len(unit) > 2 and unit not in found:
            found.append(unit)
    if not all(sets.values()):
        return None
    return build_config(sets[VPS], sets[SPS], sets[PPS])


def check(record: bytes) -> None:
    """Raise `MediaError` unless *record* configures a decoder with a picture size one can believe."""
    for sps in parse_config(record).units(SPS):
        parse_sps(sps)


def facts(record: bytes) -> VideoFacts:
    """Return what the record's first SPS says."""
    return parse_sps(parse_config(record).units(SPS)[0])


def parse_sps(sps: bytes) -> VideoFacts:
    """Read a sequence parameter set NAL unit (H.265 7.3.2.2.1)."""
    reader = BitReader(unescape(sps)[2:])
    reader.skip(4)
    sub_layers = reader.bits(3)
    reader.skip(1)
    profile, level = profile_tier_level(reader, sub_layers)
    reader.ue(15)
    chroma = reader.ue(3)
    if chroma == 3:
        reader.skip(1)
    width, height = _dimensions(reader, chroma)
    depth = 8 + reader.ue(8)
    reader.ue(8)
    fps: Fraction | None = None
    colour = [2, 2, 2, 0]
    with suppress(MediaError):  # what follows the picture size is for information only; decoders survive without it
        fps = _rest(reader, sub_layers, colour)
    return VideoFacts(
        width=width,
        height=height,
        profile=profile,
        level=level,
        fps=fps,
        bit_depth=depth,
        chroma_format=chroma,
        primaries=colour[0],
        transfer=colour[1],
        matrix=colour[2],
        full_range=bool(colour[3]),
    )


def profile_tier_level(reader: BitReader, sub_layers: int) -> tuple[int, int]:
    """Read profile_tier_level (H.265 7.3.3); return general_profile_idc and general_level_idc."""
    reader.skip(3)
    profile = reader.bits(5)
    reader.skip(80)
    level = reader.bits(8)
    present = [(reader.flag(), reader.flag()) for _ in range(sub_layers)]
    if sub_layers:
        reader.skip(2 * (8 - sub_layers))
    for has_profile, has_level in present:
        reader.skip(88 * has_profile + 8 * has_level)
    return profile, level


def _dimensions(reader: BitReader, chroma: int) -> tuple[int, int]:
    width, height = reader.ue(MAX_DIMENSION), reader.ue(MAX_DIMENSION)
    if reader.flag():
        left, right, top, bottom = (reader.ue(MAX_DIMENSION) for _ in range(4))
        width -= (left + right) * (2 if chroma in (1, 2) else 1)
        height -= (top + bottom) * (2 if chroma == 1 else 1)
    if width <= 0 or height <= 0:
        raise bad_config(f"picture of {width} x {height}")
    return width, height


def _rest(reader: BitReader, sub_layers: int, colour: list[int]) -> Fraction | None:
    """Walk to the VUI; fill *colour*, return the frame rate."""
    order_bits = reader.ue(12) + 4
    for _ in range(sub_layers + 1 if reader.flag() else 1):
        for _ in range(3):
            reader.ue()
    for _ in range(6):
        reader.ue()  # block sizes and transform depths
    if reader.flag() and reader.flag():
        _scaling_lists(reader)
    reader.skip(2)
    if reader.flag():
        reader.skip(8)
        reader.ue()
        reader.ue()
        reader.skip(1)
    reference_sets(reader)
    if reader.flag():
        for _ in range(reader.ue(32)):
            reader.skip(order_bits + 1)
    reader.skip(2)
    return _vui(reader, colour) if reader.flag() else None


def _scaling_lists(reader: BitReader) -> None:
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if not reader.flag():
                reader.ue()
                continue
            if size > 1:
                reader.se()
            for _ in range(min(64, 1 << (4 + (size << 1)))):
                reader.se()


def reference_sets(reader: BitReader) -> None:
    """Pass over st_ref_pic_set (H.265 7.3.7)."""
    deltas = 0
    for index in range(reader.ue(64)):
        if index and reader.flag():
            reader.skip(1)
            reader.ue()
            kept = 0
            for _ in range(deltas + 1):
                if reader.flag() or reader.flag():
                    kept += 1
            deltas = kept
        else:
            deltas = reader.ue(16) + reader.ue(16)
            for _ in range(deltas):
                reader.ue()
                reader.skip(1)


def _vui(reader: BitReader, colour: list[int]) -> Fraction | None:
    """Read what we need of the VUI (H.265 E.2.1)."""
    if reader.flag() and reader.bits(8) == 255:
        reader.skip(32)
    if reader.flag():
        reader.skip(1)
    if reader.flag():
        reader.skip(3)
        colour[3] = reader.bits(1)
        if reader.flag():
            colour[:3] = reader.bits(8), reader.bits(8), reader.bits(8)
    if reader.flag():
        reader.ue()
        reader.ue()
    reader.skip(3)
    if reader.flag():
        for _ in range(4):
            reader.ue()
    if not reader.flag():
        return None
    ticks, scale = reader.bits(32), reader.bits(32)
    return Fraction(scale, ticks) if ticks and scale else None


def codec_string(record: bytes) -> str:
    """RFC 6381 string, for example ``hvc1.1.6.L120.90`` (ISO/IEC 14496-15 Annex E)."""
    if len(record) < 13:
        raise bad_config("not an HEVC configuration record")
    space = ("", "A", "B", "C")[record[1] >> 6]
    reversed_flags = int(f"{int.from_bytes(record[2:6], 'big'):032b}"[::-1], 2)
    tier = "H" if record[1] & 0x20 else "L"
    constraints = "".join(f".{byte:X}" for byte in record[6:12].rstrip(b"\x00"))
    return f"hvc1.{space}{record[1] & 0x1F}.{reversed_flags:X}.{tier}{record[12]}{constraints}"


def is_keyframe(payload: bytes, length_size: int = 4) -> bool:
    """Whether an access unit is an intra random access point: NAL unit types 16 to 23 (H.265 7.4.2.2)."""
    return any(16 <= nal_type(unit) <= 23 for unit in nals.split(payload, length_size))
