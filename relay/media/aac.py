"""AAC: AudioSpecificConfig (ISO/IEC 14496-3 1.6.2.1), ADTS (1.A.2) both ways."""

from __future__ import annotations

from dataclasses import dataclass

from relay.media.bits import BitReader, BitWriter
from relay.media.errors import MediaError, bad_config
from relay.media.facts import AudioFacts

SAMPLE_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_CHANNELS = (0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 0, 8)
"""Channels by channelConfiguration; 0 in the table means reserved (index 0: a program config element says)."""

LC, SBR, PS, XHE = 2, 5, 29, 42
_GENERAL_AUDIO = frozenset({1, 2, 3, 4, 6, 7, 17, 19, 20, 21, 22, 23})

MAX_ADTS_FRAME = 8191
"""The length field of ADTS has 13 bits and counts the header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AacConfig:
    """An AudioSpecificConfig. *sample_rate* is the core's, *output_rate* that after spectral band replication."""

    object_type: int
    sample_rate: int
    channels: int
    channel_config: int
    output_rate: int
    sbr: bool
    ps: bool
    samples_per_frame: int


def parse_config(record: bytes) -> AacConfig:
    """Read an AudioSpecificConfig; reject reserved rates and channels, which crash other people's decoders."""
    reader = BitReader(record)
    object_type = _object_type(reader)
    rate = _sample_rate(reader)
    channel_config = reader.bits(4)
    sbr = object_type in (SBR, PS)
    ps = object_type == PS
    output_rate = rate
    if sbr:
        output_rate = _sample_rate(reader)
        object_type = _object_type(reader)
    if object_type == 0:
        raise bad_config("AAC object type 0")
    channels = _CHANNELS[channel_config] if channel_config < len(_CHANNELS) else 0
    samples = 1024
    if object_type in _GENERAL_AUDIO:
        samples = 960 if reader.flag() else 1024
        if reader.flag():
            reader.skip(14)
        reader.skip(1)
        if channel_config == 0:
            channels = _program_config(reader)
    if not channels and object_type != XHE:
        raise bad_config(f"AAC channel configuration {channel_config}")
    if not sbr and _has_sync_extension(reader):
        sbr, output_rate = True, _sample_rate(reader)
    return AacConfig(
        object_type=object_type,
        sample_rate=rate,
        channels=channels,
        channel_config=channel_config,
        output_rate=output_rate,
        sbr=sbr,
        ps=ps,
        samples_per_frame=samples,
    )


def _object_type(reader: BitReader) -> int:
    value = reader.bits(5)
    return 32 + reader.bits(6) if value == 31 else value


def _sample_rate(reader: BitReader) -> int:
    index = reader.bits(4)
    rate = reader.bits(24) if index == 15 else SAMPLE_RATES[index] if index < len(SAMPLE_RATES) else 0
    if not 1000 <= rate <= 192_000:
        raise bad_config(f"AAC sampling frequency index {index}, rate {rate}")
    return rate


def _program_config(reader: BitReader) -> int:
    """Count the channels of a program_config_element (ISO/IEC 14496-3 4.4.1.1)."""
    reader.skip(10)
    front, side, back, lfe = reader.bits(4), reader.bits(4), reader.bits(4), reader.bits(2)
    associated, coupled = reader.bits(3), reader.bits(4)
    for bits in (4, 4, 3):  # mono, stereo and matrix mixdown
        if reader.flag():
            reader.skip(bits)
    channels = lfe
    for _ in range(front + side + back):
        channels += 1 + reader.flag()
        reader.skip(4)
    reader.skip(4 * lfe + 4 * associated + 5 * coupled)
    return channels


def _has_sync_extension(reader: BitReader) -> bool:
    """Whether the backward compatible extension 0x2B7 announces SBR. FFmpeg appends one that says "no SBR"."""
    if reader.remaining < 17 or reader.bits(11) != 0x2B7 or _object_type(reader) != SBR or not reader.flag():
        return False
    return reader.remaining >= 4


def check(record: bytes) -> None:
    """Raise `MediaError` unless *record* is a usable AudioSpecificConfig."""
    parse_config(record)


def facts(record: bytes) -> AudioFacts:
    """Return the facts of an AudioSpecificConfig."""
    config = parse_config(record)
    channels = 2 if config.ps else config.channels
    samples = config.samples_per_frame * (2 if config.output_rate == 2 * config.sample_rate else 1)
    return AudioFacts(sample_rate=config.output_rate, channels=channels, samples_per_frame=samples)


def codec_string(record: bytes) -> str:
    """RFC 6381 string: ``mp4a.40.2`` LC, ``mp4a.40.5`` HE, ``mp4a.40.29`` HE v2 when signalled explicitly."""
    first = _object_type(BitReader(record))
    return f"mp4a.40.{first}"


def build_config(object_type: int, rate_index: int, channel_config: int) -> bytes:
    """Write the two-byte AudioSpecificConfig of plain AAC."""
    return BitWriter().bits(object_type, 5).bits(rate_index, 4).bits(channel_config, 4).to_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class AdtsFrame:
    """One ADTS frame: its AudioSpecificConfig and the raw AAC inside."""

    config: bytes
    raw: bytes


def looks_like_adts(payload: bytes, offset: int = 0) -> bool:
    """Whether an ADTS sync word stands at *offset*. Raw AAC cannot start so: its first element would be END."""
    return len(payload) >= offset + 7 and payload[offset] == 0xFF and payload[offset + 1] & 0xF6 == 0xF0


def split_adts(payload: bytes, most: int = 16) -> list[AdtsFrame]:
    """Return the frames of an ADTS payload, at most *most*: one FLV tag holds one or a few."""
    frames: list[AdtsFrame] = []
    position = 0
    while position < len(payload) and len(frames) < most:
        if not looks_like_adts(payload, position):
            raise MediaError("media.adts", "ADTS sync word missing")
        header = int.from_bytes(payload[position : position + 7], "big")
        length = (header >> 13) & 0x1FFF
        start = 7 if header >> 40 & 1 else 9
        if length <= start or position + length > len(payload):
            raise MediaError("media.adts", "ADTS frame runs past the payload")
        config = build_config((header >> 38 & 3) + 1, header >> 34 & 15, header >> 30 & 7)
        frames.append(AdtsFrame(config=config, raw=payload[position + start : position + length]))
        position += length
    return frames


def adts_header(record: bytes, raw_length: int) -> bytes:
    """Write the 7-byte ADTS header of one raw frame. Object types above 4 are signalled as LC with the core rate."""
    config = parse_config(record)
    length = raw_length + 7
    if length > MAX_ADTS_FRAME or config.sample_rate not in SAMPLE_RATES or config.channel_config > 7:
        raise MediaError("media.adts", "frame does not fit ADTS")
    profile = config.object_type - 1 if 1 <= config.object_type <= 4 else LC - 1
    return (
        BitWriter()
        .bits(0xFFF1, 16)
        .bits(profile, 2)
        .bits(SAMPLE_RATES.index(config.sample_rate), 4)
        .bits(0, 1)
        .bits(config.channel_config, 3)
        .bits(0, 4)
        .bits(length, 13)
        .bits(0x7FF, 11)
        .bits(0, 2)
        .to_bytes()
    )
