"""The server's side of one connection to a fake platform: `PlatformConnection`. See `relay.testing_platforms`."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IPullProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.media.flv import FlvDemuxer
from relay.media.packets import MediaKind, Role
from relay.net.sockets import socket_of
from relay.rtmp import commands
from relay.rtmp.errors import RemoteProtocolError
from relay.rtmp.events import ConnectRequested, Event, Message, PublishEnded, PublishRequested
from relay.rtmp.framing import CHUNK_SIZE
from relay.rtmp.messages import AUDIO, VIDEO
from relay.testing_faults import Fault, OddServerConnection, Stage, deep_error, flood_status
from relay.testing_received import Received, Session, digest

if TYPE_CHECKING:
    from relay.testing_platforms import FakePlatform

SLOW_BUFFER = 32 * 1024
"""What the kernel may take in the place of a platform that reads slowly; left alone it takes megabytes."""
MEGABYTE = 1_000_000
NOISE = b"\x00no TLS record begins like this"
HTTP_ANSWER = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

_DEFAULT_PORT = re.compile(r"(rtmps://[^/]*:443|rtmp://[^/]*:1935)(/|$)")


class RecordingConnection(OddServerConnection):
    """A server that writes down the commands it gets."""

    def __init__(self, session: Session, chunk_size: int) -> None:
        super().__init__(random=os.urandom, chunk_size=chunk_size)
        self._session = session

    def _command(self, message: Message, events: list[Event]) -> None:
        with contextlib.suppress(RemoteProtocolError):  # what cannot be read is for the server to say
            command = commands.read(message)
            if command is not None:
                self._session.note(command)
        super()._command(message, events)


@implementer(IHandshakeListener)
class PlatformConnection(Protocol):
    """One connection that a fake platform accepted.

    Attributes:
        session: what came, for checkers.
        publishing: whether it is on air.
        gone: fires when the connection is closed.
    """

    def __init__(self, platform: FakePlatform, session: Session) -> None:
        self.session = session
        self.publishing = False
        self.gone: Deferred[None] = Deferred()
        self._platform = platform
        self._accept = {fault.name for fault in platform.at(Stage.ACCEPT)}
        odd = {fault.name: fault for fault in platform.at(Stage.CONNECT)}
        self._odd = odd
        self._rtmp = RecordingConnection(session, 1 if "tiny-chunks" in odd else CHUNK_SIZE)
        self._rtmp.acks = odd["acks"].value if "acks" in odd else ""
        self._demuxer = FlvDemuxer()
        self._timers: list[IDelayedCall] = []
        self._kbit = 0.0
        self._dead = False
        self._over = False

    @property
    def _tcp(self) -> Any:
        return self.transport

    # Twisted's side.

    def connectionMade(self) -> None:
        self._platform.connections[self] = None

    def handshakeCompleted(self) -> None:
        self.session.secure = True

    def dataReceived(self, data: bytes) -> None:
        if self._accept:
            self._misbehave(data)
            return
        self.session.bytes_in += len(data)
        if self._kbit:
            self._tcp.pauseProducing()
            self._later(len(data) * 8 / 1000 / self._kbit, self._read_on)
        if self._over:
            return
        try:
            self._take(self._rtmp.receive_data(data, self._now()))
        except RemoteProtocolError as error:
            self._flush()
            self._tcp.write(error.answer)
            self.end()
            return
        self._flush()

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008 - Twisted's signature
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        session = self.session
        self._platform.connections.pop(self, None)
        session.closed_at = self._now()
        if not session.close:
            done = reason.check(ConnectionDone) is not None
            session.close = "clean" if session.clean else "fin" if done else "reset"
        self._leave(clean=False)
        self._platform.on_event("closed", session)
        self.gone.callback(None)

    def _now(self) -> float:
        now: float = self._platform.reactor.seconds()
        return now

    def _later(self, seconds: float, do: Any, *arguments: object) -> None:
        self._timers = [timer for timer in self._timers if timer.active()]
        self._timers.append(self._platform.reactor.callLater(seconds, do, *arguments))

    def _flush(self) -> None:
        data = self._rtmp.data_to_send()
        if data and not self._over:
            self._tcp.write(data)

    def _misbehave(self, data: bytes) -> None:
        """A fault before the first RTMP byte."""
        if "silent" in self._accept:
            self.session.bytes_in += len(data)
            return
        if "http" in self._accept:
            self.session.bytes_in += len(data)
            self._tcp.write(HTTP_ANSWER)
        elif "tls-garbage" in self._accept:
            self._tcp.write(NOISE)
        else:
            self._tcp.write(self._platform.half_hello(data))
        self.end()

    # The conversation.

    def _take(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Message():
                    self._record(event)
                case ConnectRequested():
                    self._connect(event)
                case PublishRequested():
                    self._publish(event)
                case PublishEnded():
                    self._leave(clean=True)
                case _:
                    pass

    def _record(self, message: Message) -> None:
        if not self.publishing:
            return
        at = self._now()
        packets = self._demuxer.read_many(message.type_id, message.timestamp, message.payload)
        media = self.session.media
        media += [Received.of(packet, message.timestamp, at) for packet in packets]
        if not packets:  # nothing that the demuxer passes on; it came all the same
            kind = MediaKind(message.type_id) if message.type_id in (AUDIO, VIDEO) else MediaKind.DATA
            body = message.payload
            media.append(Received(kind, message.timestamp, False, Role.OTHER, len(body), digest(body), at))

    def _connect(self, event: ConnectRequested) -> None:
        manners = self._platform.manners
        if "mute" in self._odd:
            return
        if "deep-amf" in self._odd:
            self._flush()
            self._tcp.write(deep_error())
            return
        if not manners.default_port_in_tc_url and _DEFAULT_PORT.match(event.tc_url.reveal()):
            self._refuse_connect("The tcUrl must not name a port.")
        elif manners.app and event.app.partition("/")[0] != manners.app:
            self._refuse_connect("There is no such app.", "NetConnection.Connect.InvalidApp")
        elif self._platform.redirect:
            self._refuse_connect("RTMP 302 Redirect", redirect=self._platform.redirect)
        elif self._platform.guard is not None and (refusal := self._platform.guard.refusal(event)):
            self._refuse_connect(refusal)
        else:
            self._take(self._rtmp.accept_connect())

    def _refuse_connect(
        self, description: str, code: str = "NetConnection.Connect.Rejected", *, redirect: str = ""
    ) -> None:
        self._rtmp.reject_connect(description, code, redirect=redirect)
        self._refused()

    def _publish(self, event: PublishRequested) -> None:
        session, platform, msid = self.session, self._platform, event.stream_id
        manners = platform.manners
        session.key = event.name
        session.backup = manners.backup and _is(event, "backup", "1")
        session.test = _is(event, "bandwidthtest", "true")
        known = platform.knows(session.key) or platform.knows(session.name)
        rivals = platform.rivals(session)
        if manners.live_only and session.publish_type != "live":
            self._refuse(msid, "NetStream.Publish.Rejected", "The publish type must be live.")
        elif not known and manners.wrong_key == "status":
            self._refuse(msid, "NetStream.Publish.BadName", "The stream key is not valid.")
        elif not known:
            self._over_soon(msid)
        elif rivals and manners.second == "refuse":
            self._refuse(msid, "NetStream.Publish.BadName", "Already publishing.")
        else:
            for rival in rivals if manners.second == "replace" else ():
                rival.end()
            self._go_live(msid)

    def _refuse(self, msid: int, code: str, description: str) -> None:
        self._rtmp.reject_publish(msid, code, description)
        self._refused()

    def _refused(self) -> None:
        self._flush()
        self._platform.on_event("refused", self.session)
        self.end()

    def _over_soon(self, msid: int) -> None:
        """A wrong key where nobody says so: granted, and closed without a word."""
        self._rtmp.accept_publish(msid)
        self._flush()
        self._platform.on_event("refused", self.session)
        self._later(self._platform.manners.wrong_key_s, self.end)

    def _go_live(self, msid: int) -> None:
        self.publishing = True
        self.session.live_at = self._now()
        self._platform.go_on_air(self.session)
        self._take(self._rtmp.accept_publish(msid))
        self._flush()
        if self._platform.manners.audio_within_s:
            self._later(self._platform.manners.audio_within_s, self._want_sound)
        self._platform.on_event("live", self.session)
        for fault in self._platform.at(Stage.LIVE):
            self.suffer(fault)

    def _want_sound(self) -> None:
        if self.publishing and not self.session.of(MediaKind.AUDIO):
            self.end()

    def _leave(self, *, clean: bool) -> None:
        if self.publishing:
            self.publishing = False
            self._platform.go_off_air(self.session, clean=clean)

    def ask_to_reconnect(self, description: str, tc_url: str) -> bool:
        """Send a request to reconnect; False when there is no publisher here that understands it."""
        asked = self.publishing and self._rtmp.request_reconnect(description, tc_url)
        self._flush()
        return asked

    def end(self, *, abort: bool = False) -> None:
        """Close the connection without a word; *abort* resets it."""
        self._over = True
        self.session.close = self.session.close or "platform"
        if abort:
            self._tcp.abortConnection()
        else:
            self._tcp.loseConnection()

    # Faults.

    def suffer(self, fault: Fault) -> None:
        """Begin a fault, now or later; nothing while nobody publishes."""
        if self.publishing:
            if fault.after_s:
                self._later(fault.after_s, self._begin, fault)
            else:
                self._begin(fault)

    def _begin(self, fault: Fault) -> None:
        if self._over:
            return
        match fault.name:
            case "stall":
                self._small_buffer()
                self._tcp.pauseProducing()
            case "slow":
                self._small_buffer()
                self._kbit = max(fault.number, 0.001)
            case "half-open":
                self._dead = True
                self._tcp.pauseProducing()
            case "half-close":
                sock = socket_of(self.transport)
                if sock is not None:
                    sock.shutdown(socket.SHUT_WR)
            case "flood":
                body = flood_status(self._rtmp.publishing or 1, CHUNK_SIZE)
                self._tcp.registerProducer(_Flood(self._tcp, body, int(fault.number * MEGABYTE)), False)
            case _:
                self.end(abort=fault.name == "reset")

    def _small_buffer(self) -> None:
        sock = socket_of(self.transport)
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)

    def recover(self) -> None:
        """Read on at full speed."""
        self._kbit = 0.0
        self._read_on()

    def _read_on(self) -> None:
        if not self._dead:
            self._tcp.resumeProducing()


def _is(event: PublishRequested, name: str, value: str) -> bool:
    found = event.query.get(name)
    return found is not None and found.reveal() == value


@implementer(IPullProducer)
class _Flood:
    """Sends the same message again and again, as fast as it is taken."""

    def __init__(self, transport: Any, body: bytes, total: int) -> None:
        self._transport = transport
        self._body = body
        self._left = total

    def resumeProducing(self) -> None:
        if self._left <= 0:
            self._transport.unregisterProducer()
            return
        self._left -= len(self._body)
        self._transport.write(self._body)

    def stopProducing(self) -> None:
        self._left = 0
