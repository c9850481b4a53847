"""H.264: AVCDecoderConfigurationRecord (ISO/IEC 14496-15 5.3.3), SPS facts, NAL unit types, keyframes.

Reserved bits are masked, never compared: encoders write them as zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from relay.media import nal as nals
from relay.media.bits import BitReader, unescape
from relay.media.errors import MediaError, bad_config
from relay.media.facts import MAX_DIMENSION, VideoFacts

SLICE, IDR, SEI, SPS, PPS, AUD, FILLER = 1, 5, 6, 7, 8, 9, 12

MAX_PARAMETER_SETS = 16
"""SPS or PPS in one record. Encoders write one of each; a count of 31 or 255 is a record we cannot trust."""

_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
"""Profiles whose SPS carries chroma format and bit depth (H.264 7.3.2.1.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AvcConfig:
    """The decoder configuration of an AVC track."""

    profile: int
    compatibility: int
    level: int
    length_size: int
    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]


def parse_config(record: bytes) -> AvcConfig:
    """Read an AVCDecoderConfigurationRecord. The extension after the PPS is optional and ignored."""
    if len(record) < 7 or record[0] != 1:
        raise bad_config("not an AVC configuration record")
    sps, position = _parameter_sets(record, 6, record[5] & 0x1F, SPS)
    if not sps:
        raise bad_config("no SPS")
    if position >= len(record):
        raise bad_config("record ends before the PPS count")
    pps, _ = _parameter_sets(record, position + 1, record[position], PPS)
    return AvcConfig(
        profile=record[1],
        compatibility=record[2],
        level=record[3],
        length_size=(record[4] & 3) + 1,
        sps=sps,
        pps=pps,
    )


def _parameter_sets(record: bytes, position: int, count: int, nal_type: int) -> tuple[tuple[bytes, ...], int]:
    if count > MAX_PARAMETER_SETS:
        raise bad_config(f"{count} parameter sets")
    sets = []
    for _ in range(count):
        start = position + 2
        position = start + int.from_bytes(record[position:start], "big")
        if position > len(record) or position == start:
            raise bad_config("parameter set runs past the record")
        if record[start] & 0x1F != nal_type:
            raise bad_config(f"NAL unit type {record[start] & 0x1F} instead of {nal_type}")
        sets.append(record[start:position])
    return tuple(sets), position


def build_config(sps: Iterable[bytes], pps: Iterable[bytes]) -> bytes:
    """Write a record from parameter sets that came in-band or as Annex B."""
    sps, pps = tuple(sps), tuple(pps)
    if not sps or len(sps[0]) < 4 or len(sps) > MAX_PARAMETER_SETS or len(pps) > MAX_PARAMETER_SETS:
        raise bad_config("parameter sets do not make a record")
    facts = parse_sps(sps[0])
    parts = [bytes((1, *sps[0][1:4], 0xFF, 0xE0 | len(sps)))]
    parts += [len(nal).to_bytes(2, "big") + nal for nal in sps]
    parts.append(bytes((len(pps),)))
    parts += [len(nal).to_bytes(2, "big") + nal for nal in pps]
    if sps[0][1] in {100, 110, 122, 144, 244}:
        depth = facts.bit_depth - 8
        parts.append(bytes((0xFC | facts.chroma_format, 0xF8 | depth, 0xF8 | depth, 0)))
    return b"".join(parts)


def config_from_nals(units: Iterable[bytes]) -> bytes | None:
    """Build a record from the parameter sets among *units*, None unless there are both SPS and PPS."""
    sps, pps = [], []
    for unit in units:
        kind = unit[0] & 0x1F
        if kind == SPS and unit not in sps:
            sps.append(unit)
        elif kind == PPS and unit not in pps:
            pps.append(unit)
    return build_config(sps, pps) if sps and pps else None


def check(record: bytes) -> None:
    """Raise `MediaError` unless *record* configures a decoder with a picture size one can believe."""
    for sps in parse_config(record).sps:
        parse_sps(sps)


def facts(record: bytes) -> VideoFacts:
    """Return what the record's first SPS says."""
    return parse_sps(parse_config(record).sps[0])


def parse_sps(sps: bytes) -> VideoFacts:
    """Read a sequence parameter set NAL unit (H.264 7.3.2.1.1)."""
    reader = BitReader(unescape(sps)[1:])
    profile, _, level = reader.bits(8), reader.bits(8), reader.bits(8)
    reader.ue(31)
    chroma, depth = _chroma(reader) if profile in _HIGH_PROFILES else (1, 8)
    _frame_numbers(reader)
    width, height = _dimensions(reader, chroma)
    fps, colour = _vui(reader)
    primaries, transfer, matrix, full_range = colour
    return VideoFacts(
        width=width,
        height=height,
        profile=profile,
        level=level,
        fps=fps,
        bit_depth=depth,
        chroma_format=chroma,
        primaries=primaries,
        transfer=transfer,
        matrix=matrix,
        full_range=full_range,
    )


def _chroma(reader: BitReader) -> tuple[int, int]:
    chroma = reader.ue(3)
    if chroma == 3:
        reader.skip(1)  # separate_colour_plane_flag
    depth = 8 + reader.ue(6)
    reader.ue(6)
    reader.skip(1)  # qpprime_y_zero_transform_bypass_flag
    if reader.flag():
        for index in range(12 if chroma == 3 else 8):
            if reader.flag():
                _scaling_list(reader, 16 if index < 6 else 64)
    return chroma, depth


def _scaling_list(reader: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + reader.se()) & 0xFF
        last = following or last


def _frame_numbers(reader: BitReader) -> None:
    reader.ue(12)  # log2_max_frame_num_minus4
    order = reader.ue(2)
    if order == 0:
        reader.ue(12)
    elif order == 1:
        reader.skip(1)
        reader.se()
        reader.se()
        for _ in range(reader.ue(255)):
            reader.se()
    reader.ue(16)  # max_num_ref_frames
    reader.skip(1)


def _dimensions(reader: BitReader, chroma: int) -> tuple[int, int]:
    blocks_wide = reader.ue(MAX_DIMENSION // 16 - 1) + 1
    map_units = reader.ue(MAX_DIMENSION // 16 - 1) + 1
    frames_only = reader.flag()
    if not frames_only:
        reader.skip(1)  # mb_adaptive_frame_field_flag
    reader.skip(1)  # direct_8x8_inference_flag
    width, height = blocks_wide * 16, map_units * 16 * (1 if frames_only else 2)
    if reader.flag():
        left, right, top, bottom = (reader.ue(MAX_DIMENSION) for _ in range(4))
        width -= (left + right) * (2 if chroma in (1, 2) else 1)
        height -= (top + bottom) * (2 if chroma == 1 else 1) * (1 if frames_only else 2)
    if width <= 0 or not 0 < height <= MAX_DIMENSION:
        raise bad_config(f"picture of {width} x {height}")
    return width, height


def _vui(reader: BitReader) -> tuple[Fraction | None, tuple[int, int, int, bool]]:
    """Read what we need of the VUI (H.264 E.1.1). A broken VUI harms nobody: decoders ignore it too."""
    colour = (2, 2, 2, False)
    try:
        if not reader.flag():
            return None, colour
        if reader.flag() and reader.bits(8) == 255:
            reader.skip(32)
        if reader.flag():
            reader.skip(1)
        if reader.flag():
            reader.skip(3)
            full_range = reader.flag()
            colour = (2, 2, 2, full_range)
            if reader.flag():
                colour = (reader.bits(8), reader.bits(8), reader.bits(8), full_range)
        if reader.flag():
            reader.ue()
            reader.ue()
        if reader.flag():
            ticks, scale = reader.bits(32), reader.bits(32)
            if ticks and scale:
                return Fraction(scale, 2 * ticks), colour
    except MediaError:
        pass
    return None, colour


def codec_string(record: bytes) -> str:
    """RFC 6381 string, for example ``avc1.64001F``."""
    if len(record) < 4:
        raise bad_config("not an AVC configuration record")
    return f"avc1.{record[1]:02X}{record[2]:02X}{record[3]:02X}"


def is_keyframe(payload: bytes, length_size: int = 4) -> bool:
    """Whether an access unit holds an IDR slice."""
    return any(unit[0] & 0x1F == IDR for unit in nals.split(payload, length_size))
