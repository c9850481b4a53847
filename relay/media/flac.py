"""FLAC: the STREAMINFO block (RFC 9639 8.2) in the two forms found in Enhanced RTMP."""

from __future__ import annotations

from dataclasses import dataclass

from relay.media.errors import MediaError, bad_config
from relay.media.facts import AudioFacts

STREAMINFO_SIZE = 34


@dataclass(frozen=True, slots=True, kw_only=True)
class FlacConfig:
    """What STREAMINFO says."""

    min_block: int
    max_block: int
    sample_rate: int
    channels: int
    bits_per_sample: int


def streaminfo_offset(record: bytes) -> int:
    """Find STREAMINFO: 0 for the bare block of FFmpeg, 8 behind ``fLaC`` and a block header (the spec)."""
    return 8 if record.startswith(b"fLaC") else 0


def parse_config(record: bytes) -> FlacConfig:
    """Read STREAMINFO, bare or behind ``fLaC``."""
    start = streaminfo_offset(record)
    body = record[start : start + STREAMINFO_SIZE]
    if len(body) < STREAMINFO_SIZE or (start and record[4] & 0x7F):
        raise bad_config("not a STREAMINFO block")
    packed = int.from_bytes(body[10:14], "big")
    config = FlacConfig(
        min_block=int.from_bytes(body[0:2], "big"),
        max_block=int.from_bytes(body[2:4], "big"),
        sample_rate=packed >> 12,
        channels=(packed >> 9 & 7) + 1,
        bits_per_sample=(packed >> 4 & 31) + 1,
    )
    if not config.sample_rate or config.max_block < 16:
        raise bad_config(f"FLAC rate {config.sample_rate}, blocks of {config.max_block}")
    return config


def same_decoder(one: bytes, other: bytes) -> bool:
    """Whether two records configure the same decoder. FFmpeg repeats STREAMINFO at the end with sizes and MD5 in it."""
    try:
        return parse_config(one) == parse_config(other)
    except MediaError:
        return False


def check(record: bytes) -> None:
    """Raise `MediaError` unless *record* is a STREAMINFO block."""
    parse_config(record)


def facts(record: bytes) -> AudioFacts:
    """Return the facts of STREAMINFO."""
    config = parse_config(record)
    samples = config.max_block if config.min_block == config.max_block else 0
    return AudioFacts(
        sample_rate=config.sample_rate,
        channels=config.channels,
        samples_per_frame=samples,
        bits_per_sample=config.bits_per_sample,
    )
