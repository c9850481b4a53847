"""One POST to the service, over a connection of its own, with bounds on everything that comes back.

treq speaks HTTP. Nothing is kept between two requests: a kept connection that the service has just closed would refuse
an encoder. No redirect is followed, no cookie kept, nothing decompressed. Time is the caller's: cancelling a `post`
ends its connection. The rule it guards: whatever the service does, a request costs `MAX_WIRE` bytes at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service_identity import VerificationError

import treq.client
from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web._newclient import RequestNotSent  # its kin are in web.client, it was forgotten
from twisted.web.client import Agent, RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from relay.api import CheckedReactor, ConfigError, SecretRef, certificate_words, client_tls

from .options import NEARBY, Place
from .wire import signature

MAX_BODY = 64 * 1024
"""An answer has some hundred bytes (reliability.md case 151)."""
MAX_WIRE = 8 * MAX_BODY
"""Everything that one connection may bring, head and chunk sizes included: a body cut into chunks of one byte is six
times its size."""
CONNECT_S = 30.0
"""Never reached: whoever asks gives up before."""

SIGNATURE = "X-Relay-Signature"
TOO_LARGE = f"the answer is larger than {MAX_BODY // 1024} KiB"
NOT_NEAR = "the address is a public one: use https://, or set plain_http = true"
_BROKEN = (ResponseFailed, RequestGenerationFailed, RequestTransmissionFailed)
_FAULTS = (*_BROKEN, RequestNotSent, error.ConnectError, error.ConnectionClosed, error.DNSLookupError, SSL.Error)


class ServiceError(Exception):
    """The service could not be asked or told. *reached*: it did answer something."""

    def __init__(self, reason: str, *, reached: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reached = reached


@dataclass(frozen=True, slots=True)
class Reply:
    """What the service answered."""

    status: int
    body: bytes


class Client:
    """Posts documents to one place."""

    def __init__(
        self,
        reactor: Any,
        place: Place,
        *,
        secret: SecretRef | None = None,
        ca_file: Path | None = None,
        plain_http: bool = False,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self._place = place
        self._secret = secret
        self._ca_file = ca_file
        self._plain_http = plain_http
        self._wall_clock = wall_clock
        self._tls: Any = None

    async def post(self, document: bytes) -> Reply:
        """Send *document* and return the answer. Raises ServiceError."""
        line = _Line(self._endpoint)
        agent = _Plain(Agent.usingEndpointFactory(self._reactor, line))
        client = treq.client.HTTPClient(agent, data_to_body_producer=_Document)
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "rtmp-relay"}
        if self._secret is not None:
            headers[SIGNATURE] = signature(self._secret.secret, int(self._wall_clock()), document)
        try:
            response = await client.post(
                self._place.url,
                data=document,
                headers=Headers({name: [value] for name, value in headers.items()}),
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
            return Reply(response.code, await _body(response))
        except _FAULTS as fault:
            raise ServiceError(line.reason or _words(fault), reached=line.reason == TOO_LARGE) from None
        except VerificationError:
            raise ServiceError("the certificate is for another host name") from None
        finally:
            line.close()

    def _endpoint(self, refuse: Callable[[str], None]) -> Any:
        place = self._place
        policy = None if place.tls or self._plain_http else NEARBY
        reactor = CheckedReactor(self._reactor, policy, lambda: refuse(NOT_NEAR))
        plain = HostnameEndpoint(reactor, place.host, place.port, timeout=CONNECT_S)
        if not place.tls:
            return plain
        try:
            self._tls = client_tls(  # kept, and with it the CAs, which take 20 ms to read
                place.host, ca_file=self._ca_file, on_bad_certificate=lambda number: refuse(certificate_words(number))
            )
        except ConfigError as error:
            raise ServiceError(str(error)) from None
        return wrapClientTLS(self._tls, plain)


async def _body(response: Any) -> bytes:
    parts: list[bytes] = []
    size = 0

    def take(data: bytes) -> None:
        nonlocal size
        size += len(data)
        if size > MAX_BODY:
            raise ServiceError(TOO_LARGE, reached=True)
        parts.append(data)

    await response.collect(take)
    return b"".join(parts)


@implementer(IAgentEndpointFactory)
class _Line:
    """The connection of one request: makes it, counts what it brings, and closes it."""

    def __init__(self, endpoint: Callable[[Callable[[str], None]], Any]) -> None:
        self._make = endpoint
        self._open: list[_Counted] = []
        self.reason = ""
        """Why the connection was given up, if that was our doing."""

    def endpointForURI(self, uri: object) -> _Line:
        """Part of IAgentEndpointFactory."""
        return self

    def connect(self, factory: Any) -> Deferred[Any]:
        """Part of IStreamClientEndpoint."""
        connecting: Deferred[Any] = self._make(self._refused).connect(_Counting(self, factory))
        return connecting.addCallback(lambda connection: connection.wrappedProtocol)  # what the Agent made

    def _refused(self, reason: str) -> None:
        self.reason = reason

    def opened(self, connection: _Counted) -> None:
        """A connection is there."""
        self._open.append(connection)

    def overrun(self) -> None:
        """The connection brought more than any answer."""
        self.reason = TOO_LARGE
        self.close()

    def close(self) -> None:
        """End it now, whatever it is doing."""
        while self._open:
            transport: Any = self._open.pop().transport
            transport.abortConnection()


class _Counted(ProtocolWrapper):
    """Passes on what comes, up to `MAX_WIRE`."""

    def __init__(self, factory: Any, wrapped: Any) -> None:
        super().__init__(factory, wrapped)
        self._line = factory.line
        self._seen = 0

    def makeConnection(self, transport: Any) -> None:
        self._line.opened(self)
        super().makeConnection(transport)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        self._seen += len(data)
        if self._seen > MAX_WIRE:
            self._line.overrun()
        else:
            super().dataReceived(data)  # type: ignore[no-untyped-call]


class _Counting(WrappingFactory):
    """Makes `_Counted` connections."""

    protocol = _Counted
    noisy = False

    def __init__(self, line: _Line, wrapped: Any) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        self.line = line


@implementer(IAgent)
class _Plain:
    """Asks for a body that is not compressed, and takes no other: 64 KiB of gzip may be 64 MiB of text."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Deferred[Any]:
        """Part of IAgent."""
        headers.setRawHeaders("accept-encoding", ["identity"])
        return self._agent.request(method, uri, headers, bodyProducer).addCallback(self._check)  # type: ignore[no-any-return]

    @staticmethod
    def _check(response: IResponse) -> IResponse:
        if response.headers.hasHeader("content-encoding"):
            raise ServiceError("the answer is compressed, which was not asked for", reached=True)
        return response


@implementer(IBodyProducer)
class _Document:
    """A body that is at hand, written at once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Part of IBodyProducer."""
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Nothing is left to pause."""

    def resumeProducing(self) -> None:
        """Nothing is left to resume."""

    def stopProducing(self) -> None:
        """Nothing is left to stop."""


def _words(fault: Exception) -> str:
    """Say what ended a request, for the operator."""
    while isinstance(fault, _BROKEN) and fault.reasons:
        fault = fault.reasons[0].value
    if isinstance(fault, VerificationError):
        return "the certificate is for another host name"
    if isinstance(fault, SSL.Error):
        parts = fault.args[0] if fault.args and isinstance(fault.args[0], list) else []
        said = "; ".join(str(part[-1]) for part in parts) or "no reason given"
        return f"TLS failed: {said}"
    if isinstance(fault, error.DNSLookupError):
        return "the host name does not resolve"
    if isinstance(fault, error.ConnectionRefusedError):
        return "connection refused: nothing listens there"
    if isinstance(fault, error.ConnectError):
        return "cannot be reached"
    if isinstance(fault, error.ConnectionClosed | RequestNotSent):
        return "the connection was closed without an answer"
    return "the answer is no HTTP"
