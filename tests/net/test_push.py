from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.x509 import Certificate, load_pem_x509_certificate

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.protocol import Factory
from zope.interface import implementer

from relay import amf0
from relay.context import PushTarget
from relay.net.push import RtmpPush
from relay.net.tls import ReloadingCertificate
from relay.rtmp import messages as m
from relay.rtmp.events import Event, PublishRequested
from relay.rtmp.framing import CHUNK_SIZE, frame
from relay.secret import Secret
from tests.helpers.peers import DestinationConnection, Platform
from tests.helpers.pushes import FRAME_MS, GOP, KEY, PushTestCase
from tests.helpers.reactor import reactor, turns, until
from tests.helpers.seats import check_programme, frames_of, is_header, is_key, picture, serial_of, sound
from tests.helpers.tls import Authority, tls_factory
from tests.stream import media


def newest(connection: DestinationConnection) -> int:
    """Number of the newest frame that a destination has."""
    frames = frames_of(connection.messages)
    return serial_of(frames[-1]) if frames else -1


def check_start(connection: DestinationConnection) -> None:
    """Check how a destination is started: metadata, headers, keyframe, time from 0."""
    first = connection.messages[:4]
    assert [one.type_id for one in first] == [18, 9, 8, 9]
    assert amf0.decode(first[0].payload)[:2] == ["@setDataFrame", "onMetaData"]
    assert is_header(first[1])
    assert is_header(first[2])
    assert is_key(first[3])
    times = [one.timestamp for one in connection.messages]
    assert times[:4] == [0, 0, 0, 0]
    assert times == sorted(times)


class LiveTests(PushTestCase):
    async def test_a_destination_gets_the_programme_from_its_first_keyframe(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        await self.live(push)

        self.frames(30)
        await until(lambda: newest(platform.last) == 59, "all frames")

        check_start(platform.last)
        assert check_programme(platform.last.messages) == list(range(60))
        assert platform.last.published[0].name.reveal() == KEY
        assert self.states() == ["connecting", "live"]
        assert push.attempts == 1
        assert push.bytes_sent >= 60 * 60
        self.assert_key_is_nowhere(push, push.place, platform.last.published[0])

    async def test_what_came_while_it_connected_is_not_lost(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        self.frames(10)
        await self.live(push)

        self.frames(10)
        await until(lambda: newest(platform.last) == 39, "all frames")

        check_start(platform.last)
        assert check_programme(platform.last.messages) == list(range(40))

    async def test_many_destinations_get_the_same_media(self) -> None:
        platforms = [self.platform() for _ in range(8)]
        pushes = self.push(*(port for _, port in platforms))
        for push in pushes:
            await self.live(push)

        for _ in range(40):
            self.frames(1, size=5000)
            await turns(1)
        for platform, _ in platforms:
            await until(lambda platform=platform: newest(platform.last) == 79, "all frames")  # type: ignore[misc]

        assert len({str(platform.last.media) for platform, _ in platforms}) == 1
        assert len({push.bytes_sent for push in pushes}) == 1

    async def test_new_headers_come_before_what_they_describe(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        await self.live(push)
        self.frames(GOP)
        await until(lambda: newest(platform.last) == 49, "the first GOP")
        changed = media.tracks(media.video_header(body=media.AVC_HEADER + b"\x00"), media.audio_header(), generation=2)

        assert self.group is not None
        self.group.configure(changed)
        self.frames(2)
        await until(lambda: newest(platform.last) == 53, "the second GOP")

        bodies = [one.payload for one in platform.last.messages]
        at = bodies.index(media.AVC_HEADER + b"\x00")
        assert is_key(platform.last.messages[at + 2])
        assert check_programme(platform.last.messages) == list(range(54))

    async def test_what_the_destination_acknowledges_is_counted(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        await self.live(push)
        self.frames(50, size=60_000)
        await until(lambda: newest(platform.last) == 99, "all frames")

        await until(lambda: push.bytes_acked > 1_000_000, "the count")
        assert push.bytes_acked <= platform.last.bytes_in

    async def test_the_kernels_figures_of_the_connection_are_known_while_there_is_one(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        assert push.tcp is None
        await self.live(push)
        platform.last.tcp.pauseProducing()
        self.frames(50, size=60_000)
        await turns(20)

        assert push.tcp is not None
        assert 0 <= push.tcp.rtt_ms < 1000
        assert push.tcp.retransmits >= 0
        assert push.tcp.unacked_bytes > 0
        platform.hang_up()
        await until(lambda: push.state.value == "backing-off", "the loss")
        assert push.tcp is None

    async def test_a_server_that_never_says_start_gets_media_after_a_while(self) -> None:
        platform, port = self.platform()
        platform.answer = _all_but_publish(platform)  # type: ignore[method-assign]
        (push,) = self.push(port)
        await until(lambda: platform.connections and platform.last.published, "the publish")
        self.frames(5)
        self.wait(7.0)
        assert push.state.value == "connecting"

        self.wait(1.5)

        assert push.state.value == "live"


def _all_but_publish(platform: Platform) -> Any:
    answer = platform.answer

    def say(connection: DestinationConnection, event: Event) -> None:
        if not isinstance(event, PublishRequested):
            answer(connection, event)

    return say


class FailureTests(PushTestCase):
    async def test_a_refused_publish_needs_a_person_and_is_retried_slowly(self) -> None:
        platform, port = self.platform()
        platform.refuse = ("NetStream.Publish.Denied", "The event has not started.")
        (push,) = self.push(port)
        await self.state(push, "refused")

        assert push.reason == "publish-refused"
        assert "The event has not started." in push.detail
        self.wait(14.75)
        assert push.attempts == 1
        self.wait(0.5)
        assert push.attempts == 2
        await self.state(push, "refused")
        self.wait(29.5)
        assert push.attempts == 2
        platform.refuse = None
        self.wait(1.0)
        await self.live(push)

    async def test_a_refusal_that_repeats_the_key_does_not_show_it(self) -> None:
        platform, port = self.platform()
        platform.refuse = ("NetStream.Publish.BadName", f"Stream key {KEY} is not known.\x1b[31m\nrtmp://h/live/{KEY}")
        (push,) = self.push(port)
        await self.state(push, "refused")

        assert "Stream key *** is not known." in push.detail
        assert KEY not in push.detail
        assert push.detail.isprintable()
        self.assert_key_is_nowhere(push, push.place, vars(push))

    async def test_secrets_in_the_query_of_the_address_are_not_shown_either(self) -> None:
        platform, port = self.platform()
        platform.refuse = ("NetStream.Publish.Denied", f"app live?sig={KEY}&x=1 denied; sig {KEY}")
        (push,) = self.push(
            PushTarget(name="t0", url=f"rtmp://127.0.0.1:{port}/live?sig={KEY}&x=1", key=Secret("another-key-77"))
        )
        await self.state(push, "refused")

        assert KEY not in push.detail
        self.assert_key_is_nowhere(push, push.place)

    async def test_a_refused_connect_needs_a_person_too(self) -> None:
        platform, port = self.platform()
        platform.answer = lambda connection, event: connection.rtmp.reject_connect("No such app.")  # type: ignore[method-assign,misc]
        (push,) = self.push(port)

        await self.state(push, "refused")

        assert push.reason == "connect-rejected"
        assert "No such app." in push.detail

    async def test_a_closed_port_is_tried_again_and_again(self) -> None:
        port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        number = port.getHost().port
        await port.stopListening()
        (push,) = self.push(number)
        waits = []
        for attempt in range(1, 13):
            await self.state(push, "backing-off")
            assert push.attempts == attempt
            assert push.reason == "refused"
            assert "nothing listens there" in push.detail
            waits.append(self.due_in(push))
            self.wait(waits[-1] + 0.25)

        assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30]
        await self.state(push, "backing-off")
        platform = Platform()
        again = reactor.listenTCP(number, platform, interface="127.0.0.1")
        self.addCleanup(again.stopListening)
        self.wait(30.25)
        await self.live(push)
        self.frames(GOP)
        await until(lambda: platform.connections and newest(platform.last) >= 0, "media")
        check_start(platform.last)

    async def test_a_name_that_does_not_resolve_is_said(self) -> None:
        self.reactor.nameResolver = _Resolver(answers=True)
        (push,) = self.push(PushTarget(name="t0", url="rtmp://nowhere.example/live", key=Secret(KEY)))

        await self.state(push, "backing-off")

        assert push.reason == "dns"
        assert "does not resolve" in push.detail

    async def test_a_name_server_that_hangs_does_not_hold_the_target_for_ever(self) -> None:
        resolver = self.reactor.nameResolver = _Resolver(answers=False)
        (push,) = self.push(PushTarget(name="t0", url="rtmp://slow.example/live", key=Secret(KEY)))
        self.wait(4.75)
        assert push.state.value == "connecting"

        self.wait(0.5)
        assert push.reason == "dns"
        self.wait(1.0)

        assert push.attempts == 2
        for receiver in resolver.receivers:
            receiver.resolutionComplete()  # the answer comes after all, to nobody

    async def test_an_address_that_leads_nowhere_is_passed_over_for_the_next_one_of_the_name(self) -> None:
        platform, port = self.platform()
        self.reactor.nameResolver = _Resolver("::1", "127.0.0.1", answers=True)
        (push,) = self.push(PushTarget(name="t0", url=f"rtmp://both.example:{port}/live", key=Secret(KEY)))

        await self.state(push, "live")

        assert (push.attempts, len(platform.connections)) == (1, 1)

    async def test_a_name_that_has_an_address_of_the_wrong_family_only_is_tried_again(self) -> None:
        platform, port = self.platform()
        self.reactor.nameResolver = _Resolver("::1", answers=True)
        (push,) = self.push(PushTarget(name="t0", url=f"rtmp://six.example:{port}/live", key=Secret(KEY)))

        await self.state(push, "backing-off")

        assert push.reason in ("refused", "unreachable"), "whether this machine has the family or not"
        assert self.due_in(push) == 0.5
        assert not platform.connections

    async def test_a_server_that_announces_chunks_of_a_size_that_cannot_be_is_left(self) -> None:
        for size in (0, 1 << 31):
            platform, port = self.platform()
            said = frame(2, 0, m.SET_CHUNK_SIZE, 0, m.u32(size), CHUNK_SIZE)
            platform.answer = lambda connection, event, said=said: connection.tcp.write(said)  # type: ignore[method-assign,misc]
            (push,) = self.push(port)

            await self.state(push, "backing-off")

            assert push.reason == "protocol"
            assert "chunk.size" in push.detail
            await self._end()

    async def test_a_server_that_says_nothing_is_given_up(self) -> None:
        platform, port = self.platform()
        platform.mute = True
        (push,) = self.push(port)
        await until(lambda: platform.connections and platform.last.bytes_in >= 1537, "C0 and C1")
        self.wait(9.75)
        assert push.state.value == "connecting"

        self.wait(0.5)

        assert (push.state.value, push.reason) == ("backing-off", "handshake")
        await until(lambda: platform.last.closed, "the abort")

    async def test_a_server_that_speaks_http_is_given_up_at_once(self) -> None:
        platform, port = self.platform()
        platform.mute = True
        platform.connected = lambda connection: connection.tcp.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)
        (push,) = self.push(port)

        await self.state(push, "backing-off")

        assert push.reason in ("protocol", "handshake")

    async def test_a_server_that_closes_after_the_publish_is_tried_again(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        await self.live(push)

        self.wait(10.0)
        platform.last.tcp.loseConnection()
        await self.state(push, "backing-off")

        assert push.reason == "closed"
        self.wait(0.5)
        await self.live(push)

    async def test_a_publish_that_is_closed_at_once_again_and_again_is_probably_a_wrong_key(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        waits = []
        for number in range(5):
            await self.live(push)
            self.wait(1.0)
            platform.last.tcp.loseConnection()
            await self.state(push, "backing-off" if number < 2 else "refused")
            assert push.reason == "closed-early"
            assert "1.0 s after the publish" in push.detail
            assert "a wrong key" in push.detail
            waits.append(self.due_in(push))
            self.wait(waits[-1] + 0.25)

        assert waits == [0.5, 1.0, 15.0, 30.0, 60.0], "nobody is hammered, and nobody is given up"

    async def test_a_close_in_answer_to_the_publish_is_how_some_servers_refuse_a_key(self) -> None:
        platform, port = self.platform()
        take = platform.answer

        def close_at_publish(connection: DestinationConnection, event: Event) -> None:
            if isinstance(event, PublishRequested):
                connection.tcp.loseConnection()
            else:
                take(connection, event)

        platform.answer = close_at_publish  # type: ignore[method-assign]
        (push,) = self.push(port)
        for wait in (0.5, 1.0):
            await self.state(push, "backing-off")
            self.wait(wait + 0.25)
        await self.state(push, "refused")

        assert push.reason == "closed-early"

    async def test_an_error_while_live_is_the_end_when_it_takes_the_publish_back(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        await self.live(push)
        self.wait(12.0)

        platform.last.rtmp.end_publish(1, f"Banned, {KEY}.", "NetStream.Publish.Denied")
        platform.last.flush()
        await self.state(push, "refused")

        assert push.reason == "publish-refused"
        assert "NetStream.Publish.Denied: Banned" in push.detail
        self.assert_key_is_nowhere(push.detail)

    async def test_another_error_while_live_is_remembered_for_the_end(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        await self.live(push)
        self.wait(12.0)
        platform.last.rtmp.end_publish(1, "Disk full.", "NetStream.Record.Failed")
        platform.last.flush()
        await turns(20)
        assert push.state.value == "live"

        platform.last.tcp.loseConnection()
        await self.state(push, "backing-off")

        assert push.reason == "closed"
        assert "before that, the destination said NetStream.Record.Failed: Disk full." in push.detail

    async def test_a_ca_file_that_is_missing_is_named_and_looked_for_again(self) -> None:
        path = self.tmp_path / "ca.pem"
        (push,) = self.push(PushTarget(name="t0", url="rtmps://localhost:1/live", key=Secret(KEY), ca_file=Path(path)))

        assert (push.state.value, push.reason) == ("backing-off", "tls")
        assert str(path) in push.detail
        self.wait(0.5)
        assert push.attempts == 2

    async def test_after_a_good_minute_the_waits_begin_from_the_beginning(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        for lived, expected in ((5.0, 0.5), (5.0, 1.0), (59.0, 2.0), (61.0, 0.5)):
            await self.live(push)
            self.wait(lived)
            platform.hang_up()
            await self.state(push, "backing-off")
            assert self.due_in(push) == expected
            self.wait(expected + 0.25)


@implementer(IHostnameResolver)
class _Resolver:
    """Finds these addresses, or never answers."""

    def __init__(self, *addresses: str, answers: bool) -> None:
        self._addresses = addresses
        self._answers = answers
        self.receivers: list[Any] = []

    def resolveHostName(self, receiver: Any, hostName: str, portNumber: int = 0, *args: Any, **options: Any) -> Any:
        receiver.resolutionBegan(self)
        self.receivers.append(receiver)
        for address in self._addresses:
            kind = IPv6Address if ":" in address else IPv4Address
            receiver.addressResolved(kind("TCP", address, portNumber))
        if self._answers:
            receiver.resolutionComplete()
        return self

    def cancel(self) -> None:
        """Part of IHostResolution."""


class ReconnectTests(PushTestCase):
    async def test_a_new_session_starts_with_metadata_headers_keyframe_and_time_zero(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        await self.live(push)
        self.frames(40)
        await until(lambda: newest(platform.last) == 79, "the first session")

        platform.hang_up()
        await self.state(push, "backing-off")
        self.frames(20)
        self.wait(0.5)
        await self.live(push)
        self.frames(20)
        await until(lambda: newest(platform.last) == 159, "the second session")

        assert len(platform.connections) == 2
        check_start(platform.last)
        numbers = check_programme(platform.last.messages)
        assert numbers[0] == 2 * 2 * GOP, "not the next keyframe"
        assert push.attempts == 2

    async def test_it_never_begins_with_old_media(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        await self.live(push)
        self.frames(GOP)
        platform.hang_up()
        await self.state(push, "backing-off")
        platform.refuse = ("x", "y")
        for _ in range(60):
            self.frames(GOP)

        platform.refuse = None
        self.wait(0.5)
        await self.live(push)
        await until(lambda: newest(platform.last) > 0, "media")
        await turns(20)
        assert platform.last.messages[-1].timestamp <= 2000, "a burst"
        for tick in range(1, 9):
            self.wait(0.25)
            await turns(20)
            assert platform.last.messages[-1].timestamp <= 2000 + tick * 250, "faster than the pace"
        self.wait(20)
        await until(lambda: newest(platform.last) == self.serial - 1, "the newest frame")

        check_start(platform.last)
        numbers = check_programme(platform.last.messages)
        assert len(numbers) <= 2 * (2000 // 40 + 1), "more than the queue may hold"


class PaceTests(PushTestCase):
    """An encoder with a keyframe every 4 s, the most that platforms allow."""

    def show(self, ms: int) -> None:
        """Publish *ms* of the programme, in the time of the clock."""
        assert self.group is not None
        for _ in range(ms // FRAME_MS):
            self.group.write(picture(self.serial, self.dts, key=self.dts % 4_000 == 0))
            self.group.write(sound(self.serial + 1, self.dts))
            self.serial += 2
            self.dts += FRAME_MS
            self.clock.advance(FRAME_MS / 1000)

    async def watch_it(self, platform: Platform, ms: int) -> list[int]:
        """Show *ms*; return how far behind the destination was after each second."""
        behind = []
        for number in range(ms // 200):
            self.show(200)
            await turns(6)
            if number % 5 == 4:
                behind.append(self.dts - 100_000 - FRAME_MS - platform.last.messages[-1].timestamp)
        return behind

    async def late(self, ms: int) -> tuple[RtmpPush, Platform]:
        """A destination that accepts the publish *ms* after the programme began."""
        platform, port = self.platform()
        (push,) = self.push(port)
        self.show(ms)
        await self.live(push)
        await turns(20)
        return push, platform

    async def test_a_group_of_pictures_that_has_begun_is_kept_and_the_destination_stays_behind(self) -> None:
        push, platform = await self.late(3_520)
        assert platform.last.messages[-1].timestamp == 2_000, "a burst, or less than may leave"

        behind = await self.watch_it(platform, 10_000)

        assert not [ms for ms in behind if abs(ms - 1_480) > FRAME_MS], behind
        assert push.link is not None
        assert not push.link.in_step
        assert 1_400 < push.outbox.queue_ms < 1_600
        assert push.dropped_gops == 0

        self.wait(2.0)  # the encoder pauses
        await until(lambda: newest(platform.last) == self.serial - 1, "level with the programme")
        await self.watch_it(platform, 400)
        assert push.link.in_step
        check_start(platform.last)
        assert check_programme(platform.last.messages) == list(range(self.serial))

    async def test_a_keyframe_that_finds_too_much_waiting_is_where_it_goes_on_from(self) -> None:
        push, platform = await self.late(4_000 + FRAME_MS)

        assert push.dropped_gops == 1
        await self.watch_it(platform, 1_000)
        await until(lambda: newest(platform.last) == self.serial - 1, "level with the programme")

        assert push.link is not None
        assert push.link.in_step
        check_start(platform.last)
        assert check_programme(platform.last.messages)[0] == 2 * 100

    async def test_one_that_did_not_read_for_a_second_and_a_half_is_level_again_at_once(self) -> None:
        push, platform = await self.late(FRAME_MS)
        await self.watch_it(platform, 1_000)
        link = push.link
        assert link is not None
        assert link.in_step

        link._leave_lane()  # as when the socket is full
        link._owner.link_fell_out(link)
        link._wait()
        self.show(1_480)
        link._pump()
        await until(lambda: newest(platform.last) == self.serial - 1, "the newest frame")

        assert link.in_step


class IsolationTests(PushTestCase):
    async def test_a_stalled_destination_is_aborted_after_ten_seconds_and_hurts_nobody(self) -> None:
        (good, good_port), (bad, bad_port) = self.platform(), self.platform()
        ok, stuck = self.push(good_port, bad_port)
        await self.live(ok)
        await self.live(stuck)
        bad.last.tcp.pauseProducing()

        for _ in range(4 * GOP):
            for _ in range(5):
                self.frames(1, size=30_000)
                await turns(1)
            await until(lambda: newest(good.last) == self.serial - 1, "everything")
        await self.kernels_quiet(stuck)
        assert stuck.outbox.queue_bytes <= 8 * 1024 * 1024
        assert stuck.outbox.queue_ms <= 2000
        assert stuck.outbox.dropped_gops > 0
        self.wait(9.5)
        assert stuck.state.value == "live"
        self.wait(0.75)

        assert (stuck.state.value, stuck.reason) == ("backing-off", "stalled")
        assert ok.state.value == "live"
        assert check_programme(good.last.messages) == list(range(self.serial))
        assert ok.outbox.dropped_packets == 0
        await self.no_copies(stuck)

    async def test_acknowledgements_of_one_that_takes_nothing_are_not_believed(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        await self.live(push)
        platform.last.tcp.pauseProducing()
        for _ in range(4 * GOP):
            self.frames(5, size=30_000)
            await turns(1)
        await self.kernels_quiet(push)
        for number in range(1, 6):
            said = number * 4_100  # of what it was sent: more would not be believed anyway
            platform.last.tcp.write(b"\x02\x00\x00\x00\x00\x00\x04\x03\x00\x00\x00\x00" + said.to_bytes(4, "big"))
            await until(lambda said=said: push.bytes_acked == said, "the acknowledgement")
            self.wait(2.0)
        self.wait(0.5)

        assert push.reason == "stalled"

    async def no_copies(self, push: RtmpPush) -> None:
        """The link of an attempt that is over holds nothing."""
        await turns(3)
        assert push.link is None

    async def test_one_that_reads_again_in_time_goes_on_at_a_keyframe(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        await self.live(push)
        platform.last.tcp.pauseProducing()
        for _ in range(12 * GOP):
            self.frames(1, size=30_000)
            await turns(1)
        self.wait(5)

        platform.last.tcp.resumeProducing()
        await turns(50)
        self.wait(3)
        await until(lambda: newest(platform.last) == self.serial - 1, "the newest frame", timeout=10)
        self.frames(3)
        await until(lambda: newest(platform.last) == self.serial - 1, "in step again")
        self.wait(20)

        assert push.state.value == "live"
        check_programme(platform.last.messages)
        assert len(platform.connections) == 1

    async def test_five_kinds_of_trouble_at_once_do_not_touch_the_good_one(self) -> None:
        (good, good_port), (refusing, refusing_port) = self.platform(), self.platform()
        (mute, mute_port), (resetting, resetting_port) = self.platform(), self.platform()
        refusing.refuse = ("NetStream.Publish.Denied", "no")
        mute.mute = True
        resetting.connected = lambda connection: connection.tcp.abortConnection()
        self.reactor.nameResolver = _PartlyBroken(reactor.nameResolver)
        pushes = self.push(
            good_port,
            refusing_port,
            mute_port,
            resetting_port,
            PushTarget(name="t4", url="rtmp://nowhere.example/live", key=Secret(KEY)),
            PushTarget(name="t5", url=f"rtmps://127.0.0.1:{mute_port}/live", key=Secret(KEY)),
        )
        await self.live(pushes[0])

        for _ in range(30):
            self.frames(1)
            await turns(1)
            self.wait(1.0)
        await until(lambda: newest(good.last) == 59, "everything")

        def all_tried_again() -> bool:
            self.clock.advance(0.05)
            return all(push.attempts > 1 for push in pushes[1:])

        await until(all_tried_again, "second attempts")
        assert check_programme(good.last.messages) == list(range(60))
        assert self.states("t0") == ["connecting", "live"]
        self.assert_key_is_nowhere()


@implementer(IHostnameResolver)
class _PartlyBroken(_Resolver):
    """Knows this machine only."""

    def __init__(self, real: Any) -> None:
        super().__init__(answers=True)
        self._real = real

    def resolveHostName(self, receiver: Any, hostName: str, *args: Any, **options: Any) -> Any:
        if hostName.endswith(".example"):
            return super().resolveHostName(receiver, hostName)
        return self._real.resolveHostName(receiver, hostName, *args, **options)


class TlsTests(PushTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority(self.tmp_path)

    def secure(self, **certificate: Any) -> tuple[Platform, int]:
        """A platform over TLS."""
        platform = Platform()
        files = self.authority.issue(**certificate)
        return platform, self.listen(tls_factory(ReloadingCertificate(*files), platform))

    def target(self, port: int, *, trusted: bool = True, host: str = "localhost") -> PushTarget:
        ca_file = self.authority.file if trusted else None
        return PushTarget(name="t0", url=f"rtmps://{host}:{port}/live", key=Secret(KEY), ca_file=ca_file)

    async def refused(self, platform: Platform, target: PushTarget, words: str) -> None:
        """Check that nothing is said to a server whose certificate is not good."""
        (push,) = self.push(target)
        await self.state(push, "backing-off")

        assert push.reason == "tls"
        assert words in push.detail
        assert "the key was not sent" in push.detail
        await until(lambda: all(one.closed for one in platform.connections), "the close")
        assert [one.bytes_in for one in platform.connections] == [0] * len(platform.connections)
        assert self.states() == ["connecting", "backing-off"]

    async def test_a_good_certificate_is_trusted_through_the_ca_file(self) -> None:
        platform, port = self.secure()
        (push,) = self.push(self.target(port))
        await self.live(push)

        self.frames(5)
        await until(lambda: newest(platform.last) == 9, "media")

        check_start(platform.last)

    async def test_an_address_is_checked_as_an_address(self) -> None:
        _, port = self.secure(host="127.0.0.1")

        (push,) = self.push(self.target(port, host="127.0.0.1"))

        await self.live(push)

    async def test_a_certificate_for_another_host_is_refused(self) -> None:
        platform, port = self.secure(host="evil.example")

        await self.refused(platform, self.target(port), "another host name")

    async def test_an_expired_certificate_is_refused(self) -> None:
        platform, port = self.secure(days=-1)

        await self.refused(platform, self.target(port), "has expired")

    async def test_a_certificate_that_is_not_valid_yet_is_refused(self) -> None:
        platform, port = self.secure(days=40)

        await self.refused(platform, self.target(port), "not valid yet")

    async def test_a_certificate_of_an_unknown_ca_is_refused(self) -> None:
        platform, port = self.secure()

        await self.refused(platform, self.target(port, trusted=False), "not signed by a CA we trust")

    async def test_a_self_signed_certificate_is_refused(self) -> None:
        platform, port = self.secure(self_signed=True)

        await self.refused(platform, self.target(port), "self-signed")

    async def asks(self, words: str, *lists: Callable[[Authority, Authority, Certificate], bytes]) -> None:
        """Push to a server of a CA below ours, with these revocation lists; *words* say why it is refused."""
        below = Authority(self.tmp_path, "CA below", self.authority)
        files = below.issue()
        server = load_pem_x509_certificate(files[0].read_bytes())
        path = self.tmp_path / "revoked.pem"
        path.write_bytes(b"".join(one(self.authority, below, server) for one in lists))
        platform = Platform()
        port = self.listen(tls_factory(ReloadingCertificate(*files), platform))
        target = replace(self.target(port), crl_file=path)
        if words:
            await self.refused(platform, target, words)
        else:
            (push,) = self.push(target)
            await self.live(push)

    async def test_a_chain_of_which_nothing_was_revoked_is_good(self) -> None:
        await self.asks("", lambda root, below, server: root.revoke(), lambda root, below, server: below.revoke())

    async def test_a_revoked_intermediate_is_refused(self) -> None:
        await self.asks(
            "was revoked",
            lambda root, below, server: root.revoke(below.certificate),
            lambda root, below, server: below.revoke(),
        )

    async def test_a_revoked_certificate_is_refused(self) -> None:
        await self.asks(
            "was revoked",
            lambda root, below, server: root.revoke(),
            lambda root, below, server: below.revoke(server),
        )

    async def test_a_list_that_is_missing_is_refused(self) -> None:
        await self.asks("has no revocation list", lambda root, below, server: root.revoke())

    async def test_a_list_that_has_expired_is_refused(self) -> None:
        await self.asks(
            "a revocation list in crl_file has expired",
            lambda root, below, server: root.revoke(days=-1),
            lambda root, below, server: below.revoke(),
        )

    def pinned(self, port: int, file: str = "server.pem") -> PushTarget:
        """A target that takes the certificate of this file only."""
        certificate = load_pem_x509_certificate((self.tmp_path / file).read_bytes())
        fingerprint = certificate.fingerprint(hashes.SHA256())
        return PushTarget(name="t0", url=f"rtmps://localhost:{port}/live", key=Secret(KEY), fingerprint=fingerprint)

    async def test_the_certificate_of_the_fingerprint_is_good_whoever_signed_it(self) -> None:
        platform, port = self.secure(host="other.example", days=-1, self_signed=True)
        (push,) = self.push(self.pinned(port))
        await self.live(push)

        self.frames(5)
        await until(lambda: newest(platform.last) == 9, "media")

    async def test_another_certificate_than_that_of_the_fingerprint_is_refused_though_a_ca_signed_it(self) -> None:
        self.authority.issue("known")
        platform, port = self.secure()

        await self.refused(platform, self.pinned(port, "known.pem"), "not the one whose fingerprint")

    async def test_the_fingerprint_of_the_ca_is_none_of_the_servers(self) -> None:
        platform, port = self.secure()

        await self.refused(platform, self.pinned(port, self.authority.file.name), "not the one whose fingerprint")

    async def test_a_server_without_tls_is_said(self) -> None:
        platform, port = self.platform()
        platform.mute = True
        platform.connected = lambda connection: connection.tcp.write(b"\x03" + bytes(1536))
        (push,) = self.push(self.target(port))

        await self.state(push, "backing-off")

        assert push.reason == "tls"
        assert "does not speak TLS" in push.detail
        assert KEY not in str(platform.connections)

    async def test_a_server_that_closes_during_the_handshake_is_said(self) -> None:
        platform, port = self.platform()
        platform.connected = lambda connection: connection.tcp.loseConnection()
        (push,) = self.push(self.target(port))

        await self.state(push, "backing-off")

        assert push.reason == "tls"

    async def test_a_silent_server_does_not_hold_the_tls_handshake(self) -> None:
        platform, port = self.platform()
        platform.mute = True
        (push,) = self.push(self.target(port))
        await until(lambda: platform.connections and platform.last.bytes_in, "ClientHello")

        self.wait(10.25)

        assert (push.state.value, push.reason) == ("backing-off", "handshake")

    async def test_a_stalled_tls_destination_costs_little_memory(self) -> None:
        platform, port = self.secure()
        (push,) = self.push(self.target(port))
        await self.live(push)
        platform.last.tcp.transport.pauseProducing()
        for _ in range(10 * GOP):
            self.frames(1, size=30_000)
            await turns(1)

        await self.kernels_quiet(push)
        link: Any = push.link
        raw = link.transport.transport
        assert len(raw.dataBuffer) + raw._tempDataLen < 1.5 * 1024 * 1024
        self.wait(10.25)
        assert push.reason == "stalled"


class CloseTests(PushTestCase):
    async def close(self) -> list[Any]:
        """Close the group; the list is filled when it is done."""
        assert self.group is not None
        done: list[Any] = []
        self.group.close().addBoth(done.append)
        return done

    async def test_everything_is_sent_and_the_destination_is_told(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        await self.live(push)
        self.frames(40, size=20_000)

        done = await self.close()
        await until(lambda: done, "the end")
        await until(lambda: platform.last.closed, "the close")

        assert newest(platform.last) == 79
        assert platform.last.unpublished
        assert push.state.value == "stopped"
        assert self.states() == ["connecting", "live", "stopped"]

    async def ended(self, reason: str, **styles: Any) -> Platform:
        """A platform whose stream ended for this reason."""
        platform, port = self.platform()
        (push,) = self.push(PushTarget(name="t0", url=f"rtmp://127.0.0.1:{port}/live", key=Secret(KEY), **styles))
        await self.live(push)
        self.frames(10)
        await until(lambda: newest(platform.last) == 19, "media")
        assert self.group is not None
        self.group.stream_ending(reason)
        done = await self.close()
        await until(lambda: done and platform.last.closed, "the close")
        return platform

    async def test_a_lost_programme_breaks_off_where_that_holds_the_broadcast(self) -> None:
        platform = await self.ended("hold-expired", close_on_fault="abrupt")

        assert not platform.last.unpublished
        assert platform.last.closed is not None
        assert platform.last.closed.check(ConnectionLost)

    async def test_a_planned_end_is_said_there_too(self) -> None:
        platform = await self.ended("unpublished", close_on_fault="abrupt")

        assert platform.last.unpublished

    async def test_a_lost_programme_is_left_cleanly_elsewhere(self) -> None:
        assert (await self.ended("closed")).last.unpublished

    async def test_a_target_that_is_to_be_left_abruptly_is_so_at_a_planned_end(self) -> None:
        platform = await self.ended("unpublished", close="abrupt", close_on_fault="abrupt")

        assert not platform.last.unpublished

    async def test_a_destination_that_does_not_read_is_left_after_two_seconds(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        await self.live(push)
        platform.last.tcp.pauseProducing()
        self.frames(100, size=60_000)
        await turns(5)

        done = await self.close()
        self.wait(1.75)
        await turns(3)
        assert not done
        self.wait(0.5)
        await until(lambda: done, "the end")

        assert push.state.value == "stopped"

    async def test_a_slow_destination_gets_the_end_although_it_talks_meanwhile(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        await self.live(push)
        platform.last.tcp.pauseProducing()
        self.frames(3, size=30_000)
        await turns(5)

        done = await self.close()
        await turns(20)
        platform.last.tcp.write(frame(2, 0, m.ACKNOWLEDGEMENT, 0, (1000).to_bytes(4, "big"), CHUNK_SIZE))
        await turns(20)
        platform.last.tcp.resumeProducing()
        await until(lambda: platform.last.closed, "the close")
        await until(lambda: done, "the end")

        assert newest(platform.last) == 5, "the end was lost"
        assert platform.last.unpublished

    async def test_closing_while_it_connects_or_waits_is_immediate(self) -> None:
        resolver = self.reactor.nameResolver = _Resolver(answers=False)
        pushes = self.push(
            PushTarget(name="t0", url="rtmp://slow.example/live", key=Secret(KEY)),
            PushTarget(name="t1", url="rtmps://x.example/live", key=Secret(KEY), ca_file=self.tmp_path / "no.pem"),
        )
        assert [push.state.value for push in pushes] == ["connecting", "backing-off"]

        done = await self.close()

        assert done
        assert [push.state.value for push in pushes] == ["stopped", "stopped"]
        for receiver in resolver.receivers:
            receiver.resolutionComplete()
        self.wait(60)
        assert [push.attempts for push in pushes] == [1, 1]

    async def test_closing_during_the_handshake_cuts_it_off(self) -> None:
        platform, port = self.platform()
        platform.mute = True
        self.push(port)
        await until(lambda: platform.connections and platform.last.bytes_in, "C0 and C1")

        done = await self.close()
        await until(lambda: done, "the end")

        await until(lambda: platform.last.closed, "the close")

    async def test_a_destination_that_vanishes_while_closing_is_no_failure(self) -> None:
        platform, port = self.platform()
        (push,) = self.push(port)
        await self.live(push)
        platform.last.tcp.pauseProducing()
        self.frames(100, size=60_000)
        await turns(5)

        done = await self.close()
        platform.hang_up()
        await until(lambda: done, "the end")

        assert self.states() == ["connecting", "live", "stopped"]
