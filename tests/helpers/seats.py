"""Players of one audience, over loopback sockets or over a socket that takes as much as the test allows."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any

from relay.media.packets import MediaKind, Packet
from relay.net.audience import Audience
from relay.net.player import Player
from relay.net.sockets import tune
from relay.rtmp.chunks import ChunkReader
from relay.rtmp.events import Message
from relay.rtmp.framing import CHUNK_SIZE, frame
from relay.rtmp.limits import AFTER_AUTH
from tests.helpers.reactor import NetTestCase
from tests.helpers.streams import End, socket_pair
from tests.helpers.tls import Authority, tls_pair
from tests.stream import media

SMALL_BUFFER = 64 * 1024
SERIAL_AT = 6


def picture(serial: int, dts: int, *, key: bool = False, size: int = 400) -> Packet:
    """A picture that tells its number."""
    return _numbered(media.video(dts, key, size=size), serial)


def sound(serial: int, dts: int, *, size: int = 60) -> Packet:
    """An audio frame that tells its number."""
    return _numbered(media.audio(dts, size=size), serial)


def _numbered(packet: Packet, serial: int) -> Packet:
    body = bytearray(packet.body)
    body[SERIAL_AT : SERIAL_AT + 4] = serial.to_bytes(4, "big")
    packet.body = bytes(body)
    return packet


def serial_of(message: Message) -> int:
    """The number in a picture or an audio frame."""
    return int.from_bytes(message.payload[SERIAL_AT : SERIAL_AT + 4], "big")


def is_key(message: Message) -> bool:
    """Whether a message is a key picture."""
    return message.type_id == MediaKind.VIDEO and message.payload[:2] == b"\x17\x01"


def is_header(message: Message) -> bool:
    """Whether a message is a sequence header."""
    return message.payload[:2] in (b"\x17\x00", b"\xaf\x00")


def parse(data: bytes, *, whole: bool = True) -> list[Message]:
    """Read a chunk stream as a player does; when *whole* it must end at the end of a message."""
    reader = ChunkReader(AFTER_AUTH)
    reader.receive(frame(2, 0, 1, 0, CHUNK_SIZE.to_bytes(4, "big"), 128), 0.0)
    messages = reader.receive(data, 0.0)
    if not whole:
        return messages
    assert reader.partial_bytes == 0, "the stream ends inside a message"
    assert reader.receive(frame(5, 0, 20, 0, b"probe", CHUNK_SIZE), 0.0)[0].payload == b"probe", "a header is cut"
    return messages


def frames_of(messages: list[Message]) -> list[Message]:
    """Pictures and sound without headers, metadata and control messages."""
    return [one for one in messages if one.type_id in (8, 9) and not is_header(one)]


def check_programme(messages: list[Message], *, with_video: bool = True) -> list[int]:
    """Check what a player may rely on: in order, nothing twice, a keyframe after each gap. Return the numbers."""
    frames = frames_of(messages)
    numbers = [serial_of(one) for one in frames]
    assert numbers == sorted(set(numbers)), f"out of order or twice: {numbers}"
    if with_video:
        for before, after in zip([None, *frames], frames, strict=False):
            if before is None or serial_of(after) != serial_of(before) + 1:
                assert is_key(after), f"number {serial_of(after)} follows a gap and is no keyframe"
    return numbers


@dataclass(eq=False)
class Seat:
    """One player and what it got."""

    audience: Audience
    server: End
    client: End
    lost: list[str] = field(default_factory=list)
    ended: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.player = Player(
            self.server.transport,
            self.audience,
            on_lost=self._lost,
            on_ended=lambda: self.ended.append(True),
        )

    def _lost(self, code: str) -> None:
        self.lost.append(code)
        self.player.leave()

    def sit(self) -> Seat:
        """Join."""
        self.audience.join(self.player)
        return self

    @property
    def bytes(self) -> bytes:
        """What the peer received."""
        return bytes(self.client.received)

    @property
    def messages(self) -> list[Message]:
        """What the peer received, read."""
        return parse(self.bytes)

    @property
    def newest(self) -> int:
        """Number of the newest frame that arrived so far, -1 before the first."""
        frames = frames_of(parse(self.bytes, whole=False))
        return serial_of(frames[-1]) if frames else -1

    def stop_reading(self) -> None:
        """Read nothing more, with a small buffer, as a peer that hangs."""
        transport: Any = self.client.transport
        transport = getattr(transport, "transport", transport)
        transport.pauseProducing()

    def read_on(self) -> None:
        """Read again."""
        transport: Any = self.client.transport
        getattr(transport, "transport", transport).resumeProducing()

    @property
    def held(self) -> int:
        """Bytes that Twisted holds for the peer: copies."""
        transport: Any = self.server.transport
        transport = getattr(transport, "transport", transport)
        return len(transport.dataBuffer) + transport._tempDataLen


async def take_seat(test: NetTestCase, audience: Audience, *, tls: bool = False) -> Seat:
    """Connect a peer, with small buffers, and make a player for it."""
    server, client = await (tls_pair(test, Authority(test.tmp_path)) if tls else socket_pair(test))
    raw: Any = client.transport
    raw = getattr(raw, "transport", raw)
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    tune(server.transport)
    seat = Seat(audience, server, client)
    test.later(seat.player.leave)
    return seat


class Valve:
    """A TCP transport whose kernel takes `room` bytes; what it took is in `taken`."""

    def __init__(self) -> None:
        self.room = 0
        self.taken = bytearray()
        self.dead = False
        self.wants_to_write = False
        self.producer: Any = None
        self._tempDataLen = 0
        self.dataBuffer = b""
        self.offset = 0

    def getHandle(self) -> Valve:
        return self

    def sendmsg(self, pieces: list[bytes]) -> int:
        return self.send(b"".join(pieces))

    def send(self, data: bytes) -> int:
        if self.dead:
            raise ConnectionResetError
        if not self.room:
            raise BlockingIOError
        part = bytes(data[: self.room])
        self.room -= len(part)
        self.taken += part
        return len(part)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def startWriting(self) -> None:
        self.wants_to_write = True

    def open(self, room: int) -> None:
        """The peer reads *room* bytes."""
        self.room += room
        if self.wants_to_write and self.producer is not None:
            self.wants_to_write = False
            self.producer.resumeProducing()


def valve_seat(audience: Audience) -> tuple[Seat, Valve]:
    """A player behind a valve."""
    valve = Valve()
    server = End()
    server.transport = valve
    client = End()
    client.received = valve.taken
    return Seat(audience, server, client), valve
