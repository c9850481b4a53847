"""A connection that encoders and players make to us: bytes in, deadlines, the closing.

`IngestProtocol` moves bytes and time; what a publisher or a player *is* lives in `publisher.py` and `playback.py`.
The rules it guards: every phase has a deadline that does not restart with each byte, a refusal is said before the
connection is closed, closing never waits for a peer that does not read, and one line is logged per closed connection.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, ISSLTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.net.admission import Bucket
from relay.net.door import Door
from relay.net.hearing import Hearing
from relay.net.playback import Playback
from relay.net.publisher import Publisher
from relay.net.sockets import tcp_of, tune
from relay.net.tls import classify_tls_failure
from relay.rtmp.events import (
    ConnectRequested,
    Event,
    HandshakeCompleted,
    Message,
    PlayEnded,
    PlayGated,
    PlayRequested,
    PublishEnded,
    PublishRequested,
)
from relay.rtmp.server import ServerConnection

if TYPE_CHECKING:
    from relay.net.admission import Ticket

LINGER_S = 1.0
"""After a refusal the peer has this long to read it and close; then we abort. Closing at once would reset the
connection while the peer still sends, and the reset would swallow the text of the refusal."""

ROLES, ROLES_PER_S = 10, 1.0
"""Publishes and plays that one connection may begin at once, and a second. A play is a hundred bytes for them and a
whole group of pictures for us."""


@implementer(IHandshakeListener, IHalfCloseableProtocol)
class IngestProtocol(Protocol):
    """One RTMP connection, server side."""

    noisy = False

    def __init__(self, door: Door, ticket: Ticket, *, tls: bool) -> None:
        limits = door.limits
        self.door = door
        self.tls = tls
        self.connection_id = door.next_connection_id()
        self.peer = ""
        self.flash_ver = ""
        self.closed = False
        self.rtmp = ServerConnection(
            random=os.urandom, limits_before=limits.wire_before(), limits_after=limits.wire_after()
        )
        self.ticket = ticket
        self.role: Publisher | Playback | None = None
        self._seconds = door.clock.seconds
        self._moderation = door.moderation
        self.hearing = Hearing(self, door.clock, limits.parse_ms_per_turn / 1000)
        self._hear = self.hearing.hear
        self._phase = "tls" if tls else "handshake"
        self._age = 0.0
        self._linger_s = LINGER_S
        self._bytes_in = 0
        self._roles = Bucket(ROLES_PER_S, ROLES, self._seconds())

    # Twisted's side.

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self.peer = str(transport.getPeer().host)
        self.door.accepted += 1
        tune(transport)
        self.door.connections.add(self)
        self.door.watch.add(self)

    def handshakeCompleted(self) -> None:
        if not self.closed:
            self._enter("handshake")

    def dataReceived(self, data: bytes) -> None:
        if self.closed:
            return
        self._bytes_in += len(data)
        self._moderation.reads += self.hearing.trusted  # five hundred players acknowledge at once: no load
        self._hear(data)

    def take(self, events: Iterable[Event], now: float) -> None:
        """Act on what the peer said, in order; media goes straight to the role."""
        role = self.role
        for event in events:
            if type(event) is Message:
                if role is not None:
                    role.media(event, now)
            else:
                self._dispatch(event, now)
                role = self.role
                if self.closed:
                    return

    def readConnectionLost(self) -> None:
        """The peer half-closed: nothing more will come, so neither role has a use for the other half."""
        self.hearing.end()
        self.closed = True
        self._leave("closed")
        transport: Any = self.transport
        transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """We half-closed after a refusal; the peer may still be reading it."""

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008 - Twisted's signature
        handshaking = self.tls and self._phase == "tls"
        code, text = classify_tls_failure(reason, handshaking)
        if code and not self.closed:
            self._report(code, text)
        self.hearing.end()
        self.closed = True
        self._leave("closed")
        self.door.watch.discard(self)
        self.door.connections.discard(self)
        self.door.admission.release(self.ticket)

    def trust(self) -> None:
        """The peer may publish: its bytes are read as they come, and under load together with those of others."""
        self.hearing.trust()
        tcp = tcp_of(self.transport)
        if tcp is not None:
            self._moderation.encoders.adopt(tcp)

    # Deadlines.

    def tick(self, seconds: float) -> None:
        """Count *seconds* of running time."""
        self._age += seconds
        if self.closed:
            if self._age >= self._linger_s:
                self._abort()
            return
        if self.role is not None and self.role.granted:
            self.role.tick(seconds)
            return
        limit, code = self._deadline()
        if self._age >= limit:
            self.refuse(code, f"no progress within {limit:g} s in phase {self.phase}")

    def _deadline(self) -> tuple[float, str]:
        limits = self.door.limits
        if self._phase == "tls":
            return limits.tls_handshake_s, "tls.timeout"
        if self._phase == "handshake":
            return limits.handshake_s, "hs.timeout"
        return limits.command_s, "cmd.timeout"

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self._age = 0.0

    def waiting_again(self) -> None:
        """The role ended but the connection stays (deleteStream): the command deadline runs again."""
        self.role = None
        self.door.admission.deauthorize(self.ticket)
        self._enter("command")

    # What the peer asks.

    def _dispatch(self, event: object, now: float) -> None:
        match event:
            case HandshakeCompleted():
                self._enter("command")
            case ConnectRequested():
                self._connect(event, now)
            case PublishRequested():
                publisher = Publisher(self, event.stream_id)
                self._begin(publisher, publisher.request(event), now)
            case PlayRequested():
                playback = Playback(self, event.stream_id)
                self._begin(playback, playback.request(event), now)
            case PublishEnded():
                if self.role is not None:
                    self.role.leave("unpublished")
                    self.waiting_again()
            case PlayEnded():
                self._play_ended()
            case PlayGated():
                if isinstance(self.role, Playback):
                    self.role.gate(event)

    def _play_ended(self) -> None:
        if isinstance(self.role, Playback) and self.role.mid_message:
            self.close("closed")
        elif self.role is not None:
            self.role.leave("closed")
            self.waiting_again()

    def _connect(self, event: ConnectRequested, now: float) -> None:
        self.flash_ver = event.flash_ver
        app = event.app.partition("/")[0]
        if self.door.apps and app not in self.door.apps:
            wanted = " or ".join(f"/{name}" for name in self.door.apps)
            self.rtmp.reject_connect(f"unknown application; this relay serves {wanted}")
            self.send(self.rtmp.data_to_send())
            self.refuse("connect.unknown_app", "the application in the URL is not served here")
            return
        self.take(self.rtmp.accept_connect(), now)

    def _begin(self, role: Publisher | Playback, request: Coroutine[Any, Any, None], now: float) -> None:
        if not self._roles.take(now):
            request.close()
            self.refuse("cmd.flood", "publishes or plays again and again on one connection")
            return
        self.role = role
        self.door.spawn(f"authorisation of {self.connection_id}", request)

    # What we say.

    def send(self, data: bytes) -> None:
        """Write protocol bytes in order with whatever the role sends."""
        if not data:
            return
        if isinstance(self.role, Playback) and self.role.player is not None:
            self.role.player.send_control(data)
        else:
            transport: Any = self.transport
            transport.write(data)

    def flush(self) -> None:
        """Send what the protocol core has queued."""
        self.send(self.rtmp.data_to_send())

    # Closing.

    def refuse(self, code: str, text: str, answer: bytes = b"") -> None:
        """Close for a protocol error, a limit or a denial: one line, one count, the answer, then the close."""
        if self.closed:
            return
        self._report(code, text)
        self.close(code, answer)

    def close(self, reason: str, answer: bytes = b"", *, linger_s: float = LINGER_S) -> None:
        """Say *answer*, stop taking part, and be gone after at most *linger_s*."""
        if self.closed:
            return
        self.closed = True
        self._linger_s = linger_s
        self._leave(reason)
        transport: Any = self.transport
        if answer:
            transport.write(answer)
        if ISSLTransport.providedBy(transport):
            transport.loseConnection()
        else:
            transport.loseWriteConnection()
        self._age = 0.0
        self.door.watch.add(self)

    def shut_down(self) -> None:
        """The relay stops. A player is told by the end of its stream, everybody else has nothing to wait for."""
        if not (isinstance(self.role, Playback) and self.role.granted):
            self.close("shutdown")

    def lost_player(self, code: str) -> None:
        """The player's socket failed or it flooded us: nothing more can be said to it."""
        if code == "closed":
            self._leave(code)
            self._abort()
        else:
            self.drop_player(code, "the peer does not read")

    def drop_player(self, code: str, text: str) -> None:
        """Close a player in the middle of a message: no answer could be read, so there is none."""
        if not self.closed:
            self._report(code, text)
            self._leave(code)
            self._abort()

    def _leave(self, reason: str) -> None:
        role, self.role = self.role, None
        if role is not None:
            role.leave(reason)

    def _abort(self) -> None:
        self.closed = True
        transport: Any = self.transport
        transport.abortConnection()

    @property
    def phase(self) -> str:
        """How far the peer got: tls, handshake, connect, command, publish or play."""
        return self._phase if self._phase in ("tls", "handshake") else self.rtmp.phase

    def _report(self, code: str, text: str) -> None:
        self.door.report_refusal(self.connection_id, self.peer, self.phase, code, text, bytes_in=self._bytes_in)
