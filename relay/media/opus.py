"""Opus: the identification header (RFC 7845 5.1) and packet durations (RFC 6716 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

from relay.media.errors import MediaError, bad_config
from relay.media.facts import AudioFacts

MAX_PACKET_SAMPLES = 5760
"""120 ms at 48 kHz, the longest packet (RFC 6716 3.2.5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpusConfig:
    """The fields of OpusHead. Opus always decodes at 48 kHz; *input_rate* is what the encoder was given."""

    channels: int
    pre_skip: int
    input_rate: int
    gain: int
    mapping_family: int
    mapping: bytes
    """Stream count, coupled count and channel mapping; empty for family 0."""


def parse_config(record: bytes) -> OpusConfig:
    """Read OpusHead."""
    if len(record) < 19 or not record.startswith(b"OpusHead") or record[8] & 0xF0:
        raise bad_config("not an OpusHead")
    channels, family = record[9], record[18]
    if not channels:
        raise bad_config("Opus with 0 channels")
    mapping = b""
    if family:
        mapping = record[19 : 21 + channels]
        if len(mapping) < 2 + channels or not mapping[0] or mapping[1] > mapping[0]:
            raise bad_config("Opus channel mapping is short or wrong")
    elif channels > 2:
        raise bad_config(f"Opus mapping family 0 with {channels} channels")
    return OpusConfig(
        channels=channels,
        pre_skip=int.from_bytes(record[10:12], "little"),
        input_rate=int.from_bytes(record[12:16], "little"),
        gain=int.from_bytes(record[16:18], "little", signed=True),
        mapping_family=family,
        mapping=mapping,
    )


def check(record: bytes) -> None:
    """Raise `MediaError` unless *record* is an OpusHead."""
    parse_config(record)


def facts(record: bytes) -> AudioFacts:
    """Return the facts of an OpusHead."""
    return AudioFacts(sample_rate=48_000, channels=parse_config(record).channels)


def dops(record: bytes) -> bytes:
    """Return the payload of the dOps box: OpusHead with version 0 and big-endian numbers (Opus-ISOBMFF 4.3.2)."""
    config = parse_config(record)
    return (
        bytes((0, config.channels))
        + config.pre_skip.to_bytes(2, "big")
        + config.input_rate.to_bytes(4, "big")
        + config.gain.to_bytes(2, "big", signed=True)
        + bytes((config.mapping_family,))
        + config.mapping
    )


def packet_samples(packet: bytes) -> int:
    """Return how many 48 kHz samples a packet decodes to."""
    if not packet:
        raise MediaError("media.bad_frame", "empty Opus packet")
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        frame = (480, 960)[config & 1]
    else:
        frame = (120, 240, 480, 960)[config & 3]
    if code == 3 and len(packet) < 2:
        raise MediaError("media.bad_frame", "Opus packet without a frame count")
    count = packet[1] & 0x3F if code == 3 else (1, 2, 2)[code]
    if not 0 < frame * count <= MAX_PACKET_SAMPLES:
        raise MediaError("media.bad_frame", "Opus packet longer than 120 ms")
    return frame * count
