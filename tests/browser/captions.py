"""CEA-608 and CEA-708 captions for H.264: adds them to an FLV file as captioning encoders do (A/53 part 4, in SEI)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

from relay.media.flvfile import FlvReader, file_header, tag

VIDEO, CODED_AVC = 9, 1
VALID, PADDING = 0xFC, 0xF8
FIELD_1, PACKET_DATA, PACKET_START = 0, 2, 3
DEFINE_WINDOW_0 = bytes((0x98, 0x38, 0x4A, 0x00, 0x0F, 0x1F, 0x11))
LOAD, ROW_15, SHOW, ERASE = b"\x14\x20", b"\x14\x70", b"\x14\x2f", b"\x14\x2c"
"""CEA-608, channel 1: resume caption loading, the lowest row, end of caption, erase displayed memory."""


def with_captions(flv: bytes, text: str, every: int = 60, *, cea608: bool = True) -> bytes:
    """Show *text* for most of every *every* pictures, again and again: in both kinds, or without CEA-608."""
    pairs, services = _pairs(text if cea608 else "", every), _services(text, every)
    data = map(bytes.__add__, pairs if cea608 else repeat(b""), services)
    tags = FlvReader().receive(flv)
    return file_header() + b"".join(tag(t.type_id, t.timestamp, _captioned(t.type_id, t.body, data)) for t in tags)


def _captioned(type_id: int, body: bytes, data: Iterator[bytes]) -> bytes:
    if type_id != VIDEO or body[1] != CODED_AVC:
        return body
    unit = _sei(next(data))
    return body[:5] + len(unit).to_bytes(4, "big") + unit + body[5:]


def _pairs(text: str, every: int) -> Iterator[bytes]:
    """Yield two bytes a picture: control codes twice, as the standard wants, the text, then it is shown."""
    letters = text.encode("ascii") + b"\0" * (len(text) % 2)
    told = [
        LOAD,
        LOAD,
        ROW_15,
        ROW_15,
        *(letters[i : i + 2] for i in range(0, len(letters), 2)),
        ERASE,
        ERASE,
        SHOW,
        SHOW,
    ]
    while True:
        for pair in [*told, *([b"\0\0"] * (every - len(told)))]:
            yield bytes((VALID | FIELD_1, *map(_odd, pair)))


def _services(text: str, every: int) -> Iterator[bytes]:
    """Yield a channel packet of service 1 now and then: a window is defined, then the text (CEA-708)."""
    block = DEFINE_WINDOW_0 + text.encode("ascii")[:16] + b"\x03"
    packet = bytes((0, 1 << 5 | len(block))) + block
    packet += b"\0" * (len(packet) % 2)
    packet = bytes((len(packet) // 2,)) + packet[1:]
    triplets = b"".join(
        bytes((VALID | (PACKET_START if at == 0 else PACKET_DATA),)) + packet[at : at + 2]
        for at in range(0, len(packet), 2)
    )
    while True:
        yield triplets
        yield from [bytes((PADDING | PACKET_DATA, 0, 0))] * (every - 1)


def _sei(triplets: bytes) -> bytes:
    """Return an SEI unit with user data that is registered by ITU-T T.35: captions."""
    data = b"\xb5\x00\x31GA94\x03" + bytes((0x40 | len(triplets) // 3, 0xFF)) + triplets + b"\xff"
    return b"\x06\x04" + bytes((len(data),)) + data + b"\x80"


def _odd(value: int) -> int:
    return value if value.bit_count() % 2 else value | 0x80
