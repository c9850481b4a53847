"""What the chunk reader remembers of one chunk stream id. State only; `relay.rtmp.chunks` says what happens to it."""

from __future__ import annotations

from relay.rtmp.framing import basic_header

NEAR = 512
"""Headers looked at first. A read of 64 KiB of the smallest usual chunks has fewer, so an honest message is looked at
once; but when two messages of tiny chunks alternate, a look at all that might follow would take 50 µs a chunk."""


class ChunkStream:
    """What one chunk stream id remembers: its last message header and the message in progress."""

    __slots__ = (
        "again",
        "body",
        "csid",
        "delta",
        "extended",
        "length",
        "marker",
        "missing",
        "payload",
        "since",
        "stream_id",
        "timestamp",
        "type_id",
    )

    def __init__(self, csid: int) -> None:
        self.csid = csid
        self.timestamp = 0
        self.delta = 0
        self.length = 0
        self.type_id = 0
        self.stream_id = 0
        self.extended = b""
        """The extended timestamp field of the last header as it was on the wire; empty when there was none."""
        self.marker = basic_header(3, csid)
        """How a continuation of this chunk stream starts, without and..."""
        self.again = self.marker
        """...with the extended timestamp of the last header."""
        self.missing = 0
        """Bytes to come of the message in progress; 0: there is none."""
        self.body = bytearray()
        """What is there of the message in progress."""
        self.since = 0.0
        """When the message in progress began."""
        self.payload = b""
        """The message that has just become complete."""

    def extend(self, field: bytes) -> None:
        """Note the extended timestamp field of a header, or that it had none."""
        self.extended = field
        self.again = self.marker + field

    def borrow(self, other: ChunkStream) -> None:
        """Take over the message header of another chunk stream."""
        self.timestamp = other.timestamp
        self.delta = other.delta
        self.length = other.length
        self.type_id = other.type_id
        self.stream_id = other.stream_id
        self.extend(other.extended)


def count_markers(data: bytes, first: int, stop: int, marker: bytes, step: int) -> int:
    """Count the headers equal to *marker*, one every *step* bytes from *first*, complete before *stop*, up to the first
    that differs. Looks at no more than `NEAR` of them in vain: at all that follow only when those are equal."""
    near = first + NEAR * step
    if near >= stop:
        return _count_markers(data, first, stop, marker, step)
    count = _count_markers(data, first, near, marker, step)
    if count < NEAR:
        return count
    return count + _count_markers(data, near, stop, marker, step)


def _count_markers(data: bytes, first: int, stop: int, marker: bytes, step: int) -> int:
    count = (stop - first - len(marker)) // step + 1
    for index in range(len(marker)):
        heads = data[first + index : stop : step][:count]
        byte = marker[index : index + 1]
        if heads.count(byte) != len(heads):
            count = len(heads) - len(heads.lstrip(byte))
    return count
