"""What a decoder configuration says about a track, for playlists, boxes, the API and the log. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

MAX_DIMENSION = 16_384
"""Largest width or height we believe. Level 6.2 of every codec ends near 8192 x 4352; 65,535 x 65,535 is an attack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFacts:
    """One video track. Colour code points are those of ISO/IEC 23091-4; 2 means unspecified."""

    width: int
    height: int
    profile: int
    level: int
    fps: Fraction | None = None
    """Frame rate the bitstream announces, if it does. Encoders get this wrong; measure before relying on it."""
    bit_depth: int = 8
    chroma_format: int = 1
    """0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4."""
    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    full_range: bool = False

    @property
    def video_range(self) -> str:
        """VIDEO-RANGE of HLS: SDR, PQ or HLG (RFC 8216bis 4.4.6.2)."""
        return {16: "PQ", 18: "HLG"}.get(self.transfer, "SDR")


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFacts:
    """One audio track. *channels* is 0 when only the bitstream knows."""

    sample_rate: int
    channels: int
    samples_per_frame: int = 0
    """Samples per coded frame, 0 when it varies."""
    bits_per_sample: int = 0
