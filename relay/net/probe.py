"""Asks whether an address answers again, without publishing: TCP, TLS, handshake and connect, then away.

The rule it guards: a probe never names the key and never opens a stream, so a platform that has the programme from
another address does not notice it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IHandshakeListener, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.errors import ConfigError, DestinationError
from relay.net.way import leads_on
from relay.rtmp.auth import Credentials
from relay.rtmp.client import ClientConnection
from relay.rtmp.errors import RemoteProtocolError
from relay.rtmp.events import ConnectAccepted, ConnectRejected

PROBE_S = 60.0
"""Between two probes of a primary address while the backup is used (reliability.md P16)."""

ANSWER_S = 10.0
"""For the whole of a probe."""


@implementer(IHandshakeListener)
class ProbeLink(TwistedProtocol):
    """One connection that goes as far as `connect`."""

    noisy = False

    def __init__(
        self, rtmp: ClientConnection, seconds: Callable[[], float], *, tls: bool, login: Credentials | None = None
    ) -> None:
        self._rtmp = rtmp
        self._login = login
        self._seconds = seconds
        self._tls = tls
        self._over = False
        self.answer: Deferred[None] = Deferred(lambda _: self._leave())
        """Fires when `connect` was accepted, or answered as a step on the way; fails otherwise."""

    def connectionMade(self) -> None:
        if not self._tls:
            self.handshakeCompleted()

    def handshakeCompleted(self) -> None:
        """TLS is up and the certificate is good."""
        self._rtmp.start()
        self._flush()

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        try:
            events = self._rtmp.receive_data(data, self._seconds())
        except RemoteProtocolError as error:
            self._end(DestinationError("protocol", error.code))
            return
        for event in events:
            if isinstance(event, ConnectAccepted | ConnectRejected):
                # What comes next in the conversation, and is queued by now, names the key.
                well = isinstance(event, ConnectAccepted) or leads_on(event, self._login)
                self._end(None if well else DestinationError("connect-rejected", ""))
                return
        self._flush()

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008 - Twisted's signature
        self._end(DestinationError("closed", "the connection ended"))

    def _flush(self) -> None:
        transport: Any = self.transport
        transport.write(self._rtmp.data_to_send())

    def _end(self, error: DestinationError | None) -> None:
        if self._over:
            return
        self._leave()
        if error is None:
            self.answer.callback(None)
        else:
            self.answer.errback(error)

    def _leave(self) -> None:
        self._over = True
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


class _ProbeFactory(Factory):
    noisy = False

    def __init__(self, link: ProbeLink) -> None:
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> ProbeLink:
        return self._link


class ReturnProbe:
    """Asks an address every minute until it answers."""

    def __init__(
        self,
        clock: IReactorTime,
        prepare: Callable[[], tuple[IStreamClientEndpoint, ProbeLink]],
        on_answer: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._prepare = prepare
        self._on_answer = on_answer
        self._due: IDelayedCall | None = None
        self._asking: Deferred[Any] | None = None

    def start(self) -> None:
        """Ask for the first time in a minute."""
        self.stop()
        self._due = self._clock.callLater(PROBE_S, self._ask)

    def stop(self) -> None:
        """Ask no more."""
        due, self._due = self._due, None
        asking, self._asking = self._asking, None
        if due is not None:
            due.cancel()
        if asking is not None:
            asking.cancel()

    def _ask(self) -> None:
        self._due = None
        try:
            endpoint, link = self._prepare()
        except ConfigError:  # the file with CAs is gone; the next attempt says so
            self._due = self._clock.callLater(PROBE_S, self._ask)
            return
        asking = self._asking = endpoint.connect(_ProbeFactory(link))
        asking.addCallback(lambda _: link.answer)
        asking.addTimeout(ANSWER_S, self._clock)
        asking.addCallbacks(self._answered, self._silent, callbackArgs=(asking,), errbackArgs=(asking,))

    def _answered(self, _: object, asking: Deferred[Any]) -> None:
        if self._asking is asking:
            self._asking = None
            self._on_answer()

    def _silent(self, _: Failure, asking: Deferred[Any]) -> None:
        if self._asking is asking:
            self._asking = None
            self._due = self._clock.callLater(PROBE_S, self._ask)
