"""Transport stream packets: PAT, PMT, PES headers, PCR, continuity counters (ISO/IEC 13818-1 2.4). Bytes only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from struct import Struct

PACKET = 188
_ROOM = 184
_ROW = 128
"""Payloads taken apart at once: each number up to it costs a kilobyte of memory for good."""
PAT_PID, PMT_PID, FIRST_PID = 0x0000, 0x1000, 0x0100
MASK_33 = (1 << 33) - 1
"""Timestamps have 33 bits and wrap every 26.5 hours."""


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
        table.append(value)
    return table


_CRC = _crc_table()


def crc32(data: bytes) -> int:
    """Return the CRC of a section (Annex A): not reflected, begun with ones, not inverted."""
    value = 0xFFFFFFFF
    for byte in data:
        value = (value << 8 & 0xFFFFFFFF) ^ _CRC[value >> 24 ^ byte]
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One line of the PMT."""

    stream_type: int
    pid: int
    descriptors: bytes = b""


def section(table_id: int, ident: int, content: bytes) -> bytes:
    """Write a section with its CRC."""
    length = len(content) + 9
    head = bytes((table_id, 0xB0 | length >> 8, length & 0xFF)) + ident.to_bytes(2, "big") + b"\xc1\x00\x00"
    return head + content + crc32(head + content).to_bytes(4, "big")


def pat() -> bytes:
    """Write the PAT section: program 1 is in the PMT's PID."""
    return section(0x00, 1, b"\x00\x01" + (0xE000 | PMT_PID).to_bytes(2, "big"))


def pmt(pcr_pid: int, streams: Sequence[Stream]) -> bytes:
    """Write the PMT section."""
    lines = b"".join(
        bytes((one.stream_type,))
        + (0xE000 | one.pid).to_bytes(2, "big")
        + (0xF000 | len(one.descriptors)).to_bytes(2, "big")
        + one.descriptors
        for one in streams
    )
    return section(0x02, 1, (0xE000 | pcr_pid).to_bytes(2, "big") + b"\xf0\x00" + lines)


def timestamp(prefix: int, value: int) -> bytes:
    """Write a PTS or DTS in its five bytes with markers (2.4.3.7)."""
    value &= MASK_33
    packed = prefix << 36 | (value >> 30) << 33 | 1 << 32 | (value >> 15 & 0x7FFF) << 17 | 1 << 16
    return (packed | (value & 0x7FFF) << 1 | 1).to_bytes(5, "big")


def pes_header(stream_id: int, size: int, pts: int, dts: int) -> bytes:
    """Write the head of a PES packet of *size* payload bytes; the DTS only where it differs from the PTS.

    Video may leave the length 0, and must when it is too long for it (2.4.3.7).
    """
    times = timestamp(2, pts) if pts == dts else timestamp(3, pts) + timestamp(1, dts)
    length = size + 3 + len(times)
    if length > 0xFFFF:
        length = 0
    flags = 0x80 if pts == dts else 0xC0
    return b"\x00\x00\x01" + bytes((stream_id, length >> 8, length & 0xFF, 0x84, flags, len(times))) + times


def adaptation(*, pcr: int | None = None, random_access: bool = False) -> bytes:
    """Write an adaptation field without its length byte and stuffing; *pcr* is in ticks of 90 kHz."""
    flags = random_access << 6
    if pcr is None:
        return bytes((flags,)) if flags else b""
    base = pcr & MASK_33
    return bytes((flags | 0x10,)) + (base << 15 | 0x7E00).to_bytes(6, "big")


@cache
def _row(count: int) -> Struct:
    """Return what takes so many payloads apart, a quarter of the time that slices take."""
    return Struct(f"{_ROOM}s" * count)


def _payloads(pes: bytes, start: int, count: int) -> list[bytes]:
    """Return nothing and then *count* whole payloads from *start* on, so that a join puts a head before each."""
    found = [b""]
    while count > _ROW:
        found += _row(_ROW).unpack_from(pes, start)
        start, count = start + _ROW * _ROOM, count - _ROW
    found += _row(count).unpack_from(pes, start)
    return found


Pieces = list[bytes | bytearray]
_COUNTERS = bytes(range(0x10, 0x20))
"""The fourth byte of packets that have a payload and nothing else."""


class Pid:
    """One packet identifier with its continuity counter, which goes on across segments."""

    __slots__ = ("_counter", "_head", "_number")

    def __init__(self, number: int) -> None:
        self._number = number
        self._counter = 0
        self._head = bytearray(b"\x47" + number.to_bytes(2, "big") + b"\x10")

    def table(self, content: bytes) -> bytes:
        """Return the packet of a section, which must fit one."""
        head = bytes((0x47, 0x40 | self._number >> 8, self._number & 0xFF, 0x10 | self._next(), 0))
        return (head + content).ljust(PACKET, b"\xff")

    def clock(self, pcr: int) -> bytes:
        """Return a packet with nothing but a PCR. Without payload the counter stands still (2.4.3.3)."""
        field = adaptation(pcr=pcr).ljust(_ROOM - 1, b"\xff")
        head = bytes((0x47, self._number >> 8, self._number & 0xFF, 0x20 | self._counter - 1 & 0x0F, len(field)))
        return head + field

    def packets(self, pes: bytes, field: bytes, out: Pieces) -> None:
        """Append the packets of one PES packet to *out*; *field* is the adaptation field of the first."""
        size = len(pes)
        room = _ROOM - (len(field) + 1 if field else 0)
        if size < room:
            out.append(self._stuffed(0x40, pes, field))
            return
        head = bytes((0x47, 0x40 | self._number >> 8, self._number & 0xFF, (0x30 if field else 0x10) | self._next()))
        out.append(head + (bytes((len(field),)) + field if field else b"") + pes[:room])
        whole = (size - room) // _ROOM
        stop = room + whole * _ROOM
        if whole:
            counter = self._counter
            middle = self._head.join(_payloads(pes, room, whole))
            middle[3::PACKET] = (_COUNTERS * (whole // 16 + 2))[counter : counter + whole]
            out.append(middle)
            self._counter = counter + whole & 0x0F
        if stop < size:
            out.append(self._stuffed(0, pes[stop:], b""))

    def _stuffed(self, start: int, payload: bytes, field: bytes) -> bytes:
        """Return a packet whose payload is short: the adaptation field grows (2.4.3.5)."""
        length = _ROOM - 1 - len(payload)
        field = (field or b"\0").ljust(length, b"\xff") if length else b""
        head = (0x47, start | self._number >> 8, self._number & 0xFF, 0x30 | self._next(), length)
        return bytes(head) + field + payload

    def _next(self) -> int:
        counter = self._counter
        self._counter = counter + 1 & 0x0F
        return counter
