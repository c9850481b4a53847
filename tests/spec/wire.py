"""RTMP bytes built and read without any of relay's code, so that a mistake cannot hide on both sides.

Builders return bytes and check nothing: most callers want to say something wrong on purpose.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

AUDIO, VIDEO, DATA, COMMAND = 8, 9, 18, 20
SET_CHUNK_SIZE, ABORT, ACK, USER_CONTROL, WINDOW_ACK_SIZE, PEER_BANDWIDTH = 1, 2, 3, 4, 5, 6
AGGREGATE = 22
HANDSHAKE_SIZE = 1536

CORPUS = Path(__file__).parent.parent / "corpus"
FFMPEG_C1 = (CORPUS / "ffmpeg_c1_publish.bin").read_bytes()[-HANDSHAKE_SIZE:]
"""The C1 every FFmpeg sends; its digest is valid."""

KEY = "spec-publish-key-0000"
"""Stands for the publish key; runners replace it by a key of the same length for each case."""
STREAM = "spec-public-name-0000"
"""Stands for the public name of the stream that KEY feeds; replaced in the same way."""


# --- handshake -----------------------------------------------------------------------------------------------------


def c1(version: bytes = b"\0\0\0\0", filler: bytes = b"\xa5") -> bytes:
    """C1 of the plain form: time, version, filler instead of random."""
    return b"\0\0\0\0" + version + filler * (HANDSHAKE_SIZE - 8)


def c2() -> bytes:
    """C2 that echoes nothing; servers must not insist (RTMP 5.2.4, and every encoder in the field)."""
    return bytes(HANDSHAKE_SIZE)


def handshake(version: int = 3, first: bytes | None = None) -> bytes:
    """C0, C1 and C2 in one piece."""
    return bytes([version]) + (c1() if first is None else first) + c2()


# --- AMF0 ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raw:
    """Bytes to put where a value belongs."""

    data: bytes


class Ecma(dict[str, object]):
    """An ECMA array (marker 8)."""


def utf8(text: str | bytes) -> bytes:
    """A UTF-8 string with a 16-bit length and no marker."""
    data = text.encode() if isinstance(text, str) else text
    return struct.pack(">H", len(data)) + data


def amf_object(pairs: Mapping[str, object] | Sequence[tuple[str | bytes, object]], end: bytes = b"\0\0\x09") -> bytes:
    """The inside of an object; a sequence of pairs allows duplicate keys, *end* may be wrong."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return b"".join(utf8(key) + amf(value) for key, value in items) + end


def amf(*values: object) -> bytes:
    """Encode AMF0 values."""
    out = bytearray()
    for value in values:
        match value:
            case Raw(data):
                out += data
            case bool():
                out += bytes([1, value])
            case int() | float():
                out += b"\0" + struct.pack(">d", value)
            case str() | bytes():
                data = value.encode() if isinstance(value, str) else value
                out += b"\x02" + utf8(data) if len(data) < 65536 else b"\x0c" + struct.pack(">I", len(data)) + data
            case None:
                out += b"\x05"
            case Ecma():
                out += b"\x08" + struct.pack(">I", len(value)) + amf_object(value)
            case Mapping():
                out += b"\x03" + amf_object(value)
            case Sequence():
                out += b"\x0a" + struct.pack(">I", len(value)) + amf(*value)
            case _:
                raise TypeError(f"no AMF0 form for {type(value)}")
    return bytes(out)


# --- chunks and messages -------------------------------------------------------------------------------------------


def basic(fmt: int, csid: int, form: int = 0) -> bytes:
    """Basic header; *form* 1, 2 or 3 forces the number of bytes (RTMP 5.3.1.1)."""
    form = form or (1 if csid < 64 else 2 if csid < 320 else 3)
    if form == 1:
        return bytes([fmt << 6 | csid])
    if form == 2:
        return bytes([fmt << 6, csid - 64])
    return bytes([fmt << 6 | 1, (csid - 64) & 0xFF, (csid - 64) >> 8])


def header(
    csid: int, type_id: int, length: int, *, timestamp: int = 0, msid: int = 0, fmt: int = 0, form: int = 0
) -> bytes:
    """Chunk header of fmt 0, 1, 2 or 3 with its extended timestamp; *timestamp* is the delta where fmt says so."""
    small = min(timestamp, 0xFFFFFF)
    out = basic(fmt, csid, form)
    if fmt < 3:
        out += small.to_bytes(3, "big")
    if fmt < 2:
        out += length.to_bytes(3, "big") + bytes([type_id])
    if fmt == 0:
        out += msid.to_bytes(4, "little")
    if fmt < 3 and small == 0xFFFFFF:
        out += timestamp.to_bytes(4, "big")
    return out


def message(
    csid: int,
    type_id: int,
    body: bytes,
    *,
    timestamp: int = 0,
    msid: int = 0,
    chunk_size: int = 128,
    fmt: int = 0,
    repeat_extended: bool = True,
    form: int = 0,
    next_form: int = 0,
) -> bytes:
    """A whole message: one header, then fmt 3 continuations."""
    out = [header(csid, type_id, len(body), timestamp=timestamp, msid=msid, fmt=fmt, form=form), body[:chunk_size]]
    extended = timestamp.to_bytes(4, "big") if timestamp >= 0xFFFFFF and repeat_extended else b""
    for start in range(chunk_size, len(body), chunk_size):
        out += [basic(3, csid, next_form or form), extended, body[start : start + chunk_size]]
    return b"".join(out)


def control(type_id: int, body: bytes, *, csid: int = 2, msid: int = 0) -> bytes:
    """A protocol control message."""
    return message(csid, type_id, body, msid=msid)


def set_chunk_size(size: int, *, csid: int = 2) -> bytes:
    """Set Chunk Size."""
    return control(SET_CHUNK_SIZE, struct.pack(">I", size), csid=csid)


def user_control(event: int, data: bytes = b"") -> bytes:
    """User Control message."""
    return control(USER_CONTROL, struct.pack(">H", event) + data)


def command(
    name: object,
    tid: object,
    *args: object,
    csid: int = 3,
    msid: int = 0,
    chunk_size: int = 128,
    type_id: int = COMMAND,
) -> bytes:
    """An AMF0 command message."""
    return message(csid, type_id, amf(name, tid, *args), msid=msid, chunk_size=chunk_size)


def connect_object(app: object = "live", **more: object) -> dict[str, object]:
    """The command object that encoders send."""
    return {
        "app": app,
        "type": "nonprivate",
        "flashVer": "FMLE/3.0 (compatible; spec)",
        "tcUrl": "rtmp://127.0.0.1/live",
        **more,
    }


def connect(app: object = "live", *, chunk_size: int = 128, **more: object) -> bytes:
    """`connect` with transaction 1."""
    return command("connect", 1, connect_object(app, **more), chunk_size=chunk_size)


def create_stream(tid: float = 2, *, chunk_size: int = 128) -> bytes:
    """`createStream`."""
    return command("createStream", tid, None, chunk_size=chunk_size)


def publish(
    name: object = KEY, kind: object = "live", *, msid: int = 1, tid: float = 3, chunk_size: int = 128
) -> bytes:
    """`publish`."""
    return command("publish", tid, None, name, kind, csid=8, msid=msid, chunk_size=chunk_size)


def play(name: object = STREAM, *args: object, msid: int = 1, tid: float = 3, chunk_size: int = 128) -> bytes:
    """`play`."""
    return command("play", tid, None, name, *args, csid=8, msid=msid, chunk_size=chunk_size)


# --- media ---------------------------------------------------------------------------------------------------------

SPS = bytes.fromhex("674d400aeca146fc980880000003008000000a078912cb01")[:23]
AVCC = bytes.fromhex("014d400affe10017674d400aeca146fc980880000003008000000a078912cb01000468ce0fc8")
AVC_CONFIG = b"\x17\x00\x00\x00\x00" + AVCC
AAC_CONFIG = b"\xaf\x00\x11\x88\x56\xe5\x00"
METADATA = amf("@setDataFrame", "onMetaData", Ecma(width=160.0, height=90.0, framerate=25.0))


def nal(kind: int, payload: bytes) -> bytes:
    """A length-prefixed NAL unit."""
    return struct.pack(">I", len(payload) + 1) + bytes([kind]) + payload


def picture(tag: bytes, *, key: bool = False, cts: int = 0) -> bytes:
    """An AVC video body whose NAL unit carries *tag*."""
    return (
        (b"\x17" if key else b"\x27") + b"\x01" + (cts & 0xFFFFFF).to_bytes(3, "big") + nal(0x65 if key else 0x41, tag)
    )


def sound(tag: bytes) -> bytes:
    """An AAC audio body that carries *tag*."""
    return b"\xaf\x01" + tag


def video(body: bytes, timestamp: int = 0, *, msid: int = 1, chunk_size: int = 128, csid: int = 6) -> bytes:
    """A video message."""
    return message(csid, VIDEO, body, timestamp=timestamp, msid=msid, chunk_size=chunk_size)


def audio(body: bytes, timestamp: int = 0, *, msid: int = 1, chunk_size: int = 128, csid: int = 4) -> bytes:
    """An audio message."""
    return message(csid, AUDIO, body, timestamp=timestamp, msid=msid, chunk_size=chunk_size)


def data(body: bytes, timestamp: int = 0, *, msid: int = 1, chunk_size: int = 128, csid: int = 4) -> bytes:
    """A data message."""
    return message(csid, DATA, body, timestamp=timestamp, msid=msid, chunk_size=chunk_size)


def opening(*, msid: int = 1, chunk_size: int = 128) -> bytes:
    """Metadata, both sequence headers, a keyframe and a sound at 0 ms: what an encoder sends first."""
    return b"".join(
        [
            data(METADATA, msid=msid, chunk_size=chunk_size),
            video(AVC_CONFIG, msid=msid, chunk_size=chunk_size),
            audio(AAC_CONFIG, msid=msid, chunk_size=chunk_size),
            video(picture(b"opening", key=True), msid=msid, chunk_size=chunk_size),
            audio(sound(b"opening"), msid=msid, chunk_size=chunk_size),
        ]
    )


def flv_tag(type_id: int, timestamp: int, body: bytes, *, size: int | None = None, back: int | None = None) -> bytes:
    """An FLV tag with its back pointer, as aggregates hold them; *size* and *back* may lie."""
    length = len(body) if size is None else size
    head = bytes([type_id]) + length.to_bytes(3, "big") + (timestamp & 0xFFFFFF).to_bytes(3, "big")
    head += bytes([timestamp >> 24]) + b"\0\0\0"
    return head + body + struct.pack(">I", len(body) + 11 if back is None else back)


# --- reading what a server says ------------------------------------------------------------------------------------


@dataclass
class Heard:
    """One message from the server."""

    type_id: int
    timestamp: int
    msid: int
    csid: int
    body: bytes

    def values(self) -> list[object]:
        """AMF0 values of a command or data message."""
        return read_amf(self.body)


@dataclass
class _Lane:
    timestamp: int = 0
    delta: int = 0
    length: int = 0
    type_id: int = 0
    msid: int = 0
    extended: bool = False
    partial: bytearray = field(default_factory=bytearray)


class Ear:
    """Reads a server's bytes: skips S0, S1 and S2, then yields messages. Trusts nothing, keeps it slow and simple."""

    def __init__(self, *, handshake_done: bool = False) -> None:
        self.buffer = bytearray()
        self.skip = 0 if handshake_done else 1 + 2 * HANDSHAKE_SIZE
        self.s1 = b""
        self.chunk_size = 128
        self.lanes: dict[int, _Lane] = {}
        self.total = 0

    def hear(self, data: bytes) -> list[Heard]:
        """Take bytes, return the messages they complete."""
        self.total += len(data)
        self.buffer += data
        if self.skip:
            if len(self.buffer) < self.skip:
                return []
            self.s1 = bytes(self.buffer[1 : 1 + HANDSHAKE_SIZE])
            del self.buffer[: self.skip]
            self.skip = 0
        return list(self._messages())

    def _messages(self) -> Iterator[Heard]:
        start = 0
        while True:
            step = self._chunk(start)
            if step is None:
                break
            start, heard = step
            if heard is not None:
                if heard.type_id == SET_CHUNK_SIZE:
                    self.chunk_size = int.from_bytes(heard.body, "big")
                yield heard
        del self.buffer[:start]

    def _chunk(self, at: int) -> tuple[int, Heard | None] | None:
        buffer = self.buffer
        if len(buffer) == at or len(buffer) < at + (2, 3, 1)[min(buffer[at] & 0x3F, 2)]:
            return None
        fmt, csid = buffer[at] >> 6, buffer[at] & 0x3F
        at += 1
        if csid == 0:
            csid, at = 64 + buffer[at], at + 1
        elif csid == 1:
            csid, at = 64 + buffer[at] + 256 * buffer[at + 1], at + 2
        size = (11, 7, 3, 0)[fmt]
        if len(buffer) < at + size:
            return None
        lane = self.lanes.setdefault(csid, _Lane())
        stamp = int.from_bytes(buffer[at : at + 3], "big") if fmt < 3 else 0
        if fmt < 2:
            lane.length, lane.type_id = int.from_bytes(buffer[at + 3 : at + 6], "big"), buffer[at + 6]
        if fmt == 0:
            lane.msid = int.from_bytes(buffer[at + 7 : at + 11], "little")
        at += size
        if fmt < 3:
            lane.extended = stamp == 0xFFFFFF
        if lane.extended:
            if len(buffer) < at + 4:
                return None
            stamp, at = int.from_bytes(buffer[at : at + 4], "big"), at + 4
        take = min(self.chunk_size, lane.length - len(lane.partial))
        if len(buffer) < at + take:
            return None
        if not lane.partial:
            if fmt == 0:
                lane.timestamp = lane.delta = stamp
            else:
                lane.delta = stamp if fmt < 3 else lane.delta
                lane.timestamp = (lane.timestamp + lane.delta) & 0xFFFFFFFF
        lane.partial += buffer[at : at + take]
        if len(lane.partial) < lane.length:
            return at + take, None
        heard = Heard(lane.type_id, lane.timestamp, lane.msid, csid, bytes(lane.partial))
        lane.partial.clear()
        return at + take, heard


def read_amf(body: bytes) -> list[object]:
    """Decode the AMF0 that servers send; raises ValueError for anything else."""
    values, at = [], 0
    while at < len(body):
        value, at = _value(body, at)
        values.append(value)
    return values


def _value(body: bytes, at: int) -> tuple[object, int]:
    marker, at = body[at], at + 1
    match marker:
        case 0:
            return struct.unpack_from(">d", body, at)[0], at + 8
        case 1:
            return bool(body[at]), at + 1
        case 2:
            size = int.from_bytes(body[at : at + 2], "big")
            return body[at + 2 : at + 2 + size].decode(), at + 2 + size
        case 3:
            return _pairs(body, at)
        case 8:
            return _pairs(body, at + 4)
        case 5 | 6:
            return None, at
        case 10:
            count, at, items = int.from_bytes(body[at : at + 4], "big"), at + 4, []
            for _ in range(count):
                item, at = _value(body, at)
                items.append(item)
            return items, at
    raise ValueError(f"AMF0 marker {marker} at {at - 1} in {body[:80].hex()}")


def _pairs(body: bytes, at: int) -> tuple[dict[str, object], int]:
    pairs: dict[str, object] = {}
    while body[at : at + 3] != b"\0\0\x09":
        size = int.from_bytes(body[at : at + 2], "big")
        key, at = body[at + 2 : at + 2 + size].decode(), at + 2 + size
        pairs[key], at = _value(body, at)
    return pairs, at + 3
