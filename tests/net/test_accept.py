"""Who is let in costs something, who is not costs next to nothing, and both leave time for those on air."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.protocol import Factory, Protocol

from relay.net.accept import MOST_PER_TURN, CalmPort
from tests.helpers.reactor import NetTestCase, reactor, turns, until
from tests.helpers.relays import RelayTestCase
from tests.helpers.tls import Authority, ReloadingCertificate

CROWD = 3 * MOST_PER_TURN


def crowd(port: int, size: int) -> list[socket.socket]:
    """Connections that the kernel has taken and nobody has accepted yet."""
    return [socket.create_connection(("127.0.0.1", port)) for _ in range(size)]


class TurnTests(NetTestCase):
    async def test_a_crowd_is_let_in_a_few_in_each_turn_of_the_reactor(self) -> None:
        accepted: list[int] = []
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        build = factory.buildProtocol
        factory.buildProtocol = lambda addr: accepted.append(turn) or build(addr)  # type: ignore[method-assign,assignment,func-returns-value]
        port = CalmPort(0, factory, 200, "127.0.0.1", reactor)
        port.startListening()
        self.addCleanup(port.stopListening)
        turn = 0
        for _ in range(2):  # Twisted accepts more and more while there is a crowd
            ends = crowd(port.getHost().port, CROWD)
            while len(accepted) < CROWD:
                turn += 1
                await turns(1)
            counts = [accepted.count(one) for one in sorted(set(accepted))]
            assert max(counts) <= 2 * MOST_PER_TURN, counts  # a wait may last two turns
            accepted.clear()
            for end in ends:
                end.close()
        await turns(5)


class UnheardTests(RelayTestCase):
    async def test_who_is_not_let_in_over_tls_is_closed_before_tls_begins(self) -> None:
        authority = Authority(self.tmp_path)
        port = self.open(tls=ReloadingCertificate(*authority.issue()), connections=1)
        ends = crowd(port, 2)
        self.addCleanup(lambda: [end.close() for end in ends])

        await until(lambda: len(self.made) == 2, "both were looked at")

        kept, refused = self.made
        assert kept is not None
        assert refused is None
        assert self.codes == ["limit.connections"]
        assert ends[1].recv(100) == b""
        line: Any = self.lines[-1]
        assert (line["phase"], line["bytes_in"], line["peer"]) == ("tls", 0, "127.0.0.1")
