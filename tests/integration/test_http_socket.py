"""The HTTP site on a real loopback socket: what only a kernel's buffers can show."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from twisted.internet import reactor  # noqa: TID251 - a test of the real one
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Request

from relay.http.channel import HttpLimits
from relay.http.site import RelaySite, make_site
from tests.http.fakes import FakeState

BIG = b"x" * (32 * 1024 * 1024)  # more than the kernel takes for a peer that does not read


class Big(Resource):
    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        return BIG


class HttpSocketTests(TestCase):
    timeout = 20

    def listen(self, limits: HttpLimits) -> tuple[RelaySite, socket.socket]:
        site = make_site(FakeState(), token=None, resources={"big": Big()}, clock=reactor, limits=limits)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        client = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.addCleanup(client.close)
        return site, client

    async def until_closed(self, site: RelaySite) -> float:
        began = reactor.seconds()
        await deferLater(reactor, 0.05, lambda: None)
        while site.open:
            await deferLater(reactor, 0.02, lambda: None)
        return reactor.seconds() - began

    async def test_a_peer_that_never_reads_its_answer_is_gone_in_time(self) -> None:
        site, client = self.listen(HttpLimits(stall_s=0.3, stall_rate=1 << 30))
        client.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")

        seconds = await self.until_closed(site)

        assert seconds < 3

    async def test_a_peer_that_never_reads_and_asked_to_close_is_gone_in_time_too(self) -> None:
        site, client = self.listen(HttpLimits(stall_s=0.3, stall_rate=1 << 30))
        client.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

        seconds = await self.until_closed(site)

        assert seconds < 3

    async def test_a_peer_that_reads_gets_everything(self) -> None:
        site, client = self.listen(HttpLimits(stall_s=5))
        client.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

        received = await deferToThread(lambda: sum(len(piece) for piece in pieces(client)))

        assert received > len(BIG)
        await self.until_closed(site)

    async def test_a_silent_peer_is_gone_in_time(self) -> None:
        site, _ = self.listen(HttpLimits(headers_s=0.3))

        seconds = await self.until_closed(site)

        assert seconds < 3

    async def test_a_peer_that_drips_its_headers_is_gone_in_time(self) -> None:
        site, client = self.listen(HttpLimits(headers_s=0.5))
        began = reactor.seconds()
        await self.drip(site, client)

        assert reactor.seconds() - began < 3

    async def drip(self, site: RelaySite, client: socket.socket) -> None:
        for byte in b"GET / HTTP/1.1\r\nX: " + b"y" * 1000:
            try:
                client.sendall(bytes([byte]))
            except OSError:
                return
            pause: Deferred[None] = deferLater(reactor, 0.05, lambda: None)
            await pause
            if not site.open and reactor.seconds():
                return


def pieces(client: socket.socket) -> Iterator[bytes]:
    while piece := client.recv(1 << 20):
        yield piece
