"""Two ends in one process: `ConnectionPair` joins our client with our server; `Peer` speaks to one of ours by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from relay import amf0
from relay.rtmp import framing
from relay.rtmp.chunks import ChunkReader
from relay.rtmp.client import ClientConnection
from relay.rtmp.events import ConnectRequested, Event, Message, PlayRequested, PublishRequested
from relay.rtmp.limits import AFTER_AUTH
from relay.rtmp.server import ServerConnection
from relay.secret import Secret

HANDSHAKE_SIZE = 1 + 1536 + 1536


def fixed_random(count: int) -> bytes:
    """Stand in for `os.urandom`: the same bytes every time."""
    return bytes(index * 7 + 3 & 0xFF for index in range(count))


def accept(server: ServerConnection, event: Event) -> list[Event]:
    """Say yes to every question; return the events that waited behind the answer."""
    match event:
        case ConnectRequested():
            return server.accept_connect()
        case PublishRequested(stream_id=stream_id):
            return server.accept_publish(stream_id)
        case PlayRequested(stream_id=stream_id):
            return server.accept_play(stream_id)
    return []


def accept_all(server: ServerConnection, events: list[Event]) -> list[Event]:
    """Say yes to every question in *events* and in what follows; return all events in order."""
    seen: list[Event] = []
    queue = list(events)
    while queue:
        event = queue.pop(0)
        seen.append(event)
        queue[:0] = accept(server, event)
    return seen


@dataclass
class ConnectionPair:
    """Our client connected to our server; `pump` carries bytes both ways until neither has more to say.

    With *answer* None the server's questions stay open: answer them and pump again.
    """

    role: Literal["publish", "play"] = "publish"
    app: str = "live"
    name: str = "key"
    piece: int = 0
    answer: Callable[[ServerConnection, Event], list[Event]] | None = accept
    options: dict[str, Any] = field(default_factory=dict)
    now: float = 100.0

    def __post_init__(self) -> None:
        tc_url = Secret(f"rtmp://relay.example/{self.app}")
        self.server = ServerConnection(random=fixed_random)
        self.client = ClientConnection(
            role=self.role, app=self.app, tc_url=tc_url, name=Secret(self.name), random=fixed_random, **self.options
        )
        self.server_events: list[Event] = []
        self.client_events: list[Event] = []
        self.client.start()

    def pump(self, to_server: bytes = b"") -> ConnectionPair:
        """Carry *to_server*, and everything that follows from it."""
        to_client = b""
        while True:
            to_server += self.client.data_to_send()
            to_client += self.server.data_to_send()
            if not to_server and not to_client:
                return self
            for part in self._cut(to_server):
                self._serve(self.server.receive_data(part, self.now))
            for part in self._cut(to_client):
                self.client_events += self.client.receive_data(part, self.now)
            to_server = to_client = b""

    def _serve(self, events: list[Event]) -> None:
        queue = list(events)
        while queue:
            event = queue.pop(0)
            self.server_events.append(event)
            if self.answer is not None:
                queue[:0] = self.answer(self.server, event)

    def _cut(self, data: bytes) -> list[bytes]:
        size = self.piece or len(data) or 1
        return [data[start : start + size] for start in range(0, len(data), size)]


class Peer:
    """The other end of one of our connections, message by message, with none of our manners."""

    def __init__(self, connection: ServerConnection | ClientConnection) -> None:
        self.connection = connection
        self.now = 100.0
        self.events: list[Event] = []
        self._reader = ChunkReader(AFTER_AUTH)
        self._shaken = False

    def handshake(self) -> Peer:
        """Go through the handshake; works against both roles."""
        if isinstance(self.connection, ClientConnection):
            self.connection.start()
        self.raw(b"\x03" + fixed_random(1536) + fixed_random(1536))
        return self

    def raw(self, data: bytes) -> list[Event]:
        """Send *data*; return the events."""
        events = self.connection.receive_data(data, self.now)
        self.events += events
        return events

    def message(self, type_id: int, body: bytes, msid: int = 0, timestamp: int = 0) -> list[Event]:
        """Send one message; return the events."""
        return self.raw(self.frame(type_id, body, msid, timestamp))

    @staticmethod
    def frame(type_id: int, body: bytes, msid: int = 0, timestamp: int = 0) -> bytes:
        """Return one message in chunks of 128 bytes."""
        return framing.frame(2 if type_id < 7 else 3, timestamp, type_id, msid, body, 128)

    def command(self, name: amf0.Value, transaction: float, *values: amf0.Value, msid: int = 0) -> list[Event]:
        """Send one AMF0 command; return the events."""
        return self.message(20, amf0.encode(name, transaction, *values), msid)

    def messages(self) -> list[Message]:
        """Return the messages that our side sent since the last call, its handshake left out."""
        data = self.connection.data_to_send()
        if not self._shaken:
            data = data[HANDSHAKE_SIZE:]
            self._shaken = True
        return self._reader.receive(data, self.now)

    def read(self, answer: bytes) -> list[list[Any]]:
        """Decode the commands in *answer*, bytes of our side that came another way."""
        return self._commands(self._reader.receive(answer, self.now))

    def replies(self) -> list[list[Any]]:
        """Return the commands that our side sent since the last call, decoded."""
        return self._commands(self.messages())

    @staticmethod
    def _commands(messages: list[Message]) -> list[list[Any]]:
        return [amf0.decode(message.payload) for message in messages if message.type_id == 20]


def connected(**connect: amf0.Value) -> Peer:
    """A peer whose connect our server has accepted."""
    server = ServerConnection(random=fixed_random)
    peer = Peer(server).handshake()
    properties: dict[str, amf0.Value] = {"app": "live", "tcUrl": "rtmp://relay.example/live"}
    peer.command("connect", 1.0, properties | connect)
    server.accept_connect()
    peer.messages()
    return peer


def asked(name: str = "key", role: str = "publish", **connect: amf0.Value) -> Peer:
    """A peer that asked to publish or play on stream 1."""
    peer = connected(**connect)
    peer.command("createStream", 2.0, None)
    peer.command(role, 3.0, None, name, msid=1)
    peer.messages()
    return peer


def publishing(name: str = "key") -> Peer:
    """A peer that publishes on stream 1."""
    peer = asked(name)
    assert isinstance(peer.connection, ServerConnection)
    peer.connection.accept_publish(1)
    peer.messages()
    return peer


def playing(name: str = "show") -> Peer:
    """A peer that plays on stream 1."""
    peer = asked(name, "play")
    assert isinstance(peer.connection, ServerConnection)
    peer.connection.accept_play(1)
    peer.messages()
    return peer
