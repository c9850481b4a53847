"""Bits out of bytes, with bounds: exp-golomb (H.264 9.1), emulation prevention (H.264 7.4.1), LEB128 (AV1 4.10.5).

Every read past the end or out of range raises `MediaError`, so a parser built on this cannot loop on hostile input.
"""

from __future__ import annotations

from relay.media.errors import MediaError, bad_config

MAX_PREFIX = 31
"""Leading zeros of an exp-golomb code. 32 bits hold every legal syntax element; more is hostile."""


class BitReader:
    """Reads big-endian bits of *data* from the front."""

    __slots__ = ("_data", "_end", "position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._end = len(data) * 8
        self.position = 0

    @property
    def remaining(self) -> int:
        """Bits left."""
        return self._end - self.position

    def bits(self, count: int) -> int:
        """Read *count* bits as an unsigned number."""
        start = self.position
        stop = start + count
        if stop > self._end:
            raise bad_config("bitstream ends early")
        self.position = stop
        last = (stop + 7) >> 3
        value = int.from_bytes(self._data[start >> 3 : last], "big") >> (last * 8 - stop)
        return value & ((1 << count) - 1)

    def flag(self) -> bool:
        """Read one bit."""
        position = self.position
        if position >= self._end:
            raise bad_config("bitstream ends early")
        self.position = position + 1
        return bool(self._data[position >> 3] >> (7 - (position & 7)) & 1)

    def skip(self, count: int) -> None:
        """Pass over *count* bits."""
        if count > self.remaining:
            raise bad_config("bitstream ends early")
        self.position += count

    def ue(self, most: int = 0xFFFF_FFFE) -> int:
        """Read an unsigned exp-golomb code of at most *most* (H.264 9.1)."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > MAX_PREFIX:
                raise bad_config("exp-golomb code too long")
        value = (1 << zeros) - 1 + (self.bits(zeros) if zeros else 0)
        if value > most:
            raise bad_config(f"value {value} above {most}")
        return value

    def se(self) -> int:
        """Read a signed exp-golomb code (H.264 9.1.1)."""
        code = self.ue()
        return (code + 1) >> 1 if code & 1 else -(code >> 1)


class BitWriter:
    """Collects big-endian bits; used to build configuration records."""

    __slots__ = ("_count", "_value")

    def __init__(self) -> None:
        self._value = 0
        self._count = 0

    def bits(self, value: int, count: int) -> BitWriter:
        """Append *count* low bits of *value*; returns itself, so that a record reads as one expression."""
        self._value = (self._value << count) | (value & ((1 << count) - 1))
        self._count += count
        return self

    def ue(self, value: int) -> BitWriter:
        """Append an unsigned exp-golomb code (H.264 9.1)."""
        return self.bits(value + 1, 2 * (value + 1).bit_length() - 1)

    def se(self, value: int) -> BitWriter:
        """Append a signed exp-golomb code (H.264 9.1.1)."""
        return self.ue(2 * value - 1 if value > 0 else -2 * value)

    @property
    def count(self) -> int:
        """Bits so far."""
        return self._count

    def to_bytes(self) -> bytes:
        """Return everything, padded with zero bits to a whole byte."""
        padding = -self._count % 8
        return (self._value << padding).to_bytes((self._count + padding) // 8, "big")


def unescape(nal: bytes) -> bytes:
    """Remove emulation prevention bytes: 00 00 03 -> 00 00 (H.264 7.4.1.1, H.265 7.4.2)."""
    if b"\x00\x00\x03" not in nal:
        return nal
    parts = []
    start = 0
    while (found := nal.find(b"\x00\x00\x03", start)) >= 0:
        parts.append(nal[start : found + 2])
        start = found + 3
    parts.append(nal[start:])
    return b"".join(parts)


def escape(raw: bytes) -> bytes:
    """Put emulation prevention bytes where they are needed (H.264 7.4.1, H.265 7.4.2)."""
    out = bytearray()
    start = 0
    at = raw.find(b"\x00\x00")
    while at >= 0:
        if at + 2 < len(raw) and raw[at + 2] <= 3:
            out += raw[start : at + 2] + b"\x03"
            start = at + 2
            at = raw.find(b"\x00\x00", start)
        else:
            at = raw.find(b"\x00\x00", at + 1)
    out += raw[start:]
    if out.endswith(b"\x00\x00"):
        out += b"\x03"
    return bytes(out)


def leb128(data: bytes, offset: int) -> tuple[int, int]:
    """Read a LEB128 number; return it and the offset after it. At most 8 bytes and 32 bits (AV1 4.10.5)."""
    value = 0
    for index in range(8):
        if offset + index >= len(data):
            break
        byte = data[offset + index]
        value |= (byte & 0x7F) << (index * 7)
        if not byte & 0x80:
            if value > 0xFFFF_FFFF:
                break
            return value, offset + index + 1
    raise MediaError("media.bad_obu", "LEB128 number runs past its bounds")


def to_leb128(value: int) -> bytes:
    """Write *value* as LEB128 in as few bytes as possible."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)
