"""What a peer may make us hold or do, with the reason for each number.

Two are enough for a connection: `BEFORE_AUTH` until publish is granted, so for players always, and `AFTER_AUTH`.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.amf0 import AMF_LIMITS, AmfLimits

__all__ = [
    "AFTER_AUTH",
    "AMF_LIMITS",
    "BEFORE_AUTH",
    "KIB",
    "MAX_CHUNK_SIZE",
    "MIB",
    "STRANGERS_CHUNKS",
    "AmfLimits",
    "WireLimits",
]

KIB = 1024
MIB = 1024 * KIB

MAX_CHUNK_SIZE = 16_777_215
"""A message is at most 24 bits long, so a larger chunk size changes nothing (RTMP 5.4.1); values are clamped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireLimits:
    """Bounds of one direction of one connection. Sizes in bytes."""

    video: int
    """Largest video message. 8 MiB holds a 4K intra frame; nginx-rtmp stops at 1 MiB."""
    audio: int
    """Largest audio message: 1 MiB is far above any coded audio frame."""
    command: int
    """Largest data or command message."""
    control: int = 64
    """Protocol control messages carry 4 to 14 bytes; 64 leaves room for oddities."""
    chunk_streams: int
    """Chunk streams that hold state. Encoders use 2 to 5 of them; nginx-rtmp allows 32."""
    partial: int
    """Sum of all unfinished messages: 65,597 chunk streams of 16 MiB each would be 1 TiB from 1 MB of headers."""
    chunks_per_second: int = 100_000
    """Chunk headers a peer may make us parse per second; above it the chunks are too small to be honest."""
    partial_age_s: float = 30.0
    """An unfinished message older than this is an attack, not an encoder."""
    unknown_per_second: int = 100
    """Messages of unknown type per second before we hang up."""


STRANGERS_CHUNKS = 20_000
"""`chunks_per_second` before authorisation: 20 Mbit/s at 128 bytes a chunk, for encoders that do not wait for the
answer; as tiny chunks they are 50 ms of our time."""

BEFORE_AUTH = WireLimits(
    video=64 * KIB,
    audio=64 * KIB,
    command=64 * KIB,
    chunk_streams=8,
    partial=64 * KIB,
    chunks_per_second=STRANGERS_CHUNKS,
)
AFTER_AUTH = WireLimits(video=8 * MIB, audio=1 * MIB, command=256 * KIB, chunk_streams=32, partial=12 * MIB)
