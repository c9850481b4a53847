"""Fake platforms: what they let in, what they write down, and the faults they have on order."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from twisted.internet.threads import deferToThread

from relay.errors import ConfigError
from relay.media.packets import MediaKind, Role
from relay.rtmp import commands
from relay.rtmp.client import ClientConnection
from relay.rtmp.errors import RemoteProtocolError
from relay.rtmp.events import ConnectRejected, PublishAccepted, PublishRefused, StatusReceived
from relay.secret import Secret
from relay.testing import (
    FACEBOOK,
    NGINX,
    TWITCH,
    YOUTUBE,
    Authority,
    FakePlatform,
    Fault,
    aac_frame,
    aac_header,
    avc_frame,
    avc_header,
)
from relay.testing_faults import FAULTS
from relay.testing_received import digest
from tests.helpers.peers import Caller, call
from tests.helpers.reactor import NetTestCase, reactor, until


class Publisher(Caller):
    """An encoder that says exactly what a test wants."""

    def __init__(self, name: str = "key", app: str = "live", tc_url: str = "", kind: str = "live") -> None:
        super().__init__("publish", name, app)
        self.rtmp = _Client(kind, app=app, tc_url=Secret(tc_url or f"rtmp://relay.example/{app}"), name=Secret(name))
        self.error: RemoteProtocolError | None = None

    def dataReceived(self, data: bytes) -> None:
        try:
            super().dataReceived(data)
        except RemoteProtocolError as error:
            self.error = error


class _Client(ClientConnection):
    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__(role="publish", random=os.urandom, **options)
        self.kind = kind

    def _ask(self) -> None:
        body = commands.build("publish", self._next_transaction("publish"), None, self._name.reveal(), self.kind)
        self._send_stream_command(self.stream_id, body)


class PlatformTestCase(NetTestCase):
    def platform(self, **options: Any) -> FakePlatform:
        platform = FakePlatform(reactor, **options)
        platform.start()
        self.later(platform.stop)
        return platform

    async def publisher(self, platform: FakePlatform, name: str = "key", **options: Any) -> Publisher:
        options.setdefault("app", platform.app)
        caller = Publisher(name, **options)
        await call(platform.port, caller)
        self.addCleanup(caller.drop)
        await until(
            lambda: caller.has(PublishAccepted) or caller.has(PublishRefused) or caller.closed or caller.error, "answer"
        )
        return caller

    async def gone(self, caller: Publisher) -> None:
        await until(lambda: caller.closed, "close")


class WhatIsWrittenDown(PlatformTestCase):
    async def test_every_message_with_its_kind_time_and_digest(self) -> None:
        platform = self.platform()
        encoder = await self.publisher(platform)
        encoder.send(avc_header(), aac_header(), avc_frame(0, keyframe=True), aac_frame(5), avc_frame(40))
        session = platform.sessions[0]
        await until(lambda: len(session.media) == 5, "media")

        assert [(one.kind, one.timestamp, one.keyframe, one.role) for one in session.media] == [
            (MediaKind.VIDEO, 0, False, Role.HEADER),
            (MediaKind.AUDIO, 0, False, Role.HEADER),
            (MediaKind.VIDEO, 0, True, Role.FRAME),
            (MediaKind.AUDIO, 5, False, Role.FRAME),
            (MediaKind.VIDEO, 40, False, Role.FRAME),
        ]
        assert session.media[2].digest == digest(avc_frame(0, keyframe=True).body)
        assert session.media[0].header
        assert (session.connect["app"], session.publish_type) == ("live", "live")
        assert session.key == Secret("key")
        assert "key" not in repr(session).replace("key=", "")

    async def test_how_a_publisher_left(self) -> None:
        platform = self.platform()
        ways: dict[str, Callable[[Publisher], None]] = {
            "clean": lambda one: (one.rtmp.unpublish(), one.flush(), one.tcp.loseConnection()),  # type: ignore[dict-item,func-returns-value]
            "fin": lambda one: one.tcp.loseConnection(),
            "reset": lambda one: one.drop(),
        }
        for leave in ways.values():
            encoder = await self.publisher(platform)
            leave(encoder)
            await until(lambda: not platform.connections, "end")

        assert [session.close for session in platform.sessions] == list(ways)

    async def test_a_platform_that_was_stopped_comes_back_on_the_same_port(self) -> None:
        platform = self.platform()
        port = platform.port
        await self.publisher(platform)
        await platform.stop()
        platform.start()
        await self.publisher(platform)

        assert platform.port == port
        assert len(platform.sessions) == 2


class Twitch(PlatformTestCase):
    async def test_a_wrong_key_is_closed_without_a_word_a_second_after_the_publish(self) -> None:
        platform = self.platform(manners=TWITCH, keys=["right"])
        encoder = await self.publisher(platform, "wrong")
        granted = reactor.seconds()
        await self.gone(encoder)

        assert encoder.has(PublishAccepted)
        assert not encoder.has(PublishRefused)
        assert 0.8 <= reactor.seconds() - granted <= 2.0
        assert platform.broadcasts == []

    async def test_a_broadcast_waits_for_a_publisher_that_was_cut_off_and_ends_when_it_is_told(self) -> None:
        platform = self.platform(manners=TWITCH)
        (await self.publisher(platform)).drop()
        await until(lambda: not platform.connections, "cut")
        assert [one.ended for one in platform.broadcasts] == [""]

        encoder = await self.publisher(platform)
        encoder.rtmp.unpublish()
        encoder.flush()
        await until(lambda: platform.broadcasts[0].ended, "end")

        assert [(one.ended, len(one.sessions)) for one in platform.broadcasts] == [("unpublished", 2)]

    async def test_a_bandwidth_test_is_not_the_broadcast(self) -> None:
        platform = self.platform(manners=TWITCH, keys=["right"])
        await self.publisher(platform, "right?bandwidthtest=true")

        assert [one.test for one in platform.broadcasts] == [True]

    async def test_the_newer_publisher_takes_the_place(self) -> None:
        platform = self.platform(manners=TWITCH)
        first = await self.publisher(platform)
        await self.publisher(platform)
        await self.gone(first)

        assert len(platform.broadcasts) == 1


class Others(PlatformTestCase):
    async def test_youtube_wants_the_type_live(self) -> None:
        platform = self.platform(manners=YOUTUBE)

        assert (await self.publisher(platform, kind="app")).has(PublishRefused)
        assert (await self.publisher(platform)).has(PublishAccepted)

    async def test_youtubes_backup_is_a_second_place(self) -> None:
        platform = self.platform(manners=YOUTUBE)
        first = await self.publisher(platform)
        second = await self.publisher(platform, app="live2?backup=1")

        assert [one.backup for one in platform.broadcasts] == [False, True]
        assert (first.closed, second.closed) == (None, None)

    async def test_facebook_refuses_a_tc_url_that_names_the_port(self) -> None:
        platform = self.platform(manners=FACEBOOK)
        refused = await self.publisher(platform, tc_url="rtmps://platform.example:443/rtmp/")

        assert refused.has(ConnectRejected)
        assert (await self.publisher(platform, tc_url="rtmps://platform.example/rtmp/")).has(PublishAccepted)

    async def test_facebook_closes_what_has_no_sound(self) -> None:
        import dataclasses

        platform = self.platform(manners=dataclasses.replace(FACEBOOK, audio_within_s=0.2))
        mute, whole = await self.publisher(platform, "a"), await self.publisher(platform, "b")
        mute.send(avc_header(), avc_frame(0, keyframe=True))
        whole.send(aac_header(), aac_frame(0))
        await self.gone(mute)

        assert whole.closed is None
        assert [one.close for one in platform.sessions] == ["platform", ""]

    async def test_a_facebook_key_with_a_query_in_it_is_one_key(self) -> None:
        platform = self.platform(manners=FACEBOOK, keys=["FB-1-0-abc?s_bl=1&a=x"])

        assert (await self.publisher(platform, "FB-1-0-abc?s_bl=1&a=x")).has(PublishAccepted)
        assert (await self.publisher(platform, "FB-1-0-abd?s_bl=1&a=x")).has(PublishRefused)

    async def test_nginx_refuses_a_name_that_is_taken_until_it_is_free(self) -> None:
        platform = self.platform(manners=NGINX)
        first = await self.publisher(platform)
        second = await self.publisher(platform)
        assert second.of(PublishRefused)[0].code == "NetStream.Publish.BadName"

        first.drop()
        await until(lambda: not any(one.publishing for one in platform.connections), "end of the first")
        assert (await self.publisher(platform)).has(PublishAccepted)

    async def test_another_app_is_refused(self) -> None:
        assert (await self.publisher(self.platform(manners=YOUTUBE), app="live")).has(ConnectRejected)


class FaultsOnOrder(PlatformTestCase):
    async def test_stall_takes_nothing_and_clear_takes_it_all(self) -> None:
        platform = self.platform(faults=["stall"])
        encoder = await self.publisher(platform)
        encoder.send(aac_header(), *(avc_frame(n, size=10_000) for n in range(100)))
        await until(lambda: platform.sessions[0].live_at is not None, "publish")
        before = platform.sessions[0].bytes_in
        platform.clear()
        await until(lambda: len(platform.sessions[0].media) == 101, "media")

        assert before < 200_000

    async def test_slow_reads_at_its_rate(self) -> None:
        platform = self.platform(faults=["slow=800"])
        encoder = await self.publisher(platform)
        began = reactor.seconds()
        encoder.send(*(avc_frame(n, size=10_000) for n in range(20)))
        await until(lambda: len(platform.sessions[0].media) == 20, "media", 10)

        assert 1.2 <= reactor.seconds() - began <= 5.0  # 200 kB at 100 kB/s, the last piece not waited for

    async def test_reset_and_close_end_it_when_they_are_told_to(self) -> None:
        for fault, close in (("reset@0.2", "ConnectionLost"), ("close@0.2", "ConnectionDone")):
            encoder = await self.publisher(self.platform(faults=[fault]))
            began = reactor.seconds()
            await self.gone(encoder)

            assert reactor.seconds() - began >= 0.15
            assert encoder.closed is not None
            assert encoder.closed.type.__name__ == close

    async def test_half_close_reads_on_after_its_fin(self) -> None:
        platform = self.platform(faults=["half-close"])
        encoder = await self.publisher(platform)
        await self.gone(encoder)

        assert platform.sessions[0].close in ("", "fin", "reset")

    async def test_half_open_lets_the_kernel_take_bytes_and_is_not_cured(self) -> None:
        platform = self.platform(faults=["half-open"])
        encoder = await self.publisher(platform)
        encoder.send(*(avc_frame(n) for n in range(50)))
        platform.clear()
        with pytest.raises(AssertionError):
            await until(lambda: platform.sessions[0].frames, "media", 0.3)

        assert encoder.closed is None

    async def test_flood_sends_what_was_ordered(self) -> None:
        platform = self.platform(faults=["flood=3"])
        encoder = await self.publisher(platform)
        await until(lambda: sum(len(one.description) for one in encoder.of(StatusReceived)) >= 50 * 2048, "flood")

        assert encoder.closed is None

    async def test_silence_mute_and_http(self) -> None:
        for fault in ("silent", "mute"):
            platform = self.platform(faults=[fault])
            caller = Publisher()
            await call(platform.port, caller)
            self.addCleanup(caller.drop)
            await until(lambda platform=platform: platform.sessions[0].bytes_in >= 1537, "hello")
            assert not caller.events or fault == "mute"
        assert (await self.publisher(self.platform(faults=["http"]))).error is not None

    async def test_deep_amf_and_chunks_of_one_byte_reach_the_peer(self) -> None:
        deep = await self.publisher(self.platform(faults=["deep-amf"]))
        tiny = await self.publisher(self.platform(faults=["tiny-chunks"]))

        assert deep.error is not None
        assert deep.error.code.startswith("amf.")
        assert tiny.has(PublishAccepted)

    async def test_acknowledgements_are_as_odd_as_ordered(self) -> None:
        totals = {}
        for how in ("increments", "never", "backwards"):
            encoder = await self.publisher(self.platform(faults=[f"acks={how}"]))
            encoder.send(*(avc_frame(n, size=500_000) for n in range(12)))
            await until(lambda encoder=encoder, how=how: how == "never" or len(_acks(encoder)) >= 3, how)
            totals[how] = _acks(encoder)

        assert totals["never"] == []
        assert totals["increments"][2] < 2 * totals["increments"][0]
        assert totals["backwards"][2] < totals["backwards"][0]

    async def test_refuse_does_not_listen(self) -> None:
        platform = self.platform(faults=["refuse"])

        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", platform.port), 1)


def _acks(encoder: Publisher) -> list[int]:
    return [event.total for event in encoder.events if type(event).__name__ == "Acknowledged"]


class Certificates(PlatformTestCase):
    async def test_the_good_one_is_trusted_and_each_bad_one_fails_its_own_check(self) -> None:
        authority = Authority(self.tmp_path / "ca")
        words = {
            "": "",
            "expired": "certificate has expired",
            "wrong-host": "Hostname mismatch",
            "untrusted": "unable to get local issuer certificate",
            "self-signed": "self-signed certificate",
        }
        for kind, expected in words.items():
            platform = self.platform(tls=True, authority=authority, faults=[kind] if kind else [])
            said = await deferToThread(_tls, platform)

            assert expected in said if expected else said == ""
            if not kind:  # the client is through with the handshake before the platform is
                await until(lambda platform=platform: platform.sessions[0].secure, "the end of the handshake")
            assert platform.sessions[0].secure is (not kind)

    async def test_noise_and_half_a_hello(self) -> None:
        for fault in ("tls-garbage", "tls-cut"):
            platform = self.platform(tls=True, faults=[fault])

            assert await deferToThread(_tls, platform)


def _tls(platform: FakePlatform) -> str:
    context = ssl.create_default_context(cafile=platform.ca_file)
    try:
        with (
            socket.create_connection(("127.0.0.1", platform.port), 2) as tcp,
            context.wrap_socket(tcp, server_hostname="localhost") as secure,
        ):
            secure.sendall(b"\x03")
        return ""
    except ssl.SSLError as error:
        return getattr(error, "verify_message", "") or str(error)


@pytest.mark.parametrize("text", ["stall", "stall@5", "slow=500", "slow=500@1.5", "acks=never", "flood=1000", "refuse"])
def test_a_fault_is_read(text: str) -> None:
    fault = Fault.parse(text)

    assert fault.name in FAULTS
    assert text.startswith(fault.name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stal", "did you mean stall"),
        ("", "there are refuse"),
        ("slow", "write slow=KBIT"),
        ("slow=fast", "write slow=KBIT"),
        ("stall=5", "write stall"),
        ("acks=", "increments|never|backwards"),
        ("acks=5", "increments|never|backwards"),
        ("stall@soon", "write stall@SECONDS"),
        ("expired@5", "takes no @SECONDS"),
        ("slow=nan", "write slow=KBIT"),
    ],
)
def test_a_fault_that_is_none_is_refused_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Fault.parse(text)

    assert said in refused.value.message
