"""A slow chunk reader written straight from the rules, and a writer of every form of chunk, to check the fast reader.

The reference decodes a whole recording with a cursor that moves one field at a time; it shares no code with
`relay.rtmp.chunks`, keeps no partial state between calls and does no arithmetic on strides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from relay.rtmp.limits import WireLimits

Plain = tuple[int, int, int, int, bytes]
"""type id, timestamp, message stream id, csid, payload"""

KNOWN = {1, 2, 3, 4, 5, 6, 8, 9, 15, 16, 17, 18, 19, 20, 22}


class EndedError(Exception):
    """The recording ends here, inside something."""


class BrokenError(Exception):
    """The peer broke a rule; the argument is the reason code."""


@dataclass
class Lane:
    """One chunk stream."""

    timestamp: int = 0
    delta: int = 0
    length: int = 0
    type_id: int = 0
    msid: int = 0
    extended: bytes | None = None
    body: bytearray | None = None


@dataclass
class Result:
    """What a recording holds: messages, each with the number of bytes that decide it, and why reading stopped."""

    messages: list[Plain] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    error: str = ""
    work: int = 0
    """Chunks and tags in aggregates."""


class Reference:
    """Decodes one recording."""

    def __init__(self, wire: bytes, limits: WireLimits, chunk_size: int = 128) -> None:
        self.wire = wire
        self.pos = 0
        self.limits = limits
        self.chunk_size = chunk_size
        self.lanes: dict[int, Lane] = {}
        self.last: Lane | None = None
        self.unknown = 0
        self.looked = 0  # how far one had to look ahead to tell an extended timestamp from data
        self.result = Result()

    def run(self) -> Result:
        try:
            while self.pos < len(self.wire):
                self.chunk()
        except EndedError:
            pass
        except BrokenError as broken:
            self.result.error = str(broken)
        return self.result

    def take(self, count: int) -> bytes:
        if self.pos + count > len(self.wire):
            raise EndedError
        self.pos += count
        return self.wire[self.pos - count : self.pos]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def chunk(self) -> None:
        first = self.number(1)
        fmt, csid = first >> 6, first & 63
        if csid == 0:
            csid = 64 + self.number(1)
        elif csid == 1:
            low, high = self.take(2)
            csid = 64 + low + 256 * high
        lane = self.lane(csid, fmt)
        if fmt == 3:
            self.bare_header(lane)
        else:
            self.header(lane, fmt)
        self.result.work += 1
        assert lane.body is not None
        lane.body += self.take(min(self.chunk_size, lane.length - len(lane.body)))
        if len(lane.body) == lane.length:
            payload, lane.body = bytes(lane.body), None
            self.message(lane, csid, payload)

    def lane(self, csid: int, fmt: int) -> Lane:
        if csid not in self.lanes:
            if len(self.lanes) == self.limits.chunk_streams:
                raise BrokenError("chunk.streams")
            lane = Lane()
            if fmt in (2, 3):
                if self.last is None:
                    raise BrokenError("chunk.no_previous")
                lane = Lane(**{**self.last.__dict__, "body": None})
            self.lanes[csid] = lane
        return self.lanes[csid]

    def header(self, lane: Lane, fmt: int) -> None:
        time = self.number(3)
        length, type_id, msid = lane.length, lane.type_id, lane.msid
        if fmt < 2:
            length, type_id = self.number(3), self.number(1)
        if fmt < 1:
            msid = int.from_bytes(self.take(4), "little")
        extended = None
        if time == 0xFFFFFF:
            extended = self.take(4)
            time = int.from_bytes(extended, "big")
        if lane.body is not None:
            if length != lane.length:
                raise BrokenError("chunk.len_changed")
            if type_id != lane.type_id:
                raise BrokenError("chunk.type_changed")
            lane.extended = extended
            return
        lane.extended = extended
        lane.type_id, lane.msid = type_id, msid
        if fmt == 0:
            lane.timestamp = time
            lane.delta = time if time <= 1000 else 0
        else:
            lane.timestamp = (lane.timestamp + time) % 2**32
            lane.delta = time
        self.begin(lane, length)

    def bare_header(self, lane: Lane) -> None:
        timestamp = lane.timestamp
        if lane.body is None:
            timestamp = (timestamp + lane.delta) % 2**32
        if lane.extended is not None:
            candidates = (lane.extended, timestamp.to_bytes(4, "big"))
            seen = self.wire[self.pos : self.pos + 4]
            if seen in candidates:
                self.pos += 4
            elif any(candidate.startswith(seen) for candidate in candidates):
                raise EndedError
            else:
                decided = next(n for n in (1, 2, 3, 4) if not any(c.startswith(seen[:n]) for c in candidates))
                self.looked = self.pos + decided
        if lane.body is None:
            lane.timestamp = timestamp
            self.begin(lane, lane.length)

    def begin(self, lane: Lane, length: int) -> None:
        limits = self.limits
        allowed = {8: limits.audio, 9: limits.video, 22: limits.video}.get(lane.type_id, limits.command)
        if 1 <= lane.type_id <= 6:
            allowed = limits.control
        if length > allowed:
            raise BrokenError("msg.too_long")
        promised = sum(other.length for other in self.lanes.values() if other.body is not None)
        if promised + length > limits.partial and length > limits.control:
            raise BrokenError("chunk.partial")
        lane.length = length
        lane.body = bytearray()
        self.last = lane

    def message(self, lane: Lane, csid: int, payload: bytes) -> None:
        if lane.type_id == 1:
            self.set_chunk_size(payload)
        elif not payload:
            pass
        elif lane.type_id == 2:
            aborted = self.lanes.get(int.from_bytes(payload[:4], "big")) if len(payload) >= 4 else None
            if aborted is not None:
                aborted.body = None
        elif lane.type_id not in KNOWN:
            self.unknown += 1
            if self.unknown > self.limits.unknown_per_second:
                raise BrokenError("msg.unknown_flood")
        elif lane.type_id == 22:
            for plain in split_aggregate(lane, csid, payload):
                self.result.work += 1
                if plain is not None:
                    self.add(plain)
        else:
            self.add((lane.type_id, lane.timestamp, lane.msid, csid, payload))

    def add(self, plain: Plain) -> None:
        self.result.messages.append(plain)
        self.result.offsets.append(max(self.pos, self.looked))

    def set_chunk_size(self, payload: bytes) -> None:
        if len(payload) < 4:
            raise BrokenError("ctl.short")
        size = int.from_bytes(payload[:4], "big")
        if size == 0:
            raise BrokenError("chunk.size_zero")
        if size >= 2**31:
            raise BrokenError("chunk.size_reserved_bit")
        self.chunk_size = size


def split_aggregate(lane: Lane, csid: int, payload: bytes) -> Iterator[Plain | None]:
    """Yield what each tag of an aggregate gives: a message, or nothing."""
    base = None
    while payload:
        size = int.from_bytes(payload[1:4], "big")
        time = int.from_bytes(payload[7:8] + payload[4:7], "big")
        if len(payload) < 11 + size:
            yield None
            return
        if base is None:
            base = time
        if payload[0] not in (8, 9, 15, 18) or not size:
            yield None
        else:
            yield (payload[0], (lane.timestamp + time - base) % 2**32, lane.msid, csid, payload[11 : 11 + size])
        payload = payload[11 + size + 4 :]


def decode(wire: bytes, limits: WireLimits, chunk_size: int = 128) -> Result:
    """Decode a recording of one direction that starts after the handshake."""
    return Reference(wire, limits, chunk_size).run()


@dataclass
class Outgoing:
    """A message for the writer below."""

    csid: int
    type_id: int
    timestamp: int
    msid: int
    body: bytes
    fmt: int = 0
    """The wish; the writer takes a fuller header when the state does not allow it."""
    repeat_header: bool = False
    """Start every continuation with the whole message header again, as some encoders do."""
    sent: int = 0


class Writer:
    """Writes messages as chunks in any form, one chunk per call, so that messages can be interleaved.

    *extended* says what fmt 3 repeats after an extended timestamp: the ``field`` as the specification wants, the
    ``absolute`` time as SRS does, or ``nothing`` as old librtmp does.
    """

    def __init__(self, *, extended: str = "field") -> None:
        self.chunk_size = 128
        self.style = extended
        self.previous: dict[int, Outgoing] = {}
        self.deltas: dict[int, int] = {}
        self.header: dict[int, bytes] = {}
        self.extended: dict[int, bytes] = {}

    def chunk(self, message: Outgoing) -> bytes:
        """Return the next chunk of *message*."""
        csid = message.csid
        if message.sent == 0:
            header = self._open(message)
        elif message.repeat_header and self.header[csid]:
            header = basic(self._opening_fmt(message), csid) + self.header[csid]
        else:
            header = basic(3, csid) + self._again(message)
        piece = message.body[message.sent : message.sent + self.chunk_size]
        message.sent += len(piece)
        return header + piece

    def _opening_fmt(self, message: Outgoing) -> int:
        return {11: 0, 15: 0, 7: 1}.get(len(self.header[message.csid]), 1)

    def _open(self, message: Outgoing) -> bytes:
        csid = message.csid
        fmt, delta = self._choose(message)
        fields = b""
        if fmt < 3:
            time = message.timestamp if fmt == 0 else delta
            self.extended[csid] = time.to_bytes(4, "big") if time >= 0xFFFFFF else b""
            fields = min(time, 0xFFFFFF).to_bytes(3, "big")
        if fmt < 2:
            fields += len(message.body).to_bytes(3, "big") + bytes((message.type_id,))
        if fmt == 0:
            fields += message.msid.to_bytes(4, "little")
        repeated = self.extended[csid] if fmt < 3 else self._again(message)
        self.previous[csid] = message
        self.deltas[csid] = delta
        self.header[csid] = fields + repeated if fmt < 2 else b""
        return basic(fmt, csid) + fields + repeated

    def _again(self, message: Outgoing) -> bytes:
        """Return the extended timestamp that follows fmt 3."""
        field = self.extended[message.csid]
        if not field or self.style == "nothing":
            return b""
        return field if self.style == "field" else message.timestamp.to_bytes(4, "big")

    def _choose(self, message: Outgoing) -> tuple[int, int]:
        """Return the format and the delta that the next fmt 3 would repeat."""
        before = self.previous.get(message.csid)
        if before is None or message.fmt == 0 or before.msid != message.msid:
            return 0, message.timestamp if message.timestamp <= 1000 else 0
        delta = (message.timestamp - before.timestamp) % 2**32
        if message.fmt == 1 or (len(before.body), before.type_id) != (len(message.body), message.type_id):
            return 1, delta
        if message.fmt == 2 or delta != self.deltas[message.csid]:
            return 2, delta
        return 3, delta


def basic(fmt: int, csid: int) -> bytes:
    """Return a basic header."""
    if csid < 64:
        return bytes((fmt * 64 + csid,))
    if csid < 320:
        return bytes((fmt * 64, csid - 64))
    return bytes((fmt * 64 + 1, (csid - 64) % 256, (csid - 64) // 256))
