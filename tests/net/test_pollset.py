from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from relay.net.pollset import AGAIN_S, MOST_READS, PollSet
from relay.net.sockets import tcp_of
from relay.net.tls import ReloadingCertificate
from relay.rtmp.events import PublishAccepted
from tests.helpers.peers import Caller, viewer
from tests.helpers.reactor import turns, until
from tests.helpers.relays import OnAir, RelayTestCase, on_air
from tests.helpers.tls import Authority, tls_client

READ = 100
"""Bytes that a transport here takes at a time."""


class FakeReactor:
    """Keeps what it was asked to read; to add or remove twice is to do it once, as in Twisted."""

    def __init__(self) -> None:
        self.readers: list[Any] = []
        self.now = 0.0

    def seconds(self) -> float:
        return self.now

    def addReader(self, reader: Any) -> None:
        if reader not in self.readers:
            self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)

    def getReaders(self) -> list[Any]:
        return self.readers

    def addWriter(self, writer: Any) -> str:
        return f"the reactor writes for {writer}"


class Transport:
    """One end of a socket pair that reads as Twisted's transports do."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.socket, self.peer = socket.socketpair()
        self.socket.setblocking(False)
        self.heard: list[bytes] = []
        self.aborted = False
        self.act: Callable[[], object] = lambda: None

    def fileno(self) -> int:
        return self.socket.fileno()

    def startReading(self) -> None:
        self.reactor.addReader(self)

    def stopReading(self) -> None:
        self.reactor.removeReader(self)

    def doRead(self) -> object:
        self.heard.append(self.socket.recv(READ))
        return self.act()

    def abortConnection(self) -> None:
        self.aborted = True
        self.close()

    def close(self) -> None:
        self.stopReading()
        self.socket.close()


class Room:
    def __init__(self, count: int) -> None:
        self.reactor = FakeReactor()
        self.pollset = PollSet(self.reactor)
        self.transports = [Transport(self.reactor) for _ in range(count)]
        for transport in self.transports:
            transport.startReading()
            self.pollset.adopt(transport)

    def gather(self) -> None:
        self.pollset.start()

    def say(self, *who: int) -> None:
        for number in who:
            self.transports[number].peer.send(b"frame")

    @property
    def heard(self) -> list[int]:
        return [len(transport.heard) for transport in self.transports]


@pytest.fixture
def room() -> Any:
    made: list[Room] = []

    def make(count: int) -> Room:
        made.append(Room(count))
        return made[-1]

    yield make
    for one in made:
        if one.pollset.gathering:
            one.pollset.stop()
        for transport in one.transports:
            transport.socket.close()
            transport.peer.close()


Make = Callable[[int], Room]


def test_while_nobody_gathers_the_reactor_reads(room: Make) -> None:
    there = room(2)
    assert there.reactor.readers == there.transports

    there.transports[0].stopReading()
    assert there.reactor.readers == [there.transports[1]]
    there.transports[0].startReading()
    there.transports[0].startReading()
    assert set(there.reactor.readers) == set(there.transports)


def test_gathered_sockets_are_read_at_a_look_and_only_those_with_something(room: Make) -> None:
    there = room(3)
    there.gather()
    assert there.reactor.readers == []

    there.say(0, 2)
    assert there.heard == [0, 0, 0]
    there.pollset.look()
    assert there.heard == [1, 0, 1]
    there.pollset.look()
    assert there.heard == [1, 0, 1]


@pytest.mark.parametrize(("reads", "left"), [(1, 0), (2, 0), (MOST_READS - 1, 0), (MOST_READS, 0), (MOST_READS + 1, 1)])
def test_who_has_more_than_one_read_takes_is_read_again_up_to_a_limit(room: Make, reads: int, left: int) -> None:
    there = room(2)
    there.gather()
    there.transports[0].peer.send(b"x" * READ * reads)
    there.say(1)

    there.pollset.look()
    assert there.heard == [reads - left, 1]
    there.pollset.look()
    assert there.heard == [reads, 1]


@pytest.mark.parametrize(("takes_s", "reads"), [(AGAIN_S * 0.9, 2), (AGAIN_S, 1), (AGAIN_S * 1.1, 1)])
def test_nobody_is_read_again_when_a_look_has_taken_long(room: Make, takes_s: float, reads: int) -> None:
    there = room(1)
    there.gather()
    there.transports[0].peer.send(b"x" * READ * MOST_READS)

    def take_time() -> None:
        there.reactor.now += takes_s

    there.transports[0].act = take_time
    there.pollset.look()
    assert there.heard == [reads]


def test_who_speaks_while_others_are_read_again_is_read_at_the_next_look(room: Make) -> None:
    there = room(2)
    there.gather()
    there.transports[0].peer.send(b"x" * READ * 2)
    there.transports[0].act = lambda: there.say(1)

    there.pollset.look()
    assert there.heard == [2, 0]
    there.pollset.look()
    assert there.heard == [2, 1]


def test_nobody_to_look_at_is_no_error(room: Make) -> None:
    there = room(0)
    there.gather()
    there.pollset.look()


def test_who_comes_while_others_are_gathered_is_gathered_too(room: Make) -> None:
    there = room(1)
    there.gather()
    late = Transport(there.reactor)
    there.transports.append(late)
    late.startReading()
    there.pollset.adopt(late)
    assert there.reactor.readers == []

    there.say(1)
    there.pollset.look()
    assert there.heard == [0, 1]


def test_afterwards_the_reactor_has_them_all_again(room: Make) -> None:
    there = room(2)
    there.gather()
    there.transports[1].stopReading()

    there.pollset.stop()

    assert there.reactor.readers == [there.transports[0]]
    there.transports[1].startReading()
    assert there.reactor.readers == there.transports
    there.gather()
    assert there.reactor.readers == []


def test_who_rests_is_not_read_before_it_asks(room: Make) -> None:
    there = room(1)
    resting = Transport(there.reactor)
    there.transports.append(resting)
    there.pollset.adopt(resting)
    there.gather()

    there.say(1)
    there.pollset.look()
    assert there.heard == [0, 0]
    resting.startReading()
    there.pollset.look()
    assert there.heard == [0, 1]
    resting.stopReading()
    there.say(1)
    there.pollset.look()
    assert there.heard == [0, 1]


def test_to_publish_again_changes_nothing(room: Make) -> None:
    there = room(1)
    there.pollset.adopt(there.transports[0])
    assert there.reactor.readers == there.transports

    there.gather()
    there.pollset.adopt(there.transports[0])
    there.say(0)
    there.pollset.look()
    assert there.heard == [1]


@pytest.mark.parametrize("said", [0, 1])
def test_the_end_is_left_to_the_reactor_with_what_was_said_before(room: Make, said: int) -> None:
    there = room(2)
    there.gather()
    there.say(*[0] * said, 1)
    there.transports[0].peer.close()

    there.pollset.look()

    assert there.heard == [0, 1]
    assert there.reactor.readers == [there.transports[0]]
    there.transports[0].close()
    assert there.reactor.readers == []


def test_who_was_given_back_and_asks_again_is_in_one_set_only(room: Make) -> None:
    there = room(1)
    there.gather()
    there.transports[0].peer.close()
    there.pollset.look()
    assert there.reactor.readers == there.transports

    there.transports[0].startReading()
    assert there.reactor.readers == []
    there.transports[0].close()
    assert there.reactor.readers == []


def test_an_end_that_only_the_read_finds_is_left_to_the_reactor(room: Make) -> None:
    there = room(1)
    there.gather()
    there.transports[0].act = ConnectionResetError
    there.say(0)

    there.pollset.look()

    assert there.reactor.readers == there.transports


def test_an_error_ends_one_connection_and_no_other(room: Make) -> None:
    there = room(3)
    there.gather()

    def fail() -> object:
        raise RuntimeError("a protocol failed")

    there.transports[1].act = fail
    there.say(0, 1, 2)

    there.pollset.look()

    assert there.heard == [1, 1, 1]
    assert [transport.aborted for transport in there.transports] == [False, True, False]
    assert there.reactor.readers == []
    there.say(0)
    there.pollset.look()
    assert there.heard == [2, 1, 1]


@pytest.mark.parametrize("closing", [0, 1])
def test_one_that_closes_another_in_the_same_look(room: Make, closing: int) -> None:
    there = room(2)
    there.gather()
    there.transports[closing].act = there.transports[1 - closing].close
    there.transports[1 - closing].act = there.transports[closing].close
    there.say(0, 1)

    there.pollset.look()

    assert sum(there.heard) == 1
    assert there.reactor.readers == []


def test_gathering_that_ends_in_the_middle_of_a_look(room: Make) -> None:
    there = room(2)
    there.gather()
    for transport in there.transports:
        transport.act = lambda: there.pollset.stop() if there.pollset.gathering else None
    there.say(0, 1)

    there.pollset.look()

    assert sum(there.heard) == 1
    assert there.reactor.readers == there.transports


def test_a_socket_that_was_closed_before_it_was_taken_out(room: Make) -> None:
    there = room(2)
    there.gather()
    there.transports[0].socket.close()
    there.transports[0].stopReading()

    there.say(1)
    there.pollset.look()
    assert there.heard == [0, 1]


def test_everything_else_is_the_reactors(room: Make) -> None:
    there = room(1)
    assert there.transports[0].reactor.addWriter("it") == "the reactor writes for it"


class EncoderTests(RelayTestCase):
    """The same through Twisted's own transports."""

    @property
    def pollset(self) -> PollSet:
        return self.door.moderation.encoders

    async def looks(self, found: Callable[[], object], what: str) -> None:
        def look() -> object:
            if self.pollset.gathering:
                self.pollset.look()
            return found()

        await until(look, what)

    async def publish(self) -> OnAir:
        """An encoder that has begun to send; from then on its bytes wait for a look."""
        asked = len(self.made)
        self.pollset.start()
        self.addCleanup(lambda: self.pollset.gathering and self.pollset.stop())
        show = await on_air(self.port, frames=3)
        await self.looks(lambda: "show" in self.door.registry and self.stream.started, "a live stream")
        assert tcp_of(self.made[asked].transport).reactor is self.pollset
        return show

    async def test_frames_wait_for_a_look_and_those_of_the_viewer_do_not(self) -> None:
        self.open()
        show = await self.publish()
        player = await viewer(self.port)
        before = self.feed().packets_total

        show.run(2)
        await turns(20)
        assert self.feed().packets_total == before
        self.pollset.look()
        assert self.feed().packets_total == before + 4
        assert player.closed is None

    async def test_an_encoder_that_leaves_is_noticed(self) -> None:
        self.open()
        show = await self.publish()
        show.run(2)
        show.caller.tcp.loseConnection()

        await self.looks(lambda: "show" not in self.door.registry, "the end of the stream")
        assert self.codes == []

    async def test_an_encoder_whose_line_is_cut_is_noticed(self) -> None:
        self.open()
        show = await self.publish()
        show.caller.tcp.abortConnection()

        await self.looks(lambda: "show" not in self.door.registry, "the end of the stream")

    async def test_nothing_is_lost_when_gathering_begins_and_ends_and_begins(self) -> None:
        self.open()
        show = await self.publish()
        before = self.feed().packets_total
        for _ in range(10):
            show.run(1)
            await turns(1)
            if self.pollset.gathering:
                self.pollset.stop()
            else:
                self.pollset.start()
        await self.looks(lambda: self.feed().packets_total == before + 20, "all frames")
        assert self.codes == []

    async def test_a_kicked_encoder_is_gone_from_the_set(self) -> None:
        self.open()
        await self.publish()

        self.door.publishers[self.feed()].kick(0.0)

        self.wait(2.0)
        await self.looks(lambda: not self.door.connections, "the close")
        assert self.pollset._readers == {}
        assert self.pollset._gathered == {}

    async def test_encrypted_ones_are_gathered_too(self) -> None:
        self.open(tls=ReloadingCertificate(*Authority(self.tmp_path).issue()))
        self.pollset.start()
        self.addCleanup(self.pollset.stop)
        caller = await tls_client(self.port, end=Caller("publish", "primary"))  # type: ignore[arg-type]
        await until(lambda: caller.has(PublishAccepted), "the publish")
        show = OnAir(caller).headers().run(3)
        await turns(20)
        assert not self.stream.started

        await self.looks(lambda: self.stream.started and self.feed().packets_total == 8, "all frames")

        show.caller.tcp.loseConnection()
        await self.looks(lambda: "show" not in self.door.registry, "the end of the stream")
