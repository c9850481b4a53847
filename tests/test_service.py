from __future__ import annotations

import resource
import threading
import time
from typing import Any

import pytest

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from relay.errors import ConfigError
from relay.media.packets import Packet, TrackSet
from relay.net.listen import ListenError
from relay.rtmp.events import ConnectRejected, PublishAccepted
from relay.service import STOP_S, RelayService
from tests.helpers.peers import Caller, Platform, call, encoder, viewer
from tests.helpers.reactor import reactor, turns, until
from tests.helpers.relays import OnAir
from tests.helpers.seats import check_programme, frames_of
from tests.helpers.services import CONFIG, ServiceTestCase, configuration
from tests.helpers.streams import End
from tests.helpers.tls import Authority, tls_client
from tests.integration.harness import free_port

KEY = "canary-e4da3b7fbbce2345"


def refuses(port: int) -> bool:
    """Whether nobody listens on a port of this machine."""
    try:
        again = reactor.listenTCP(port, Factory(), interface="127.0.0.1")
    except Exception:
        return False
    again.stopListening()
    return True


class RunningTests(ServiceTestCase):
    async def show(self, frames: int = 5) -> OnAir:
        show = OnAir(await encoder(self.port, "show")).headers().run(frames)
        await until(lambda: (stream := self.service.registry.get("show")) and stream.started, "a live stream")
        return show

    async def test_what_an_encoder_publishes_can_be_played_and_is_seen_over_http(self) -> None:
        self.start()
        show = await self.show()
        player = await viewer(self.port)
        show.run(5)
        await until(lambda: len(frames_of(player.messages)) == 20, "the frames")

        stream = await self.json("/api/v1/streams/show")

        check_programme(player.messages)
        assert (stream["state"], stream["live_feed"], stream["players"]) == ("live", "primary", 1)
        assert stream["frames"] == {"video": 10, "audio": 10}
        assert stream["feeds"][0]["peer"] == "127.0.0.1"
        assert stream["feeds"][0]["connection_id"]
        assert [track["codec"] for track in stream["tracks"]] == ["avc1", "mp4a"]
        assert stream["bytes_in"] > 0
        assert stream["bytes_out"] > 0

    async def test_health_readiness_and_metrics_are_served(self) -> None:
        self.start()
        await self.show()

        assert (await self.get("/healthz"))[0] == 200
        assert (await self.get("/readyz"))[0] == 200
        status, metrics = await self.get("/metrics")

        assert status == 200
        assert 'stream="show"' in metrics

    async def test_while_it_shuts_down_it_is_not_ready(self) -> None:
        self.start()
        self.service.door.draining = True

        assert (await self.get("/readyz"))[0] == 503

    async def test_a_stream_that_nobody_publishes_is_not_found(self) -> None:
        self.start()

        assert (await self.get("/api/v1/streams/nothing"))[0] == 404
        assert (await self.json("/api/v1/streams"))["streams"] == []

    async def test_the_apps_of_the_configuration_are_served(self) -> None:
        self.start(CONFIG + '[rtmp]\napps = ["studio"]\n')

        caller = await call(self.port, Caller("publish", "show", app="live"))
        await until(lambda: caller.closed, "the refusal")
        assert "/studio" in caller.of(ConnectRejected)[0].description
        assert (await encoder(self.port, "show", app="studio")).has(PublishAccepted)

    async def test_a_target_is_pushed_to_and_its_key_is_nowhere(self) -> None:
        platform = Platform()
        port = self.listen(platform)
        self.start(
            CONFIG + f'[streams.show.restream.copy]\nurl = "rtmp://127.0.0.1:{port}/live?sig={KEY}"\nkey = "{KEY}"\n'
        )
        show = await self.show()
        show.run(5)
        await until(lambda: platform.connections and len(frames_of(platform.last.messages)) == 20, "the frames")

        _, body = await self.get("/api/v1/streams/show")
        _, metrics = await self.get("/metrics")

        assert '"live"' in body
        assert f"rtmp://127.0.0.1:{port}/live" in body
        assert platform.last.published[0].name.reveal() == KEY
        for text in (body, metrics, *self.logged, repr(self.service.config)):
            assert KEY not in text

    async def test_what_a_plugin_learns_from_the_platform_is_shown_with_the_target(self) -> None:
        target = f'[streams.show.restream.copy]\nurl = "rtmp://127.0.0.1:{self.listen(Platform())}/live"\nkey = "k"\n'
        service = self.start(CONFIG + target)
        restream: Any = service.host.plugins[1].instance
        tell = restream._book._context.report_delivery
        assert tell("show", "copy", confirmed=True) is False
        await self.show()

        await until(lambda: tell("show", "copy", confirmed=False, detail="no picture"), "a live target")

        (shown,) = (await self.json("/api/v1/streams/show/targets"))["targets"]
        said = shown["delivery"], shown["delivery_detail"], shown["confirmed_by"]
        assert said == ("denied", "no picture", "restream")
        assert 'delivery="denied",stream="show",target="copy"} 1.0' in (await self.get("/metrics"))[1]
        assert tell("show", "another", confirmed=True) is False

    async def test_a_stream_does_not_become_its_own_backup(self) -> None:
        port = free_port()
        keys = f'[streams.show.streamkeys]\nprimary = "{KEY}"\nbackup = "backup-{KEY}"\n'
        other = f'[streams.other.streamkeys]\nprimary = "other-{KEY}"\n'
        targets = "".join(
            f'[streams.show.restream.{name}]\nurl = "rtmp://127.0.0.1:{port}/live"\nkey = "{name}-{KEY}"\n'
            for name in ("backup", "other")
        )
        self.start(CONFIG.replace("127.0.0.1:0", f"127.0.0.1:{port}", 1) + keys + other + targets)
        OnAir(await encoder(port, KEY)).headers().run(5)

        await until(lambda: self.service.door.refused["forward.loop"], "the refusal")
        await until(lambda: self.service.registry.get("other"), "a push to another stream of this relay")
        stream = self.service.registry.get("show")
        assert stream is not None
        assert stream.find_feed("backup") is None

    async def test_an_encoder_over_tls_publishes_too(self) -> None:
        certificate, key = Authority(self.tmp_path).issue()
        secure = f'[[listen]]\nurl = "rtmps://127.0.0.1:0"\ncertificate = "{certificate}"\nprivate_key = "{key}"\n'
        self.start(CONFIG + secure)

        caller = await tls_client(self.service.listeners[1].port, end=Caller("publish", "show"))  # type: ignore[arg-type]

        await until(lambda: caller.has(PublishAccepted), "the publish")
        _, metrics = await self.get("/metrics")
        assert "certificate" in metrics

    async def test_a_sink_that_fails_is_detached_and_the_programme_goes_on(self) -> None:
        self.start()
        broken, good = BrokenSink(fail_after=3), BrokenSink()
        self.service.host.open_sinks = lambda info: [("bad", broken), ("good", good)]  # type: ignore[method-assign]
        show = await self.show(2)
        player = await viewer(self.port)
        show.run(10)
        await until(lambda: len(frames_of(player.messages)) == 24, "the frames")

        stream = await self.json("/api/v1/streams/show")

        assert [sink["plugin"] for sink in stream["sinks"]] == ["good"]
        assert broken.closed
        assert len(good.packets) == 24
        assert len(self.flushLoggedErrors(BrokenPipeError)) == 1


class BrokenSink:
    """A sink that works for a while."""

    def __init__(self, fail_after: int = 1_000_000) -> None:
        self.packets: list[Packet] = []
        self.closed = False
        self._fail_after = fail_after

    def configure(self, tracks: TrackSet) -> None:
        """Take the tracks."""

    def write(self, packet: Packet) -> None:
        if len(self.packets) == self._fail_after:
            raise BrokenPipeError
        self.packets.append(packet)

    def close(self) -> None:
        self.closed = True


class StoppingTests(ServiceTestCase):
    async def stop_and_time(self) -> float:
        began = time.monotonic()
        await self.stop()
        return time.monotonic() - began

    async def publish(self) -> OnAir:
        show = OnAir(await encoder(self.port, "show")).headers().run(5)
        await until(lambda: (stream := self.service.registry.get("show")) and stream.started, "a live stream")
        return show

    async def test_destinations_and_players_are_told_and_everything_is_closed(self) -> None:
        platform = Platform()
        target = f'[streams.show.restream.copy]\nurl = "rtmp://127.0.0.1:{self.listen(platform)}/live"\nkey = "k"\n'
        self.start(CONFIG + target)
        show = await self.publish()
        player = await viewer(self.port)
        await until(lambda: platform.connections and frames_of(platform.last.messages), "media at the destination")
        port, http_port = self.port, self.service._http_port.getHost().port

        took = await self.stop_and_time()

        await until(lambda: platform.last.unpublished and platform.last.closed, "the end at the destination")
        await until(lambda: player.closed and show.caller.closed, "the end of all connections")
        assert check_programme(platform.last.messages) == list(range(10))
        assert player.said("NetStream.Play.UnpublishNotify")
        assert took < 3
        assert refuses(port)
        assert refuses(http_port)
        assert not self.service.door.connections

    async def test_connections_that_never_said_anything_do_not_delay_the_stop(self) -> None:
        self.start()
        silent = [End() for _ in range(3)]
        for end in silent:
            await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), end)
        await until(lambda: self.service.door.admission.connections == 3, "the connections")

        took = await self.stop_and_time()

        assert took < 2
        await until(lambda: all(end.lost for end in silent), "the close")

    async def test_a_destination_that_does_not_read_delays_it_for_two_seconds_at_most(self) -> None:
        platform = Platform()
        target = f'[streams.show.restream.copy]\nurl = "rtmp://127.0.0.1:{self.listen(platform)}/live"\nkey = "k"\n'
        self.start(CONFIG + target)
        show = await self.publish()
        await until(lambda: platform.connections and frames_of(platform.last.messages), "media at the destination")
        platform.last.tcp.pauseProducing()
        show.run(60, size=60_000)
        await turns(50)

        took = await self.stop_and_time()

        assert took < STOP_S
        assert self.service.door.admission.connections == 0

    async def test_who_asks_twice_is_in_a_hurry(self) -> None:
        self.start()
        silent = End()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), silent)
        await until(lambda: self.service.door.connections, "the connection")
        (connection,) = self.service.door.connections
        connection.shut_down = lambda: None  # type: ignore[method-assign]  # it would stay as long as it may
        stopped = self.stop()
        await turns(20)
        assert not stopped.called

        self.service.hurry()
        await stopped

        assert self.service.door.connections == {connection}

    async def test_a_look_up_that_hangs_does_not_delay_it(self) -> None:
        self.start()
        release, started = threading.Event(), threading.Event()
        self.addCleanup(release.set)

        def hang() -> None:
            started.set()
            release.wait(10)

        self.service._dns.callInThread(hang)
        await until(started.is_set, "the look-up")

        took = await self.stop_and_time()

        assert took < 1

    async def test_names_resolve_afterwards_as_before(self) -> None:
        before = reactor.nameResolver
        self.start()
        assert reactor.nameResolver is not before

        await self.stop()

        assert reactor.nameResolver is before

    async def test_a_relay_that_was_never_started_stops_too(self) -> None:
        service = self.build()

        await service.stopService()


class BindingTests(ServiceTestCase):
    def taken(self) -> int:
        return self.listen(Factory())

    def failed(self, text: str) -> str:
        service = self.build(text)
        with pytest.raises(ListenError) as caught:
            service.privilegedStartService()
        assert not any(listener.up for listener in service.listeners), "a listener stayed open"
        return str(caught.value)

    def test_a_port_in_use_is_named_with_how_to_find_who_has_it(self) -> None:
        port = self.taken()

        message = self.failed(CONFIG.replace("rtmp://127.0.0.1:0", f"rtmp://127.0.0.1:{port}"))

        assert f"cannot listen on rtmp://127.0.0.1:{port}" in message
        assert f"ss -ltnp 'sport = :{port}'" in message

    def test_of_several_listeners_none_stays_open_when_one_fails(self) -> None:
        port = self.taken()

        message = self.failed(CONFIG + f'[[listen]]\nurl = "rtmp://127.0.0.1:{port}"\n')

        assert str(port) in message

    def test_the_http_port_is_named_too_and_nothing_stays_open(self) -> None:
        port = self.taken()

        message = self.failed(CONFIG.replace('listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{port}"'))

        assert f"cannot listen on http://127.0.0.1:{port}" in message

    def test_an_address_that_this_machine_does_not_have_is_said(self) -> None:
        message = self.failed(CONFIG.replace("rtmp://127.0.0.1:0", "rtmp://192.0.2.1:0"))

        assert "no such address" in message

    def test_a_certificate_that_cannot_be_read_is_named_with_its_place_in_the_file(self) -> None:
        path = self.tmp_path / "no.pem"
        secure = f'[[listen]]\nurl = "rtmps://127.0.0.1:0"\ncertificate = "{path}"\nprivate_key = "{path}"\n'

        with pytest.raises(ConfigError, match=r"^test\.toml:\d+: listen\[1\]\.certificate: cannot read .*no\.pem"):
            self.build(CONFIG + secure)

    async def test_http_can_be_found_when_the_kernel_chose_its_port(self) -> None:
        self.start()
        port = self.service._http_port.getHost().port

        assert f"HTTP on http://127.0.0.1:{port}" in self.logged


class RoomTests(SynchronousTestCase):
    def limits(self, hard: int, soft: int = 1024, **limits: Any) -> tuple[int, list[Any]]:
        calls: list[Any] = []
        self.patch(resource, "getrlimit", lambda _: (soft, hard))
        self.patch(resource, "setrlimit", lambda _, value: calls.append(value))
        text = CONFIG + "[limits]\n" + "".join(f"{key} = {value}\n" for key, value in limits.items())
        service = RelayService(configuration(text), reactor)
        return service.door.limits.connections, calls

    def test_the_limit_of_open_files_is_raised_to_what_the_connections_need(self) -> None:
        connections, calls = self.limits(1_000_000, connections=5000, publishers=100)

        assert connections == 5000
        assert calls == [(5164, 1_000_000)]

    def test_connections_are_lowered_to_the_files_that_may_be_open(self) -> None:
        connections, calls = self.limits(4096)

        assert connections == 4096 - 64
        assert calls == [(4096, 4096)]

    def test_a_limit_that_is_high_enough_is_not_lowered(self) -> None:
        _, calls = self.limits(1_000_000, soft=500_000)

        assert calls == [(500_000, 1_000_000)]

    def test_without_a_limit_there_is_room(self) -> None:
        connections, _ = self.limits(resource.RLIM_INFINITY)

        assert connections == 12_000
