"""One attempt to push: a connection to a destination from its first byte to its last.

`RtmpPush` decides when to connect; a `PushLink` does the RTMP conversation, sends packets while the peer takes them
and pumps the outbox when it does not. It never waits without a deadline and never holds more than one flush of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, ISSLTransport
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.errors import DestinationError
from relay.net.delivery import STALL_S, Progress, Stall
from relay.net.failures import classify, early_end
from relay.net.framer import Framer
from relay.net.lanes import Lane, Lanes
from relay.net.linkowner import LinkOwner
from relay.net.sockets import TcpFigures, tcp_figures, tune
from relay.net.way import said
from relay.net.writers import Piece, Writer, writer_for
from relay.rtmp.client import ClientConnection
from relay.rtmp.errors import RemoteProtocolError
from relay.rtmp.events import (
    ConnectAccepted,
    ConnectRejected,
    Event,
    HandshakeCompleted,
    PublishAccepted,
    PublishRefused,
    ReconnectRequested,
    StatusReceived,
)
from relay.stream.outbox import Outbox

PHASE_S = {"tls": 10.0, "handshake": 10.0, "connect": 15.0, "publish": 15.0}
"""Seconds each phase may take before the attempt fails."""

START_ANYWAY_S = 8.0
"""Some servers never say Publish.Start: without a refusal we begin after this long (rtmp.md §3.11)."""

LAST_WORDS = frozenset({"NetStream.Publish.BadName", "NetStream.Publish.Denied", "NetStream.Publish.Rejected"})
"""Errors that take a running publish back. Others are remembered in case the connection ends."""

CLOSE_S = 2.0
"""For what is left and the goodbye; then the connection is aborted."""


@implementer(IHandshakeListener, IHalfCloseableProtocol)
class PushLink(TwistedProtocol):
    """The client side of one push connection."""

    noisy = False

    def __init__(
        self,
        owner: LinkOwner,
        rtmp: ClientConnection,
        outbox: Outbox,
        lanes: Lanes,
        *,
        seconds: Callable[[], float],
        tls: bool,
    ) -> None:
        self._owner = owner
        self._rtmp = rtmp
        self._tls = tls
        self._writer: Writer | None = None
        self._rest: Piece = b""
        self._lanes = lanes
        self._lane: Lane | None = None
        self._joined_at = 0
        self._protocol: list[bytes] = []
        self._framer = Framer(outbox)
        self._progress = Progress()
        self._waiting = False
        self._pump_due = False
        self._phase = "tls" if tls else "handshake"
        self._age = 0.0
        self._stall = Stall()
        self._closing: Deferred[None] | None = None
        self._silent = False
        self._word = ""
        self._over = False
        self._seconds = seconds
        self._bytes_sent = 0
        self.live = False
        self.apart = False
        """Stay out of every lane: the programme is about to change over to another link."""

    @property
    def tcp(self) -> TcpFigures | None:
        """What the kernel knows about the connection."""
        return tcp_figures(self.transport)

    @property
    def phase(self) -> str:
        """How far it got: tls, handshake, connect, publish, live."""
        return self._phase

    @property
    def in_step(self) -> bool:
        """Whether the packets come through a lane; otherwise they go to the outbox."""
        return self._lane is not None

    @property
    def bytes_sent(self) -> int:
        """Bytes of media given to the kernel."""
        return self._bytes_sent + (0 if self._lane is None else self._lane.bytes_total - self._joined_at)

    @property
    def bytes_acked(self) -> int:
        """Bytes the destination acknowledged on RTMP level; some never do."""
        return self._rtmp.acked

    @property
    def accepted(self) -> bool:
        """Whether the destination takes what we send."""
        return self.live and self._progress.moves

    @staticmethod
    def random(count: int) -> bytes:
        """Random bytes for the handshake."""
        return os.urandom(count)

    # Twisted's side.

    def connectionMade(self) -> None:
        tune(self.transport, destination=True)
        if not self._tls:
            self._start()

    def handshakeCompleted(self) -> None:
        """TLS is up and the certificate is good: only now is anything said that names the key."""
        self._start()

    def _start(self) -> None:
        self._enter("handshake")
        self._rtmp.start()
        self._flush_protocol()

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        self._rtmp.media_sent = self.bytes_sent
        try:
            events = self._rtmp.receive_data(data, self._seconds())
        except RemoteProtocolError as error:
            self.fail(DestinationError("protocol", f"the destination broke the protocol: {error.code}"))
            return
        for event in events:
            self._dispatch(event)
            if self._over:
                return
        self._flush_protocol()

    def readConnectionLost(self) -> None:
        """The destination closed its side: it wants nothing more, or it has heard our goodbye."""
        self._leave_lane()
        self._close_writer()
        transport: Any = self.transport
        transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """We closed our side after the goodbye."""

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008 - Twisted's signature
        self._writer = None
        self._leave_lane()
        if self._closing is not None:
            self._closed()
        elif not self._over:
            self._over = True
            error = classify(reason, phase=self._phase, tls=self._tls)
            asked = self.live or self._rtmp.phase == "asked"
            self._owner.link_lost(self, early_end(error, self._age, self._word) if asked else error)

    # The conversation.

    def _dispatch(self, event: Event) -> None:
        match event:
            case HandshakeCompleted():
                self._enter("connect")
            case ConnectAccepted():
                self._enter("publish")
            case ConnectRejected():
                self._abort()
                self._owner.link_rejected(self, event)
            case PublishAccepted():
                self._go_live()
            case PublishRefused(code=code, description=description) if self.live:
                self.fail(early_end(DestinationError("closed", said(code, description)), self._age, self._word))
            case StatusReceived(level="error", code=code, description=description):
                self._word = said(code, description)
                if code in LAST_WORDS:
                    self.fail(DestinationError("publish-refused", self._word))
            case ReconnectRequested():
                self._owner.link_asked(self, event)
            case PublishRefused(code=code, description=description):
                self.fail(DestinationError("publish-refused", said(code, description)))
            case _:
                pass

    def _go_live(self) -> None:
        if self.live:
            return
        self._enter("live")
        self.live = True
        self._framer.msid = self._rtmp.stream_id
        self._writer = writer_for(self.transport, self._pump)
        self._owner.link_live(self)
        self._pump()

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self._age = 0.0

    def tick(self, seconds: float) -> None:
        """Count running time: phase deadlines, stalls, the end of closing."""
        self._age += seconds
        if self._closing is not None:
            if self._age >= CLOSE_S:
                self._abort()
        elif self._over:
            return
        elif self.live:
            if self._stall.tick(seconds, self._waiting, self._kernel_took):
                self.fail(DestinationError("stalled", f"the destination took nothing for {STALL_S:g} s"))
                return
            if self._lane is None and self._framer.held:
                self.pump_later()  # the pace may allow more by now
            if self._progress.tick(seconds, self._taken):
                self._owner.link_progress(self)
        elif self._phase == "publish" and self._rtmp.stream_id and self._age >= START_ANYWAY_S:
            for event in self._rtmp.start_anyway():
                self._dispatch(event)
        elif self._age >= PHASE_S.get(self._phase, 15.0):
            self.fail(DestinationError("handshake", f"no answer within {self._age:.0f} s during {self._phase}"))

    def _taken(self) -> int:
        """Bytes that somebody over there has: the server says so, or its kernel."""
        return self._rtmp.acked + self._kernel_took()

    def _kernel_took(self) -> int:
        tcp = self.tcp
        return 0 if tcp is None else tcp.acked_bytes

    # Media.

    def pump_later(self) -> None:
        """Empty the outbox with the next flush, unless the peer is full: then it is emptied when the peer drains."""
        if self.live and not self._waiting and not self._pump_due:
            self._pump_due = True
            self._lanes.flusher.add(self._pump)

    def fall_out(self) -> None:
        """Leave the lane: something must be sent that is this destination's alone, or the configuration changes."""
        if self._lane is not None:
            self._rest = self._leave_lane()
            self._owner.link_fell_out(self)
            self.pump_later()

    def fell_behind(self, sent: int, rest: memoryview) -> None:
        """The socket took *sent* bytes of a flush and not *rest*; go on from the outbox when it drains."""
        self._leave_lane()
        self._bytes_sent += sent
        self._rest = rest
        self._owner.link_fell_out(self)
        self._wait()

    def _leave_lane(self) -> bytes:
        lane, self._lane = self._lane, None
        if lane is None:
            return b""
        self._bytes_sent += lane.bytes_total - self._joined_at
        return lane.leave(self)

    def _wait(self) -> None:
        self._waiting = True
        if self._writer is not None:
            self._writer.wait()

    def _pump(self) -> None:
        """The peer takes more: send what is left, then the outbox; then fall into step with the others."""
        self._waiting = self._pump_due = False
        writer = self._writer
        if writer is None or self._over:
            return
        try:
            while self._refill():
                taken = writer.send([self._rest])
                if taken == 0:
                    self._wait()
                    return
                self._stall.moved()
                self._bytes_sent += taken
                self._rest = memoryview(self._rest)[taken:]
        except OSError:
            return  # connectionLost follows and says why
        if self._closing is not None:
            self._say_goodbye()
        elif not self.apart and self._lane is None and self._framer.in_step:
            self._fall_in(writer)

    def _refill(self) -> bool:
        """Make `_rest` what is to be sent next; return whether there is anything."""
        if not self._rest:
            frames = self._framer.take(self._seconds(), all_of_it=self._closing is not None)
            self._rest = b"".join((*self._protocol, *frames))
            self._protocol.clear()
        return bool(self._rest)

    def _fall_in(self, writer: Writer) -> None:
        if not writer.clear:
            self._wait()
            return
        self._lane = lane = self._framer.fall_in(self._lanes)
        lane.join(self, writer.send_now)
        self._joined_at = lane.bytes_total
        self._owner.link_fell_in(self)

    # The end.

    def fail(self, error: DestinationError) -> None:
        """Give this attempt up."""
        if self._over:
            return
        self._abort()
        self._owner.link_lost(self, error)

    def close(self, *, abrupt: bool = False, silent: bool = False) -> Deferred[None]:
        """Send what waits, unpublish (not if *silent*), close; abort after CLOSE_S, or now if *abrupt*.

        Fires when all is gone.
        """
        if self._closing is None:
            self._closing = Deferred()
            self._silent = silent
            self._age = 0.0
            if self._over or self.transport is None:
                self._closed()
            elif abrupt or not self.live:
                self._abort()
            else:
                self.fall_out()
                self._pump()
        return self._closing

    def _say_goodbye(self) -> None:
        """Everything is sent: FCUnpublish, deleteStream, FIN.

        Only our side is closed: what a destination says after a full close resets the connection, and with it goes
        what it has not read yet.
        """
        self._over = True
        self._close_writer()
        if not self._silent:
            self._rtmp.unpublish()
        self._flush_protocol()
        transport: Any = self.transport
        if ISSLTransport.providedBy(transport):
            transport.loseConnection()
        else:
            transport.loseWriteConnection()

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _abort(self) -> None:
        self._over = True
        self._leave_lane()
        transport: Any = self.transport
        transport.abortConnection()

    def _closed(self) -> None:
        self._over = True
        closing = self._closing
        if closing is not None and not closing.called:
            closing.callback(None)

    def _flush_protocol(self) -> None:
        data = self._rtmp.data_to_send()
        if not data:
            return
        if self._writer is None:
            transport: Any = self.transport
            transport.write(data)
            return
        self._protocol.append(data)
        self.fall_out()
        self.pump_later()
