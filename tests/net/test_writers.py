from __future__ import annotations

from typing import Any

import pytest

from twisted.internet.testing import StringTransport

from relay.net.sockets import tune
from relay.net.writers import SocketWriter, TransportWriter, has_unsent, writer_for
from tests.helpers.reactor import NetTestCase, quiet, turns, until
from tests.helpers.streams import End, socket_pair
from tests.helpers.tls import Authority, tls_pair

BLOCK = bytes(range(256)) * 256
"""64 KiB in which every byte tells its place."""


class Calls:
    """Counts `on_writable`."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


class SocketWriterTests(NetTestCase):
    async def open(self) -> tuple[SocketWriter, Any, End, Calls]:
        server, client = await socket_pair(self)
        tune(server.transport)
        calls = Calls()
        writer = writer_for(server.transport, calls)
        assert isinstance(writer, SocketWriter)
        return writer, server.transport, client, calls

    async def fill(self, writer: SocketWriter, client: End) -> int:
        """Fill every buffer between us and a peer that stopped reading."""
        client.transport.pauseProducing()
        total = 0
        while sent := writer.send([BLOCK]):
            total += sent
        return total

    async def test_pieces_are_sent_in_order(self) -> None:
        writer, _, client, _ = await self.open()

        sent = writer.send([b"one", memoryview(b"-two-")[1:4], b"", b"three"])

        assert sent == 11
        await until(lambda: client.received == b"onetwothree", "the bytes")

    async def test_more_pieces_than_the_kernel_takes_in_one_call_are_no_error(self) -> None:
        writer, _, client, _ = await self.open()

        sent = writer.send([b"x"] * 5000)

        assert 0 < sent < 5000
        assert writer.send([b"y"] * 10) == 10
        await until(lambda: client.received == b"x" * sent + b"y" * 10, "the bytes")

    async def test_what_the_transport_was_given_before_goes_first(self) -> None:
        writer, transport, client, calls = await self.open()
        transport.write(b"protocol ")
        assert not writer.clear
        assert writer.send([b"media"]) == 0

        writer.wait()
        await until(lambda: calls.count, "room")

        assert writer.clear
        assert writer.send([b"media"]) == 5
        await until(lambda: client.received == b"protocol media", "the bytes")

    async def test_a_full_peer_takes_a_part_then_nothing_and_says_when_it_takes_more(self) -> None:
        writer, _, client, calls = await self.open()
        total = await self.fill(writer, client)
        assert total > len(BLOCK)
        with pytest.raises(BlockingIOError):
            writer.send_now(b"x")

        writer.wait()
        assert not writer.clear
        await turns(5)
        assert calls.count == 0, "called while the peer is full"
        client.transport.resumeProducing()
        await until(lambda: calls.count, "room")

        assert writer.clear
        sent = writer.send([b"after"])
        await until(lambda: len(client.received) == total + sent, "the rest")
        assert client.received.endswith(b"after")

    async def test_a_wait_is_answered_once(self) -> None:
        writer, transport, _, calls = await self.open()

        writer.wait()
        await until(lambda: calls.count, "room")
        transport.write(b"x")
        await turns(10)

        assert calls.count == 1

    async def test_a_peer_that_is_gone_raises_and_is_reported_to_the_protocol(self) -> None:
        server, client = await socket_pair(self)
        calls = Calls()
        writer = SocketWriter(server.transport, calls)
        server.transport.pauseProducing()  # so that the reset is met by the writer
        client.transport.abortConnection()
        await until(lambda: client.lost, "the reset")

        with pytest.raises(ConnectionResetError):
            writer.send([BLOCK])
        server.transport.resumeProducing()
        await until(lambda: server.lost, "the loss")

    async def test_a_loss_while_waiting_calls_nobody(self) -> None:
        writer, _, client, calls = await self.open()
        await self.fill(writer, client)
        writer.wait()

        client.transport.abortConnection()
        await until(lambda: client.lost, "the reset")
        await turns(10)

        assert calls.count == 0

    async def test_after_close_the_transport_works_as_if_we_had_never_been_there(self) -> None:
        writer, transport, client, calls = await self.open()
        writer.wait()

        writer.close()
        transport.write(b"bye")
        transport.loseConnection()

        await until(lambda: client.lost, "the end")
        assert client.received == b"bye"
        assert calls.count == 0


class HasUnsentTests(NetTestCase):
    async def test_it_knows_what_twisted_holds(self) -> None:
        """Fails when an upgrade of Twisted renames what we look at."""
        server, client = await socket_pair(self)
        transport = server.transport
        assert has_unsent(transport) is False

        transport.write(b"x")
        assert has_unsent(transport) is True
        await until(lambda: client.received == b"x", "the byte")
        assert has_unsent(transport) is False

        client.transport.pauseProducing()
        transport.write(bytes(32 * 1024 * 1024))
        await turns(5)
        assert transport.dataBuffer, "the peer is not full"
        assert has_unsent(transport) is True

    def test_a_transport_that_hides_its_buffers_is_taken_to_be_full(self) -> None:
        assert has_unsent(object()) is True


class TransportWriterTests(NetTestCase):
    async def open(self) -> tuple[TransportWriter, Any, End, Calls]:
        server, client = await tls_pair(self, Authority(self.tmp_path))
        tune(server.transport)
        calls = Calls()
        writer = writer_for(server.transport, calls)
        assert isinstance(writer, TransportWriter)
        return writer, server.transport, client, calls

    async def test_pieces_arrive_in_order_with_what_was_written_before(self) -> None:
        writer, transport, client, _ = await self.open()
        transport.write(b"protocol ")

        assert writer.clear
        assert writer.send([b"one ", memoryview(b"two ")]) == 8
        assert writer.send_now(b"three") == 5

        await until(lambda: client.received == b"protocol one two three", "the bytes")

    async def test_a_full_peer_takes_nothing_and_says_when_it_takes_more(self) -> None:
        writer, _, client, calls = await self.open()
        client.transport.transport.pauseProducing()
        total = 0

        def fill() -> int:
            nonlocal total
            total += writer.send([BLOCK])
            return total

        await quiet(fill)
        assert not writer.clear
        assert writer.send_now(b"x") == 0
        writer.wait()
        assert calls.count == 0
        client.transport.transport.resumeProducing()
        await until(lambda: calls.count, "room")

        assert writer.clear
        await until(lambda: len(client.received) == total, "all bytes")
        assert client.received == BLOCK * (total // len(BLOCK))

    async def test_a_long_start_is_not_copied_whole_for_a_peer_that_does_not_read(self) -> None:
        writer, _, client, _ = await self.open()
        client.transport.transport.pauseProducing()
        gop = [bytes(8 * 1024 * 1024)]
        taken = 0

        def fill() -> int:
            nonlocal taken
            taken += writer.send([memoryview(gop[0])[taken:]])
            return taken

        await quiet(fill)

        assert 0 < taken < 3 * 1024 * 1024, "the kernel's share and a little of ours"

    async def test_a_long_flush_is_not_copied_whole_either_and_the_rest_follows(self) -> None:
        writer, _, client, calls = await self.open()
        client.transport.transport.pauseProducing()
        flush = BLOCK * 128

        taken = writer.send_now(flush)

        assert 0 < taken <= 1024 * 1024
        assert not writer.clear
        writer.wait()
        client.transport.transport.resumeProducing()
        while taken < len(flush):
            await until(lambda: writer.clear, "room")
            taken += writer.send([memoryview(flush)[taken:]])
        await until(lambda: len(client.received) == len(flush), "all bytes")
        assert client.received == flush
        assert calls.count == 1


def test_what_is_no_tcp_transport_is_written_to_as_a_transport() -> None:
    transport: Any = StringTransport()

    writer = writer_for(transport, lambda: None)

    assert writer.send([b"a", b"b"]) == 2
    assert transport.value() == b"ab"
    writer.close()
    assert transport.producer is None
