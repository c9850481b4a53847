from __future__ import annotations

import socket
from typing import Any

from twisted.internet.testing import StringTransport

from relay.net.sockets import NOTSENT_LOWAT, SEND_BUFFER, USER_TIMEOUT_MS, socket_of, tune
from tests.helpers.reactor import NetTestCase, until
from tests.helpers.streams import socket_pair
from tests.helpers.tls import Authority, tls_pair


def option(sock: socket.socket, level: int, name: int) -> int:
    return sock.getsockopt(level, name)


def assert_tuned(sock: socket.socket) -> None:
    assert option(sock, socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert option(sock, socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert option(sock, socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
    assert option(sock, socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 2
    assert option(sock, socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
    assert option(sock, socket.SOL_SOCKET, socket.SO_SNDBUF) in (SEND_BUFFER, 2 * SEND_BUFFER)


class TuneTests(NetTestCase):
    async def test_an_accepted_connection_gets_every_option(self) -> None:
        server, _ = await socket_pair(self)

        tune(server.transport)

        assert_tuned(server.transport.socket)
        assert option(server.transport.socket, socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == USER_TIMEOUT_MS
        assert option(server.transport.socket, socket.IPPROTO_TCP, 25) != NOTSENT_LOWAT

    async def test_a_destination_also_hears_early_that_its_peer_is_slow(self) -> None:
        server, _ = await socket_pair(self)

        tune(server.transport, destination=True)

        assert_tuned(server.transport.socket)
        assert option(server.transport.socket, socket.IPPROTO_TCP, 25) == NOTSENT_LOWAT
        assert option(server.transport.socket, socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0, "slow is not dead"

    async def test_tls_does_not_hide_the_socket(self) -> None:
        server, _ = await tls_pair(self, Authority(self.tmp_path))

        tune(server.transport)

        sock = socket_of(server.transport)
        assert sock is not None
        assert_tuned(sock)

    async def test_a_peer_that_is_gone_is_no_error(self) -> None:
        server, client = await socket_pair(self)
        client.transport.abortConnection()
        await until(lambda: server.lost, "the loss")

        tune(server.transport)


def test_a_transport_without_socket_is_no_error() -> None:
    transport: Any = StringTransport()

    assert socket_of(transport) is None
    tune(transport)


def test_a_unix_socket_is_left_alone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        transport: Any = type("Transport", (), {"socket": ours})()
        before = option(ours, socket.SOL_SOCKET, socket.SO_SNDBUF)

        tune(transport)

        assert option(ours, socket.SOL_SOCKET, socket.SO_SNDBUF) == before
