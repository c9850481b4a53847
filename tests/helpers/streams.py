"""Two protocols that are joined by a real connection."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol

from tests.helpers.reactor import OPEN, NetTestCase, reactor, until


class End(Protocol):
    """One end of a connection: keeps what arrives."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost = False
        self.transport: Any = None

    def connectionMade(self) -> None:
        OPEN.add(self)
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: object = None) -> None:
        self.lost = True
        OPEN.discard(self)


async def socket_pair(test: NetTestCase) -> tuple[End, End]:
    """The accepted end and the connecting end of a loopback connection."""
    accepted: list[End] = []

    def build(_: object) -> End:
        accepted.append(End())
        return accepted[-1]

    factory = Factory()
    factory.noisy = False
    factory.buildProtocol = build  # type: ignore[method-assign,assignment]
    port = test.listen(factory)
    client = End()
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), client)
    await until(lambda: accepted and accepted[0].transport, "accepted connection")
    return accepted[0], client
