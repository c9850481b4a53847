"""ISO base media boxes (ISO/IEC 14496-12 4.2) and the descriptors of MPEG-4 systems (14496-1 7.2). Bytes only."""

from __future__ import annotations

UNITY = b"".join(value.to_bytes(4, "big") for value in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))
"""The matrix that turns and scales nothing."""

SYNC, NOT_SYNC = 0x02000000, 0x01010000
"""Sample flags: depends on no other sample; depends on others and is no sync sample (8.8.3.1)."""


def u16(value: int) -> bytes:
    """Write two bytes."""
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    """Write four bytes."""
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    """Write eight bytes."""
    return value.to_bytes(8, "big")


def box(name: bytes, *parts: bytes) -> bytes:
    """Write a box around *parts*."""
    body = b"".join(parts)
    return (len(body) + 8).to_bytes(4, "big") + name + body


def full_box(name: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """Write a box with version and flags."""
    return box(name, u32(version << 24 | flags), *parts)


def descriptor(tag: int, *parts: bytes) -> bytes:
    """Write a descriptor; its length has seven bits a byte (14496-1 8.3.3)."""
    body = b"".join(parts)
    size = bytes((len(body) & 0x7F,))
    rest = len(body) >> 7
    while rest:
        size = bytes((rest & 0x7F | 0x80,)) + size
        rest >>= 7
    return bytes((tag,)) + size + body
