"""CEA-608 captions for H.264: adds them to an FLV file as a captioning encoder sends them (A/53 part 4, in SEI)."""

from __future__ import annotations

from collections.abc import Iterator

from relay.media.flvfile import FlvReader, file_header, tag

VIDEO, CODED_AVC = 9, 1
LOAD, ROW_15, SHOW, ERASE = b"\x14\x20", b"\x14\x70", b"\x14\x2f", b"\x14\x2c"
"""Channel 1: resume caption loading, the lowest row, end of caption, erase displayed memory."""


def with_captions(flv: bytes, text: str, every: int = 60) -> bytes:
    """Show *text* for most of every *every* pictures, again and again."""
    pairs = _pairs(text, every)
    tags = FlvReader().receive(flv)
    return file_header() + b"".join(tag(t.type_id, t.timestamp, _captioned(t.type_id, t.body, pairs)) for t in tags)


def _captioned(type_id: int, body: bytes, pairs: Iterator[bytes]) -> bytes:
    if type_id != VIDEO or body[1] != CODED_AVC:
        return body
    unit = _sei(next(pairs))
    return body[:5] + len(unit).to_bytes(4, "big") + unit + body[5:]


def _pairs(text: str, every: int) -> Iterator[bytes]:
    """Yield two bytes a picture: control codes twice, as the standard wants, then the text, then it is shown."""
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
        yield from told
        yield from [b"\0\0"] * (every - len(told))


def _sei(pair: bytes) -> bytes:
    """Return an SEI unit with user data that is registered by ITU-T T.35: captions, one pair of field 1."""
    data = b"\xb5\x00\x31GA94\x03" + bytes((0x40 | 1, 0xFF, 0xFC)) + bytes(map(_odd, pair)) + b"\xff"
    return b"\x06\x04" + bytes((len(data),)) + data + b"\x80"


def _odd(value: int) -> int:
    return value if value.bit_count() % 2 else value | 0x80
