from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from relay.decisions import Allow, Decision, Deny
from relay.events import FeedEnded, FeedStarted, PublishRefused
from relay.net.hearing import BATCH, QUICK_BYTES, SLICE, WHOLE
from relay.net.ingest import LINGER_S
from relay.rtmp.events import ConnectRejected, PublishAccepted
from relay.stream.feeds import FeedState
from tests.helpers.peers import Caller, call, encoder, viewer
from tests.helpers.reactor import reactor, turns, until
from tests.helpers.relays import OnAir, RelayTestCase, on_air
from tests.helpers.streams import End
from tests.stream import media

C0C1 = b"\x03" + bytes(1536)
ACKNOWLEDGEMENT = bytes.fromhex("02 000000 000004 03 00000000 00100000")
METADATA = media.data(0, role=media.Role.METADATA, body=b"\x02\x00\x0aonMetaData\x08\x00\x00\x00\x00\x00\x00\x09")


class IngestTestCase(RelayTestCase):
    async def raw(self) -> End:
        """A peer that says what it likes."""
        end, before = End(), len(self.made)
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), end)
        await until(lambda: len(self.made) > before, "accepted, or not")
        return end

    async def closed_after(self, end: Any, seconds: float, code: str) -> None:
        """Check that the deadline is where it should be, and that it closes."""
        self.wait(seconds - 0.5)
        await turns(3)
        assert self.codes == []
        self.wait(0.75)
        assert self.codes == [code]
        self.wait(LINGER_S + 0.25)
        await until(lambda: end.lost, "the close")
        assert self.door.refused[code] == 1


class WorkTests(IngestTestCase):
    async def test_who_takes_long_to_parse_rests_as_long_and_then_goes_on(self) -> None:
        self.open(parse_ms_per_turn=2)
        end = await self.raw()
        connection = self.made[-1]
        parse = connection.rtmp.receive_data

        def slowly(data: bytes, now: float) -> list[Any]:
            self.clock.advance(0.03)
            return parse(data, now)

        connection.rtmp.receive_data = slowly
        end.transport.write(C0C1[:9])
        await until(lambda: connection.transport not in reactor.getReaders(), "the rest")
        self.clock.advance(0.029)
        assert connection.transport not in reactor.getReaders()
        self.clock.advance(0.002)
        assert connection.transport in reactor.getReaders()

        connection.rtmp.receive_data = parse
        end.transport.write(C0C1[9:])
        await until(lambda: len(end.received) == 3073, "S0 S1 S2")
        assert connection.transport in reactor.getReaders()

    async def test_what_a_stranger_says_at_once_is_parsed_in_slices_with_rests(self) -> None:
        self.open(parse_ms_per_turn=2)
        end = await self.raw()
        connection, sizes = self.made[-1], list[int]()
        parse = connection.rtmp.receive_data

        def slowly(data: bytes, now: float) -> list[Any]:
            sizes.append(len(data))
            self.clock.advance(0.003)
            return []

        connection.rtmp.receive_data = slowly
        connection.dataReceived(bytes(3 * SLICE + 1))
        assert sizes == [SLICE]
        connection.dataReceived(b"and more, which TLS had already")
        for rest in (2, 3, 4):
            self.clock.advance(0.0031)
            assert len(sizes) == rest
        assert sizes == [SLICE, SLICE, SLICE, 32]
        self.clock.advance(0.0031)
        connection.rtmp.receive_data = parse
        end.transport.write(C0C1)
        await until(lambda: len(end.received) == 3073, "S0 S1 S2")

    async def test_an_encoder_that_was_slow_once_is_soon_read_whole_again(self) -> None:
        self.open(parse_ms_per_turn=2)
        await encoder(self.port, "primary")
        connection = self.made[-1]
        hearing = connection.hearing
        assert hearing._slice == WHOLE
        connection.rtmp.receive_data = lambda data, now: self.clock.advance(0.003) or []
        connection.dataReceived(bytes(100))
        assert hearing._slice == SLICE
        self.clock.advance(0.004)

        connection.rtmp.receive_data = lambda data, now: []
        for _ in range(QUICK_BYTES // 10_000 + 1):
            connection.dataReceived(bytes(10_000))
        assert hearing._slice == WHOLE

    async def test_only_what_encoders_send_is_a_reason_to_gather_reads(self) -> None:
        self.open()
        show = await on_air(self.port, frames=3)
        await until(lambda: "show" in self.door.registry and self.stream.started, "a live stream")
        player = await viewer(self.port)
        moderation = self.door.moderation

        moderation.reads = 0
        for _ in range(500):  # a crowd that joined together acknowledges together
            self.made[1].dataReceived(ACKNOWLEDGEMENT)
        assert moderation.reads == 0
        assert player.closed is None
        show.run(1)
        await until(lambda: moderation.reads > 0, "a read of the encoder")

    async def many(self, count: int) -> tuple[Any, list[int]]:
        """An encoder that says *count* tiny messages at once, each of which takes half a millisecond to act on."""
        self.open(parse_ms_per_turn=2)
        caller = await encoder(self.port, "primary")
        connection, heard = self.made[-1], list[int]()

        def media(message: Any, now: float) -> None:
            self.clock.advance(0.0005)
            heard.append(message.timestamp)

        connection.role.media = media
        caller.tcp.write(b"".join(caller.rtmp.send_media(8, number, b"\xaf\x01a") for number in range(count)))
        await until(lambda: heard, "the first message")
        await turns(3)
        return caller, heard

    async def test_many_tiny_messages_are_acted_on_in_turns_and_in_order(self) -> None:
        _, heard = await self.many(1000)
        connection = self.made[-1]

        assert len(heard) == BATCH, "one batch is a turn of 32 ms already"
        assert connection.transport not in reactor.getReaders()
        self.clock.advance(0.031)
        assert len(heard) == BATCH, "it rests for as long as its turn took"
        for _ in range(20):
            self.clock.advance(0.033)
        assert heard == list(range(1000))
        assert connection.transport in reactor.getReaders()

    async def test_what_was_said_before_the_end_counts(self) -> None:
        caller, heard = await self.many(1000)
        self.made[-1].transport.resumeProducing()  # as epoll does, which tells of an end even to those who do not read
        caller.tcp.loseConnection()
        await until(lambda: self.made[-1].closed, "the end")

        assert heard == list(range(1000))
        self.clock.advance(1)
        assert len(heard) == 1000

    async def test_a_refusal_ends_the_turns(self) -> None:
        caller, heard = await self.many(1000)
        self.made[-1].refuse("publish.idle", "for a test")
        self.clock.advance(1)

        assert len(heard) == BATCH
        self.wait(LINGER_S + 0.25)
        await until(lambda: caller.closed, "the close")


class DeadlineTests(IngestTestCase):
    async def test_a_silent_peer_is_closed(self) -> None:
        self.open(handshake_s=10)

        await self.closed_after(await self.raw(), 10, "hs.timeout")

    async def test_a_handshake_byte_by_byte_does_not_win_time(self) -> None:
        self.open(handshake_s=10)
        end = await self.raw()
        for _ in range(9):
            end.transport.write(b"\x03")
            await turns(2)
            self.wait(1.0)

        await self.closed_after(end, 1, "hs.timeout")

    async def test_a_handshake_without_its_last_part_is_closed(self) -> None:
        self.open(handshake_s=10)
        end = await self.raw()
        end.transport.write(C0C1)
        await until(lambda: len(end.received) == 3073, "S0 S1 S2")

        await self.closed_after(end, 10, "hs.timeout")

    async def test_a_handshake_and_then_silence_is_closed(self) -> None:
        self.open(command_s=8)
        end = await self.raw()
        end.transport.write(C0C1 + bytes(1536))
        await until(lambda: self.made[0].rtmp.phase == "connect", "the handshake")

        await self.closed_after(end, 8, "cmd.timeout")

    async def test_a_slow_series_of_commands_does_not_win_time(self) -> None:
        self.open(command_s=8)
        caller = await call(self.port, Caller("publish", "primary"))
        self.answers.publish = lambda _: Deferred()
        await until(lambda: self.answers.asked, "the question")
        for _ in range(7):
            caller.command("_checkbw", transaction=9.0, msid=0)
            await turns(2)
            self.wait(1.0)

        self.wait(0.5)
        assert self.codes == []
        self.wait(0.75)
        assert self.codes == ["cmd.timeout"]

    async def test_a_publisher_without_media_is_closed(self) -> None:
        self.open(first_media_s=20)
        caller = await encoder(self.port)
        self.wait(19.5)
        assert self.codes == []

        self.wait(1.0)

        assert self.codes == ["publish.no_media"]
        self.wait(LINGER_S + 0.25)
        await until(lambda: caller.closed, "the close")

    async def test_metadata_is_no_media(self) -> None:
        self.open(first_media_s=20, publish_idle_s=10)
        caller = await encoder(self.port)
        caller.send(METADATA)
        await until(lambda: self.feed().packets_total, "metadata")
        self.wait(19.5)
        assert self.codes == []

        self.wait(1.0)

        assert self.codes == ["publish.no_media"]

    async def test_a_publisher_whose_media_stops_is_idle(self) -> None:
        self.open(publish_idle_s=10)
        show = await on_air(self.port)
        await until(lambda: self.feed().packets_total == 8, "media")
        self.wait(9.5)
        assert self.codes == []
        show.run(1)
        await until(lambda: self.feed().packets_total == 10, "more media")

        self.wait(9.5)
        assert self.codes == []
        self.wait(1.0)

        assert self.codes == ["publish.idle"]
        assert self.answers.of(FeedEnded)[0].reason == "publish.idle"

    async def test_an_encoder_that_sends_may_stay(self) -> None:
        self.open(publish_idle_s=10, command_s=5, handshake_s=5)
        show = await on_air(self.port)
        for _ in range(30):
            show.run(1)
            seen = self.feed().packets_total
            await until(lambda seen=seen: self.feed().packets_total > seen, "a frame")  # type: ignore[misc]
            self.wait(4.0)

        assert self.codes == []


class ClosingTests(IngestTestCase):
    async def refuse(self, caller: Caller) -> Caller:
        self.answers.publish = lambda _: Deny(reason="unknown key", public="Come back tomorrow.")
        await call(self.port, caller)
        await until(lambda: self.codes, "the refusal")
        return caller

    async def test_a_refusal_is_said_before_the_connection_is_closed(self) -> None:
        self.open()
        caller = await self.refuse(Caller("publish", "wrong"))

        await until(lambda: caller.said("NetStream.Publish.Denied"), "the text")
        await until(lambda: caller.closed, "the close")

        assert caller.said("NetStream.Publish.Denied") == "Come back tomorrow."
        assert self.codes == ["auth.publish_denied"]
        assert [event.reason for event in self.answers.of(PublishRefused)] == ["unknown key"]

    async def test_without_a_public_text_the_encoder_learns_nothing(self) -> None:
        self.open()
        self.answers.publish = lambda _: Deny(reason="expired on Tuesday")
        caller = await call(self.port, Caller("publish", "wrong"))

        await until(lambda: caller.said("NetStream.Publish.Denied"), "the text")

        assert "Tuesday" not in caller.said("NetStream.Publish.Denied")

    async def test_a_refused_peer_that_stays_is_cut_off_after_a_moment(self) -> None:
        self.open()
        end = await self.raw()
        end.readConnectionLost = lambda: None  # type: ignore[attr-defined]  # it hears the FIN and ignores it
        end.transport.protocol = _Deaf(end)
        end.transport.write(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: self.codes, "the refusal")

        self.wait(LINGER_S - 0.25)
        await turns(5)
        assert self.door.admission.connections == 1
        self.wait(0.5)

        await until(lambda: self.door.admission.connections == 0, "the end")

    async def test_a_peer_that_does_not_read_cannot_hold_the_connection(self) -> None:
        self.open()
        end = await self.raw()
        end.transport.write(C0C1 + bytes(1536))
        await until(lambda: self.made[0].rtmp.phase == "connect", "the handshake")
        end.transport.pauseProducing()
        self.made[0].transport.write(bytes(16 * 1024 * 1024))  # more than every buffer takes

        self.wait(10.5)
        assert self.codes == ["cmd.timeout"]
        self.wait(LINGER_S + 0.5)

        await until(lambda: self.door.admission.connections == 0, "the end")

    async def test_what_a_refused_peer_still_sends_is_ignored(self) -> None:
        self.open(first_media_s=5)
        caller = await encoder(self.port)
        feed = self.feed()
        self.wait(5.5)
        assert self.codes == ["publish.no_media"]

        OnAir(caller).headers().run(5)
        await turns(10)

        assert feed.packets_total == 0
        assert self.codes == ["publish.no_media"]

    async def test_a_half_closed_encoder_ends_its_feed_once(self) -> None:
        self.open()
        show = await on_air(self.port)
        await until(lambda: self.feed().packets_total == 8, "media")
        show.caller.send(media.video(120, size=5000))
        show.caller.tcp.write(b"\x06\x00\x00")  # a header that never ends

        show.caller.tcp.loseWriteConnection()
        await until(lambda: self.door.admission.connections == 0, "our close")

        assert [event.reason for event in self.answers.of(FeedEnded)] == ["closed"]
        assert self.codes == []
        assert "show" not in self.door.registry

    async def test_a_reset_in_the_middle_of_a_chunk_ends_the_feed_once(self) -> None:
        self.open()
        show = await on_air(self.port)
        await until(lambda: self.feed().packets_total == 8, "media")
        show.caller.tcp.write(b"\x06\x00\x00\x00\x00\xff\xff\x09\x01\x00\x00\x00half")

        show.caller.drop()
        await until(lambda: self.door.admission.connections == 0, "the end")

        assert [event.reason for event in self.answers.of(FeedEnded)] == ["closed"]

    async def test_a_peer_that_leaves_during_authorisation_publishes_nothing(self) -> None:
        self.open()
        answer: Deferred[Decision] = Deferred()
        self.answers.publish = lambda _: answer
        caller = await call(self.port, Caller("publish", "primary"))
        await until(lambda: self.answers.asked, "the question")

        caller.drop()
        await until(lambda: self.door.admission.connections == 0, "the end")
        answer.callback(Allow(stream_name="show"))

        assert len(self.door.registry) == 0
        assert self.answers.of(FeedStarted) == []

    async def test_a_timeout_during_authorisation_publishes_nothing(self) -> None:
        self.open(command_s=10)
        answer: Deferred[Decision] = Deferred()
        self.answers.publish = lambda _: answer
        await call(self.port, Caller("publish", "primary"))
        await until(lambda: self.answers.asked, "the question")
        self.wait(10.5)

        answer.callback(Allow(stream_name="show"))

        assert self.codes == ["cmd.timeout"]
        assert len(self.door.registry) == 0
        assert self.door.admission.roles["publisher"] == 0

    async def test_a_protocol_error_is_counted_and_said_in_one_line(self) -> None:
        self.open()
        show = await on_air(self.port)
        await until(lambda: self.feed().packets_total == 8, "media")

        show.caller.tcp.write(b"\x02\x00\x00\x00\x00\x00\x04\x01\x00\x00\x00\x00\x00\x00\x00\x00")
        await until(lambda: self.codes, "the refusal")

        assert self.codes == ["chunk.size_zero"]
        assert [line["code"] for line in self.lines] == ["chunk.size_zero"]
        assert self.lines[0]["peer"] == "127.0.0.1"
        assert self.lines[0]["bytes_in"] > 3000
        assert self.answers.of(FeedEnded)[0].reason == "chunk.size_zero"

    async def test_lines_about_one_peer_are_rate_limited_but_all_are_counted(self) -> None:
        self.open()
        for _ in range(14):
            end = await self.raw()
            end.transport.write(b"GET / HTTP/1.1\r\n\r\n")
            await until(lambda end=end: end.lost, "the close")  # type: ignore[misc]

        assert self.door.refused["hs.http_on_rtmp"] == 14
        assert len(self.lines) == 10


class _Deaf:
    """Stands in for a peer that ignores that we half-closed."""

    def __init__(self, end: End) -> None:
        from twisted.internet.interfaces import IHalfCloseableProtocol
        from zope.interface import directlyProvides

        directlyProvides(self, IHalfCloseableProtocol)
        self.connectionLost = end.connectionLost
        self.dataReceived = end.dataReceived
        self.readConnectionLost = lambda: None
        self.writeConnectionLost = lambda: None


class WrongProtocolTests(IngestTestCase):
    async def test_http_is_answered_with_400_and_closed(self) -> None:
        self.open()
        end = await self.raw()

        end.transport.write(b"GET /index.html HTTP/1.1\r\nHost: relay\r\n\r\n")
        await until(lambda: end.lost, "the close")

        assert self.codes == ["hs.http_on_rtmp"]
        assert bytes(end.received).startswith(b"HTTP/1.1 400")
        assert len(self.lines) == 1

    async def test_tls_is_recognised(self) -> None:
        self.open()
        end = await self.raw()

        end.transport.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40))
        await until(lambda: end.lost, "the close")

        assert self.codes == ["hs.tls_on_rtmp"]
        assert "rtmps" in self.lines[0]["text"].lower() or "tls" in self.lines[0]["text"].lower()

    async def test_an_unknown_app_is_refused_with_those_that_are_served(self) -> None:
        self.open(apps=("live", "studio"))
        caller = await call(self.port, Caller("publish", "primary", app="nowhere/x"))

        await until(lambda: caller.closed, "the close")

        refusal = caller.of(ConnectRejected)[0]
        assert "/live or /studio" in refusal.description
        assert self.codes == ["connect.unknown_app"]

    async def test_without_a_list_every_app_is_served(self) -> None:
        self.open(apps=())

        await encoder(self.port, app="anything")

        assert self.answers.asked[0].app == "anything"


class LimitTests(IngestTestCase):
    async def test_connections_above_the_limit_are_closed_unheard(self) -> None:
        self.open(connections=2)
        kept = [await self.raw() for _ in range(2)]

        refused = await self.raw()
        await until(lambda: refused.lost, "the close")

        assert self.codes == ["limit.connections"]
        assert refused.received == b""
        assert not any(end.lost for end in kept)
        kept[0].transport.loseConnection()
        await until(lambda: self.door.admission.connections == 1, "room")
        assert not (await self.raw()).lost

    async def test_publishers_above_the_limit_are_told(self) -> None:
        self.open(publishers=1)
        await on_air(self.port, "primary")

        caller = await call(self.port, Caller("publish", "backup"))
        await until(lambda: caller.closed, "the close")

        assert self.codes == ["limit.publishers"]
        assert "full" in caller.said("NetStream.Publish.BadName")
        assert self.door.admission.roles["publisher"] == 1

    async def test_guessing_is_slowed_down(self) -> None:
        self.open()
        self.answers.publish = lambda _: Deny()
        for _ in range(5):
            caller = await call(self.port, Caller("publish", "guess"))
            await until(lambda caller=caller: caller.closed, "an answer at once")  # type: ignore[misc]

        caller = await call(self.port, Caller("publish", "guess"))
        await until(lambda: len(self.answers.asked) == 6, "the question")
        await turns(10)
        assert len(self.codes) == 5
        self.clock.advance(1.0)

        await until(lambda: len(self.codes) == 6, "the answer")

    async def test_while_shutting_down_nobody_is_let_in(self) -> None:
        self.open()
        answer: Deferred[Decision] = Deferred()
        self.answers.publish = lambda _: answer
        waiting = await call(self.port, Caller("publish", "primary"))
        await until(lambda: self.answers.asked, "the question")

        self.door.draining = True
        late = await self.raw()
        await until(lambda: late.lost, "the close")
        answer.callback(Allow(stream_name="show"))
        await until(lambda: waiting.closed, "the refusal")

        assert self.codes == ["shutdown", "shutdown"]
        assert len(self.door.registry) == 0


class OwnershipTests(IngestTestCase):
    async def test_a_second_encoder_with_the_key_of_a_live_one_is_refused(self) -> None:
        self.open()
        first = await on_air(self.port)
        await until(lambda: self.feed().packets_total == 8, "media")
        second = await call(self.port, Caller("publish", "primary"))
        await until(lambda: len(self.answers.asked) == 2, "the question")

        first.run(1)
        await until(lambda: self.feed().packets_total == 10, "more media")
        self.wait(0.5)
        await until(lambda: second.closed, "the refusal")

        assert "Another encoder" in second.said("NetStream.Publish.BadName")
        assert self.codes == ["publish.busy"]
        assert first.caller.closed is None
        assert self.answers.of(FeedEnded) == []

    async def test_a_second_encoder_takes_over_from_one_that_fell_silent_at_the_first_try(self) -> None:
        self.open()
        first = await on_air(self.port)
        await until(lambda: self.feed().packets_total == 8, "media")
        old, stream = self.feed(), self.stream
        self.wait(1.5)
        second = Caller("publish", "primary")
        await call(self.port, second)
        await until(lambda: len(self.answers.asked) == 2, "the question")
        self.wait(0.25)
        assert not second.has(PublishAccepted)

        self.wait(0.5)
        await until(lambda: second.has(PublishAccepted), "the takeover")

        assert old.state is FeedState.ENDED
        assert self.stream is stream, "the programme did not go on"
        await until(lambda: first.caller.closed, "the old connection")
        assert self.codes == ["publish.taken_over"]
        OnAir(second).headers().run(1)
        await until(lambda: stream.live_feed is self.feed(), "the switch")
        assert stream.switches == 1
        assert self.door.admission.roles["publisher"] == 1

    async def test_who_is_kicked_is_told_and_kept_out_until_its_time_is_over(self) -> None:
        self.open()
        first = await on_air(self.port)
        await until(lambda: self.feed().packets_total == 8, "media")
        self.door.publishers[self.feed()].kick(60)
        await until(lambda: first.caller.closed, "the kick")
        assert "operator" in first.caller.said("NetStream.Publish.BadName")
        assert self.answers.of(FeedEnded)[0].reason == "publish.kicked"

        again = await call(self.port, Caller("publish", "primary"))
        await until(lambda: again.closed, "the refusal")
        assert "operator" in again.said("NetStream.Publish.BadName")
        assert (await encoder(self.port, "backup")).has(PublishAccepted), "the other feed is free"
        self.wait(60)
        assert (await encoder(self.port, "primary")).has(PublishAccepted)

    async def test_who_waits_for_a_feed_that_is_kicked_meanwhile_does_not_get_it(self) -> None:
        self.open()
        await on_air(self.port)
        await until(lambda: self.feed().packets_total == 8, "media")
        self.wait(1.5)
        second = await call(self.port, Caller("publish", "primary"))
        await until(lambda: len(self.answers.asked) == 2, "the question")

        self.door.publishers[self.feed()].kick(60)
        self.wait(0.5)
        await until(lambda: second.closed, "the refusal")

        assert not second.has(PublishAccepted)

    async def test_the_old_encoder_is_told_if_it_still_listens(self) -> None:
        self.open()
        first = await on_air(self.port)
        await until(lambda: self.feed().packets_total == 8, "media")
        self.wait(2.5)

        await encoder(self.port)

        await until(lambda: first.caller.closed, "the old connection")
        assert "another" in first.caller.said("NetStream.Publish.BadName").lower()

    async def test_when_many_want_to_take_over_one_wins_and_the_others_are_refused(self) -> None:
        self.open()
        await on_air(self.port)
        await until(lambda: self.feed().packets_total == 8, "media")
        crowd = [await call(self.port, Caller("publish", "primary")) for _ in range(6)]
        await until(lambda: len(self.answers.asked) == 7, "all questions")
        self.wait(2.5)

        await until(lambda: [one for one in crowd if one.has(PublishAccepted)], "a winner")
        winner = next(one for one in crowd if one.has(PublishAccepted))
        show = OnAir(winner).headers().run(1)
        await until(lambda: self.feed().packets_total >= 4, "media of the winner")
        for _ in range(10):
            seen = self.feed().packets_total
            show.run(1)
            await until(lambda seen=seen: self.feed().packets_total > seen, "media of the winner")  # type: ignore[misc]
            self.wait(0.25)

        await until(lambda: sum(one.closed is not None for one in crowd) == 5, "the refusals")
        assert winner.closed is None
        assert sum(one.has(PublishAccepted) for one in crowd) == 1
        assert sorted(set(self.codes)) == ["publish.busy", "publish.taken_over"]

    async def test_an_encoder_whose_predecessor_leaves_meanwhile_is_let_in(self) -> None:
        self.open()
        first = await on_air(self.port)
        await until(lambda: self.feed().packets_total == 8, "media")
        second = await call(self.port, Caller("publish", "primary"))
        await until(lambda: len(self.answers.asked) == 2, "the question")

        first.caller.drop()
        await until(lambda: self.answers.of(FeedEnded), "the end of the first")
        self.wait(0.25)

        await until(lambda: second.has(PublishAccepted), "the start of the second")

    async def test_primary_and_backup_publish_side_by_side(self) -> None:
        self.open()
        await on_air(self.port, "primary")
        await on_air(self.port, "backup")

        await until(lambda: len(self.stream.feeds) == 2, "both")

        assert self.stream.live_feed is self.feed("primary")

    async def test_after_unpublishing_the_same_connection_may_publish_again(self) -> None:
        self.open()
        show = await on_air(self.port)
        await until(lambda: self.feed().packets_total == 8, "media")

        show.caller.command("FCUnpublish", "primary", transaction=6.0, msid=0)
        show.caller.command("deleteStream", 1.0, transaction=7.0, msid=0)
        show.caller.command("createStream", transaction=8.0, msid=0)
        show.caller.command("publish", "primary", "live", transaction=9.0, msid=1)
        await until(lambda: len(self.answers.asked) == 2, "the second publish")

        assert [event.reason for event in self.answers.of(FeedEnded)] == ["unpublished"]
        await until(lambda: len(self.answers.of(FeedStarted)) == 2, "the second feed")
        assert self.door.admission.roles["publisher"] == 1
        OnAir(show.caller).headers().run(2)
        await until(lambda: self.feed().packets_total == 6, "media again")

    async def test_after_unpublishing_the_command_deadline_runs_again(self) -> None:
        self.open(command_s=10)
        show = await on_air(self.port)
        await until(lambda: self.feed().packets_total == 8, "media")
        self.wait(5.0)
        show.caller.command("deleteStream", 1.0, transaction=7.0, msid=0)
        await until(lambda: self.answers.of(FeedEnded), "the end of the feed")
        assert self.door.admission.unauthenticated == 1

        self.wait(9.5)
        assert self.codes == []
        self.wait(0.75)

        assert self.codes == ["cmd.timeout"]

    async def test_a_name_that_a_plugin_made_up_is_checked(self) -> None:
        self.open()
        self.answers.publish = lambda _: Allow(stream_name="../etc/passwd")
        caller = await call(self.port, Caller("publish", "primary"))

        await until(lambda: caller.closed, "the refusal")

        assert self.codes == ["name.bad"]
        assert len(self.door.registry) == 0

    async def test_media_that_comes_before_the_answer_is_not_lost(self) -> None:
        self.open()
        answer: Deferred[Decision] = Deferred()
        self.answers.publish = lambda _: answer
        caller = await call(self.port, Caller("publish", "primary"))
        await until(lambda: self.answers.asked, "the question")
        for event in caller.rtmp.start_anyway():
            caller.events.append(event)
        OnAir(caller).headers().run(2)
        await until(lambda: len(self.made[0].rtmp._held) == 6, "early media")
        assert len(self.door.registry) == 0

        answer.callback(Allow(stream_name="show"))

        assert self.feed().packets_total == 6
