"""The FLV container: file header and tags, both ways (FLV 10.1 Annex E). Bytes in, tags out; opens no files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relay.media.errors import MediaError
from relay.media.packets import Packet

SIGNATURE = b"FLV"
HEADER_SIZE = 9
TAG_HEADER_SIZE = 11

MAX_HEADER = 1024
"""DataOffset of the file header. It is 9 in every file there is."""
TIMESTAMP_MASK = 0x7FFF_FFFF
"""FLV timestamps are signed 32 bit numbers, so 31 bits are of use; longer recordings wrap as FFmpeg's do."""


@dataclass(frozen=True, slots=True)
class Tag:
    """One FLV tag; *type_id* and *body* are those of the RTMP message it came from."""

    type_id: int
    timestamp: int
    body: bytes


def file_header(*, audio: bool = True, video: bool = True) -> bytes:
    """Return the file header with PreviousTagSize0."""
    return SIGNATURE + bytes((1, 4 * audio | video, 0, 0, 0, HEADER_SIZE, 0, 0, 0, 0))


def tag(type_id: int, timestamp: int, body: bytes) -> bytes:
    """Write one tag with the PreviousTagSize that follows it."""
    size = len(body)
    if size > 0xFFFFFF:
        raise MediaError("media.too_long", f"{size} bytes do not fit an FLV tag")
    time = timestamp & TIMESTAMP_MASK
    head = bytes((type_id,)) + size.to_bytes(3, "big") + (time & 0xFFFFFF).to_bytes(3, "big") + bytes((time >> 24,))
    return b"".join((head, b"\x00\x00\x00", body, (size + TAG_HEADER_SIZE).to_bytes(4, "big")))


def packet_tag(packet: Packet, start: int = 0) -> bytes:
    """Write a packet's tag; *start* is the stream time at which the file begins."""
    return tag(packet.kind, max(0, packet.dts - start), packet.body)


def write(packets: Iterable[Packet]) -> bytes:
    """Write a whole file."""
    return file_header() + b"".join(packet_tag(packet) for packet in packets)


class FlvReader:
    """Reads an FLV file as its bytes come."""

    __slots__ = ("_buffer", "_started")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._started = False

    def receive(self, data: bytes) -> list[Tag]:
        """Take the next bytes; return the tags they complete. A cut-off tag at the end of a file is never returned.

        Raises:
            MediaError: this is not an FLV file.
        """
        self._buffer += data
        if not self._started and not self._start():
            return []
        tags = []
        buffer, position = self._buffer, 0
        while len(buffer) >= position + TAG_HEADER_SIZE:
            stop = position + TAG_HEADER_SIZE + int.from_bytes(buffer[position + 1 : position + 4], "big")
            if len(buffer) < stop + 4:
                break
            time = int.from_bytes(buffer[position + 4 : position + 7], "big") | buffer[position + 7] << 24
            tags.append(Tag(buffer[position] & 0x1F, time, bytes(buffer[position + TAG_HEADER_SIZE : stop])))
            position = stop + 4
        del buffer[:position]
        return tags

    def _start(self) -> bool:
        """Take the file header off; False while it is incomplete."""
        buffer = self._buffer
        if not SIGNATURE.startswith(buffer[:3]):
            raise MediaError("media.not_flv", "signature is missing")
        if len(buffer) < HEADER_SIZE:
            return False
        offset = int.from_bytes(buffer[5:9], "big")
        if not HEADER_SIZE <= offset <= MAX_HEADER:
            raise MediaError("media.not_flv", f"file header of {offset} bytes")
        if len(buffer) < offset + 4:
            return False
        del buffer[: offset + 4]
        self._started = True
        return True


def read(data: bytes) -> list[Tag]:
    """Return all complete tags of a file."""
    return FlvReader().receive(data)
