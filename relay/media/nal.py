"""NAL units of H.264 and H.265 in their two wrappings: length-prefixed (RTMP, MP4) and start codes (Annex B, TS)."""

from __future__ import annotations

from collections.abc import Iterable

from relay.media.errors import MediaError

START_CODE = b"\x00\x00\x00\x01"

MAX_NALS = 4096
"""NAL units of one access unit. 4K pictures use some hundred slices; millions of empty ones are an attack."""


def split(payload: bytes, length_size: int = 4) -> list[bytes]:
    """Return the NAL units of a length-prefixed access unit. Empty ones are skipped: DJI cameras send them."""
    nals: list[bytes] = []
    position = 0
    end = len(payload)
    for _ in range(MAX_NALS):
        if position >= end:
            return nals
        start = position + length_size
        position = start + int.from_bytes(payload[position:start], "big")
        if start > end or position > end:
            raise MediaError("media.bad_nal", "NAL unit length runs past the access unit")
        if position > start:
            nals.append(payload[start:position])
    raise MediaError("media.bad_nal", f"more than {MAX_NALS} NAL units in one access unit")


def join(nals: Iterable[bytes], length_size: int = 4) -> bytes:
    """Write *nals* length-prefixed."""
    parts = []
    for nal in nals:
        parts.append(len(nal).to_bytes(length_size, "big"))
        parts.append(nal)
    return b"".join(parts)


def is_annexb(payload: bytes, offset: int = 0) -> bool:
    """Whether start codes stand where a NAL unit length belongs. Some encoders put Annex B into FLV tags.

    00000001 is also the length of a one-byte NAL unit (end of sequence), so the whole access unit decides.
    """
    if not payload.startswith(START_CODE, offset) and not payload.startswith(START_CODE[1:], offset):
        return False
    try:
        split(payload[offset:])
    except MediaError:
        return True
    return False


def split_annexb(data: bytes) -> list[bytes]:
    """Return the NAL units between start codes, without trailing zero bytes (H.264 B.1)."""
    nals = []
    seen = 0  # empty ones included, of which 8 MiB hold millions
    start = data.find(b"\x00\x00\x01")
    while start >= 0:
        seen += 1
        if seen > MAX_NALS:
            raise MediaError("media.bad_nal", f"more than {MAX_NALS} NAL units in one access unit")
        following = data.find(b"\x00\x00\x01", start + 3)
        nal = data[start + 3 : following if following >= 0 else len(data)].rstrip(b"\x00")
        if nal:
            nals.append(nal)
        start = following
    return nals


def join_annexb(nals: Iterable[bytes]) -> bytes:
    """Write *nals* with four-byte start codes."""
    return b"".join(START_CODE + nal for nal in nals)
