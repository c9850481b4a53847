"""Chunks to messages: the reader of one direction of one connection (RTMP 1.0 §5.3).

The hot path of the relay. `_read` handles a whole message in one chunk flat; `_fill` takes a message that spans many
chunks by checking all their continuation headers with one strided slice and deleting them with another, because a
loop over 128-byte chunks costs fifteen times as much. Both are longer than a function should be: one call more for
each message costs 5 to 14 % in `_read` and 2 to 7 % in `_fill` (benchmarks/micro.py). Everything rarer is below them.

The rules: the result never depends on how the bytes were split; nothing is allocated ahead of the bytes that fill it;
every byte is copied a bounded number of times.
"""

from __future__ import annotations

import struct
from collections import Counter

from relay.rtmp import aggregate
from relay.rtmp.chunk_stream import NEAR, ChunkStream, count_markers
from relay.rtmp.errors import RemoteProtocolError
from relay.rtmp.events import Message
from relay.rtmp.framing import DEFAULT_CHUNK_SIZE
from relay.rtmp.limits import WireLimits
from relay.rtmp.messages import ABORT, AUDIO, SET_CHUNK_SIZE, SET_PEER_BANDWIDTH, VIDEO, read_chunk_size

_MEDIA = frozenset((AUDIO, VIDEO))
_KNOWN = frozenset((*range(1, 7), *_MEDIA, *range(15, 21), aggregate.AGGREGATE))
_CONTROL_CSID = 2
_EXTENDED = 0xFFFFFF
_TIME_MASK = 0xFFFFFFFF
_HEADER_SIZES = (11, 7, 3)
_CONFUSED_DELTA = 1000
"""Fmt 3 opening a message right after fmt 0 means "again this far" by the specification and in FMLE, whose first times
are small, but "same time" in old librtmp and nginx-rtmp. Beyond this many ms only the second makes sense."""

_two_words = struct.Struct(">II").unpack_from
_little_word = struct.Struct("<I").unpack_from


class ChunkReader:
    """Turns received bytes into messages.

    Set Chunk Size and Abort change the parsing, so they are obeyed here and not returned; aggregates are taken apart;
    empty messages and messages of unknown type are counted and dropped.

    Attributes:
        chunk_size: what the peer announced, 128 at first.
        bytes_received: all bytes given to `receive`, for acknowledgements.
        odd: what was tolerated, by reason code.
    """

    def __init__(self, limits: WireLimits) -> None:
        self.limits = limits
        self.chunk_size = DEFAULT_CHUNK_SIZE
        self.bytes_received = 0
        self.odd: Counter[str] = Counter()
        self._streams: dict[int, ChunkStream] = {}
        self._recent: ChunkStream | None = None  # the one whose message header came last
        self._held = b""  # a header that is not complete yet: at most 17 bytes
        self._inside: ChunkStream | None = None  # the one whose chunk is not complete yet...
        self._chunk_left = 0  # ...and how many bytes of that chunk are to come
        self._partials: dict[int, ChunkStream] = {}  # unfinished messages, oldest first
        self._reserved = 0  # the sum of their lengths
        self._now = 0.0
        self._second_ends = float("-inf")
        self._work = 0
        self._unknown = 0

    @property
    def limits(self) -> WireLimits:
        """The bounds in force; they are replaced when the peer is granted publish."""
        return self._limits

    @limits.setter
    def limits(self, limits: WireLimits) -> None:
        self._limits = limits
        longest = [limits.command] * 256
        longest[SET_CHUNK_SIZE : SET_PEER_BANDWIDTH + 1] = [limits.control] * 6
        longest[AUDIO] = limits.audio
        longest[VIDEO] = longest[aggregate.AGGREGATE] = limits.video
        self._longest = longest
        self._usual = [min(length, limits.partial) for length in longest]

    @property
    def partial_bytes(self) -> int:
        """Bytes held for messages that are not complete."""
        return len(self._held) + sum(len(stream.body) for stream in self._partials.values())

    def receive(self, data: bytes, now: float) -> list[Message]:
        """Take bytes from the peer and return the messages that they complete.

        Raises:
            RemoteProtocolError: the peer broke the protocol or a limit. The reader must not be used afterwards.
        """
        self.bytes_received += len(data)
        self._now = now
        new_second = now >= self._second_ends
        if new_second:
            self._second_ends = now + 1.0
            self._work = self._unknown = 0
        messages: list[Message] = []
        pos = 0
        inside = self._inside
        if inside is not None:
            pos = self._fill(inside, data, 0, self._chunk_left)
            if not inside.missing:
                self._finish(inside, inside.payload, messages)
        elif self._held:
            data = self._held + data
            self._held = b""
        if pos < len(data):
            self._read(data, pos, messages)
        if self._work > self._limits.chunks_per_second:
            raise RemoteProtocolError("chunk.work", f"more than {self._limits.chunks_per_second} chunks in a second")
        if new_second and self._partials:
            self._check_age()
        return messages

    def _read(self, data: bytes, pos: int, messages: list[Message]) -> None:
        """Read chunks from *pos*, where one begins, to the end of *data*."""
        streams = self._streams
        usual = self._usual
        end = len(data)
        safe = end - 12  # up to here a whole header without extended timestamp is there
        fresh = 0
        while pos < end:
            first = data[pos]
            stream = streams.get(first & 0x3F)
            if first >= 0x80 or pos > safe or stream is None or stream.missing:
                pos = self._read_rare(data, pos, messages)
                continue
            time, word = _two_words(data, pos)  # basic header and time, length and type
            time &= 0xFFFFFF
            length = word >> 8
            type_id = word & 0xFF
            if time == _EXTENDED or length > usual[type_id] or not length or self._reserved:
                pos = self._read_rare(data, pos, messages)
                continue
            if first >= 0x40:
                start = pos + 8
                stream.delta = time
                time = (stream.timestamp + time) & _TIME_MASK
            else:
                start = pos + 12
                stream.delta = time if time <= _CONFUSED_DELTA else 0
                (stream.stream_id,) = _little_word(data, pos + 8)
            stream.timestamp = time
            stream.length = length
            stream.type_id = type_id
            if stream.extended:
                stream.extend(b"")
            self._recent = stream
            fresh += 1
            pos = start + length
            if length <= self.chunk_size and pos <= end:
                payload = data[start:pos]
            else:
                stream.missing = length
                pos = self._fill(stream, data, start, min(length, self.chunk_size))
                if stream.missing:
                    continue
                payload, stream.payload = stream.payload, b""
            csid = stream.csid
            if type_id in _MEDIA and csid != _CONTROL_CSID:
                messages.append(Message(type_id, time, stream.stream_id, csid, payload))
            else:
                self._finish(stream, payload, messages)
        self._work += fresh

    def _fill(self, stream: ChunkStream, data: bytes, pos: int, left: int) -> int:
        """Add what *data* holds of the stream's message from *pos* on and return where it ends.

        *left* bytes of the current chunk are to come. Continuation chunks are taken too, as long as they follow each
        other directly and look as expected; whatever ends the run is left to `_read`.
        """
        missing = stream.missing
        end = len(data)
        first = pos + left  # where the first continuation header is, if there is one
        piece: bytes | bytearray
        again = stream.again
        if left >= missing or first >= end or data[first] != again[0]:
            stop = first if first < end else end
            piece = data[pos:stop]
            left -= stop - pos
        else:
            size = self.chunk_size
            width = len(again)
            step = size + width
            stop = pos + missing - width * ((left - missing) // size)  # rounded down, hence up: as many headers
            if stop > end:
                stop = end
            near = first + NEAR * step
            heads = data[first : stop if stop < near else near : step]
            count = len(heads)
            if width > 1 or stop > near or heads.count(again) != count:
                count = count_markers(data, first, stop, again, step)
                stop = min(stop, first + count * step)
            piece = bytearray(data[pos:stop])
            for shift in range(width):
                del piece[left :: step - shift]
            left += count * size - len(piece)
            self._work += count
        missing -= len(piece)
        stream.missing = missing
        if missing:
            self._keep(stream, piece, left)
            return stop
        self._inside = None
        if stream.csid in self._partials:
            stream.payload = b"".join((stream.body, piece))
            self._forget(stream)
        else:
            stream.payload = bytes(piece)
        return stop

    def _keep(self, stream: ChunkStream, piece: bytes | bytearray, left: int) -> None:
        """Store *piece* of an unfinished message; *left* more bytes would fill its chunk."""
        if stream.csid in self._partials:
            stream.body += piece
        else:
            stream.body = piece if isinstance(piece, bytearray) else bytearray(piece)
            stream.since = self._now
            self._partials[stream.csid] = stream
            self._reserved += stream.length
        self._chunk_left = left if left < stream.missing else stream.missing
        self._inside = stream if left else None

    def _forget(self, stream: ChunkStream) -> None:
        """Give up the state of an unfinished message, because it is complete or aborted."""
        del self._partials[stream.csid]
        self._reserved -= stream.length
        stream.missing = 0
        stream.body = bytearray()

    def _read_rare(self, data: bytes, pos: int, messages: list[Message]) -> int:
        """Read any chunk at *pos*, or hold its header when it is not complete; return where to go on."""
        known = self._streams.get(data[pos] & 0x3F)
        if data[pos] >= 0xC0 and known is not None and known.missing and not known.extended:
            stream, start = known, pos + 1  # the plain continuation, when messages are interleaved
        else:
            found = self._header(data, pos)
            if found is None:
                self._held = data[pos:]
                return len(data)
            stream, start = found
        self._work += 1
        if stream.missing:
            start = self._fill(stream, data, start, min(stream.missing, self.chunk_size))
        if not stream.missing:
            self._finish(stream, stream.payload, messages)
        return start

    def _header(self, data: bytes, pos: int) -> tuple[ChunkStream, int] | None:
        """Parse the chunk header at *pos*; return its chunk stream and where its data starts, None while incomplete."""
        fmt, csid, start = data[pos] >> 6, data[pos] & 0x3F, pos + 1
        if csid < 2:
            start += csid + 1
            if start > len(data):
                return None
            csid = 64 + int.from_bytes(data[pos + 1 : start], "little")
        stream = self._streams.get(csid) or self._open(csid, fmt)
        if fmt == 3:
            return self._bare_header(stream, data, start)
        fields = data[start : start + _HEADER_SIZES[fmt]]
        start += _HEADER_SIZES[fmt]
        extended = b""
        time = int.from_bytes(fields[:3], "big")
        if time == _EXTENDED:
            extended = data[start : start + 4]
            start += 4
            time = int.from_bytes(extended, "big")
        if start > len(data):
            return None
        length, type_id = stream.length, stream.type_id
        if fmt < 2:
            length, type_id = int.from_bytes(fields[3:6], "big"), fields[6]
        if stream.missing:
            self._repeat(stream, length, type_id, extended)
            return stream, start
        stream.extend(extended)
        if fmt == 0:
            stream.stream_id = int.from_bytes(fields[7:11], "little")
            stream.timestamp = time
            stream.delta = time if time <= _CONFUSED_DELTA else 0
        else:
            stream.timestamp = (stream.timestamp + time) & _TIME_MASK
            stream.delta = time
        stream.type_id = type_id
        self._begin(stream, length)
        return stream, start

    def _bare_header(self, stream: ChunkStream, data: bytes, start: int) -> tuple[ChunkStream, int] | None:
        """Parse fmt 3: a continuation, or a new message like the last one.

        After an extended timestamp it is repeated here by the specification (RTMP 1.0 §5.3.1.3), but OBS up to 30.0 and
        other children of librtmp leave it out, and SRS repeats the absolute time where the last header had a delta. So
        the four bytes are taken for a timestamp when they are one of the two values. They are waited for only while
        they may still become one.
        """
        timestamp = stream.timestamp if stream.missing else (stream.timestamp + stream.delta) & _TIME_MASK
        if stream.extended:
            seen = data[start : start + 4]
            if stream.extended.startswith(seen) or timestamp.to_bytes(4, "big").startswith(seen):
                if len(seen) < 4:
                    return None
                start += 4
        if not stream.missing:
            stream.timestamp = timestamp
            self._begin(stream, stream.length)
        return stream, start

    def _open(self, csid: int, fmt: int) -> ChunkStream:
        """Make the state of a chunk stream seen for the first time.

        The first header should be fmt 0. librtmp starts with fmt 1 on csid 2 (message stream 0 is meant); FMS 3 and DJI
        start with fmt 3 and 2, and mean the message header that came last on any chunk stream.
        """
        if len(self._streams) >= self._limits.chunk_streams:
            raise RemoteProtocolError("chunk.streams", f"more than {self._limits.chunk_streams} chunk streams")
        stream = ChunkStream(csid)
        if fmt >= 2:
            if self._recent is None:
                raise RemoteProtocolError("chunk.no_previous", f"chunk stream {csid} starts with fmt {fmt}")
            stream.borrow(self._recent)
        if fmt:
            self.odd["chunk.no_previous"] += 1
        self._streams[csid] = stream
        return stream

    def _repeat(self, stream: ChunkStream, length: int, type_id: int, extended: bytes) -> None:
        """Take a message header inside an unfinished message for a continuation, as SRS and FFmpeg do."""
        if length != stream.length:
            text = f"length {length} inside a message of {stream.length} bytes on chunk stream {stream.csid}"
            raise RemoteProtocolError("chunk.len_changed", text)
        if type_id != stream.type_id:
            text = f"type {type_id} inside a message of type {stream.type_id} on chunk stream {stream.csid}"
            raise RemoteProtocolError("chunk.type_changed", text)
        stream.extend(extended)
        self.odd["chunk.repeated_header"] += 1

    def _begin(self, stream: ChunkStream, length: int) -> None:
        """Start a message of *length* bytes, when the limits allow it."""
        limits = self._limits
        longest = self._longest[stream.type_id]
        if length > longest:
            raise RemoteProtocolError("msg.too_long", f"type {stream.type_id} with {length} bytes, {longest} allowed")
        if self._reserved + length > limits.partial and length > limits.control:
            raise RemoteProtocolError("chunk.partial", f"unfinished messages of more than {limits.partial} bytes")
        stream.length = stream.missing = length
        self._recent = stream

    def _finish(self, stream: ChunkStream, payload: bytes, messages: list[Message]) -> None:
        """Deal with a complete message: most are returned, some are for us."""
        stream.payload = b""
        type_id, csid = stream.type_id, stream.csid
        if payload and type_id in _MEDIA and csid != _CONTROL_CSID:
            messages.append(Message(type_id, stream.timestamp, stream.stream_id, csid, payload))
            return
        is_control = type_id <= SET_PEER_BANDWIDTH
        if is_control != (csid == _CONTROL_CSID) or (is_control and stream.stream_id):
            self.odd["chunk.odd_csid"] += 1
        if type_id == SET_CHUNK_SIZE:
            self.chunk_size = read_chunk_size(payload)
        elif not payload:
            self.odd["msg.empty"] += 1
        elif type_id == ABORT:
            self._abort(payload)
        elif type_id not in _KNOWN:
            self._skip(type_id)
        else:
            message = Message(type_id, stream.timestamp, stream.stream_id, csid, payload)
            if type_id == aggregate.AGGREGATE:
                parts, tags = aggregate.unpack(message, self.odd)
                self._work += tags
                messages += parts
            else:
                messages.append(message)

    def _abort(self, payload: bytes) -> None:
        """Obey Abort (RTMP 1.0 §5.4.2): drop the unfinished message of one chunk stream."""
        if len(payload) < 4:
            self.odd["ctl.short"] += 1
            return
        stream = self._partials.get(int.from_bytes(payload[:4], "big"))
        if stream is not None:
            self._forget(stream)

    def _skip(self, type_id: int) -> None:
        """Count a message of unknown type; OBS has sent type 32, so a few are no reason to hang up."""
        self.odd["msg.unknown"] += 1
        self._unknown += 1
        if self._unknown > self._limits.unknown_per_second:
            raise RemoteProtocolError("msg.unknown_flood", f"messages of unknown type, the last one {type_id}")

    def _check_age(self) -> None:
        """Refuse unfinished messages that nobody seems to want to finish."""
        oldest = next(iter(self._partials.values()))
        age = self._now - oldest.since
        if age > self._limits.partial_age_s:
            raise RemoteProtocolError("chunk.partial_age", f"message unfinished for {age:.0f} s")
