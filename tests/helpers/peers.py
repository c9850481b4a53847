"""Encoders, players and destinations on real sockets, made of our own sans-I/O connections."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, Literal

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from relay import amf0
from relay.media.packets import Packet
from relay.rtmp import messages as m
from relay.rtmp.client import ClientConnection
from relay.rtmp.events import (
    ConnectRequested,
    Event,
    Message,
    PlayAccepted,
    PlayRefused,
    PublishAccepted,
    PublishEnded,
    PublishRefused,
    PublishRequested,
)
from relay.rtmp.framing import CHUNK_SIZE, frame
from relay.rtmp.server import ServerConnection
from relay.secret import Secret
from tests.helpers.reactor import OPEN, reactor, until


class Caller(Protocol):
    """The client side of one connection to a relay: an encoder or a player."""

    def __init__(self, role: Literal["publish", "play"], name: str, app: str = "live") -> None:
        self.rtmp = ClientConnection(
            role=role, app=app, tc_url=Secret(f"rtmp://relay.example/{app}"), name=Secret(name), random=os.urandom
        )
        self.events: list[Event] = []
        self.messages: list[Message] = []
        self.raw = bytearray()
        """Every byte that arrived after the play was accepted, if `keep_raw`."""
        self.keep_raw = False
        self.closed: Failure | None = None

    def connectionMade(self) -> None:
        OPEN.add(self)
        self.tcp.setTcpNoDelay(True)
        self.rtmp.start()
        self.flush()

    def flush(self) -> None:
        data = self.rtmp.data_to_send()
        if data:
            self.tcp.write(data)

    @property
    def tcp(self) -> Any:
        return self.transport

    def dataReceived(self, data: bytes) -> None:
        if self.keep_raw and self.has(PlayAccepted):
            self.raw += data
        for event in self.rtmp.receive_data(data, reactor.seconds()):
            if isinstance(event, Message):
                self.messages.append(event)
            else:
                self.events.append(event)
        self.flush()

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008 - Twisted's signature
        self.closed = reason
        OPEN.discard(self)

    def has(self, kind: type) -> bool:
        """Whether an event of this class came."""
        return any(isinstance(event, kind) for event in self.events)

    def of(self, kind: type) -> list[Any]:
        """The events of one class."""
        return [event for event in self.events if isinstance(event, kind)]

    def send(self, *packets: Packet) -> None:
        """Publish packets, as an encoder does."""
        self.tcp.write(b"".join(self.rtmp.send_media(one.kind, one.dts, one.body) for one in packets))

    @property
    def media(self) -> list[tuple[int, int, bytes]]:
        """(type, timestamp, body) of the audio and video that arrived."""
        return [(one.type_id, one.timestamp, one.payload) for one in self.messages if one.type_id in (m.AUDIO, m.VIDEO)]

    def command(self, name: str, *values: amf0.Value, transaction: float = 0.0, msid: int = 1) -> None:
        """Send one command by hand."""
        body = amf0.encode(name, transaction, None, *values)
        self.tcp.write(frame(3, 0, m.COMMAND, msid, body, CHUNK_SIZE))

    def said(self, code: str) -> str:
        """The description that came with a refusal or a status of this code; empty when none came."""
        found = [event.description for event in self.events if getattr(event, "code", "") == code]
        return found[0] or "(nothing)" if found else ""

    def drop(self) -> None:
        """Vanish with a reset."""
        self.tcp.abortConnection()


async def call(port: int, caller: Caller, bind: str = "") -> Caller:
    """Connect *caller* to a relay on this machine."""
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port, bindAddress=(bind, 0) if bind else None)
    await connectProtocol(endpoint, caller)
    return caller


async def encoder(port: int, key: str = "primary", app: str = "live") -> Caller:
    """An encoder that is on air."""
    caller = await call(port, Caller("publish", key, app))
    await until(lambda: caller.has(PublishAccepted) or caller.has(PublishRefused) or caller.closed, "publish answered")
    assert caller.has(PublishAccepted), caller.events
    return caller


async def viewer(port: int, name: str = "show") -> Caller:
    """A player that was let in."""
    caller = await call(port, Caller("play", name))
    await until(lambda: caller.has(PlayAccepted) or caller.has(PlayRefused) or caller.closed, "play answered")
    assert caller.has(PlayAccepted), caller.events
    return caller


@implementer(IHandshakeListener)
class DestinationConnection(Protocol):
    """One connection that a platform accepted."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.rtmp = ServerConnection(random=os.urandom)
        self.bytes_in = 0
        self.events: list[Event] = []
        self.messages: list[Message] = []
        self.closed: Failure | None = None
        self.secure = False

    @property
    def tcp(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        OPEN.add(self)
        self.platform.connections.append(self)
        self.platform.connected(self)

    def handshakeCompleted(self) -> None:
        self.secure = True

    def dataReceived(self, data: bytes) -> None:
        self.bytes_in += len(data)
        if self.platform.mute:
            return
        self.take(self.rtmp.receive_data(data, reactor.seconds()))
        self.flush()

    def take(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Message):
                self.messages.append(event)
                continue
            self.events.append(event)
            self.platform.answer(self, event)

    def flush(self) -> None:
        data = self.rtmp.data_to_send()
        if data:
            self.tcp.write(data)

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008 - Twisted's signature
        self.closed = reason
        OPEN.discard(self)

    @property
    def published(self) -> list[PublishRequested]:
        return [event for event in self.events if isinstance(event, PublishRequested)]

    @property
    def unpublished(self) -> bool:
        return any(isinstance(event, PublishEnded) for event in self.events)

    @property
    def media(self) -> list[tuple[int, int, bytes]]:
        """(type, timestamp, body) of what arrived."""
        return [(one.type_id, one.timestamp, one.payload) for one in self.messages]


class Platform(Factory):
    """A destination: takes every publish unless a test gives it other manners."""

    noisy = False

    def __init__(self) -> None:
        self.connections: list[DestinationConnection] = []
        self.mute = False
        self.refuse: tuple[str, str] | None = None
        self.connected: Callable[[DestinationConnection], None] = lambda _: None

    def buildProtocol(self, addr: object) -> DestinationConnection:
        return DestinationConnection(self)

    def answer(self, connection: DestinationConnection, event: Event) -> None:
        """Say yes, or what `refuse` says."""
        if isinstance(event, ConnectRequested):
            connection.take(connection.rtmp.accept_connect())
        elif isinstance(event, PublishRequested):
            if self.refuse is not None:
                connection.rtmp.reject_publish(event.stream_id, *self.refuse)
            else:
                connection.take(connection.rtmp.accept_publish(event.stream_id))

    @property
    def last(self) -> DestinationConnection:
        """The newest connection."""
        return self.connections[-1]

    def hang_up(self) -> None:
        """Reset every connection."""
        for connection in self.connections:
            if connection.closed is None:
                connection.tcp.abortConnection()


def fired(deferred: Deferred[Any]) -> list[Any]:
    """Return a list that holds the result as soon as there is one."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    return results
