"""Rows of the catalogue that need several connections, or time: ownership, slow peers, floods."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.harness import Relay, make_certificates, relay, stream_table, wait_for
from tests.spec import dialogue, wire
from tests.spec.model import Phase
from tests.spec.peer import SocketLink, Viewer, Witness, source_address
from tests.spec.server import WITNESS_KEY, WITNESS_STREAM, Server, key_of, stream_of

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
IDLE_S = 3
"""`publish_idle_s` of the server under test."""


@pytest.fixture(autouse=True)
def _the_witness_sees_nothing(server: Server) -> Iterator[None]:
    """After every scenario: the good player lost nothing, nothing was raised, all is given back."""
    if server.relay is None:
        pytest.skip("scenarios look into our own relay; RTMP_SPEC_TARGET names another server")
    before, opened = server.relay.descriptors(), len(SocketLink.opened)
    yield
    for link in SocketLink.opened[opened:]:
        link.close()
    assert server.witness.check() == ""
    wait_for(lambda: server.relay is not None and server.relay.descriptors() <= before + 2, "file descriptors back", 6)
    assert "Traceback" not in server.relay.program.text


def live(server: Server, index: int, *, key: str = "") -> SocketLink:
    """A publisher that has sent its first keyframe."""
    link = SocketLink(server.address, source_address(index))
    dialogue.reach(link, Phase.LIVE, key=key or key_of(index))
    return link


def try_publish(server: Server, key: str, source: str = "127.0.0.1") -> tuple[SocketLink, str]:
    """Ask to publish; return the link and the code of the answer."""
    link = SocketLink(server.address, source)
    dialogue.reach(link, Phase.CONNECT)
    link.send(wire.create_stream() + wire.publish(key))
    with contextlib.suppress(dialogue.StuckError):
        answer = link.expect(
            "answer to publish", lambda heard: dialogue.status(heard)[1].startswith("NetStream.Publish")
        )
        return link, dialogue.status(answer)[1]
    return link, "closed" if link.closed else "silence"


# --- ownership -----------------------------------------------------------------------------------------------------


class Encoder:
    """A publisher that asks for a key, and sends numbered pictures from the moment it is granted until it is closed."""

    def __init__(self, server: Server, key: str) -> None:
        self.link, self.answer = try_publish(server, key)
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        if self.answer == "NetStream.Publish.Start":
            self._thread.start()

    def _run(self) -> None:
        self.link.send(wire.opening())
        stamp = 0
        while not self._stop and not self.link.closed:
            stamp += 20
            self.link.send(wire.video(wire.picture(b"of %d" % id(self), key=stamp % 400 == 0), stamp))
            self.link.rest(0.02)

    @property
    def tag(self) -> bytes:
        """What all its pictures carry."""
        return b"of %d" % id(self)

    def close(self) -> None:
        """Stop sending and leave."""
        self._stop = True
        if self._thread.ident is not None:
            self._thread.join(5)
        self.link.close()


def test_065_a_second_encoder_with_the_key_of_a_living_one_is_refused(server: Server) -> None:
    index = server.next_index()
    first = Encoder(server, key_of(index))
    with contextlib.closing(Viewer(server.address, stream_of(index))) as viewer:
        second = Encoder(server, key_of(index))
        second.link.send(wire.opening() + wire.video(wire.picture(second.tag, key=True), 40))

        assert (first.answer, second.answer) == ("NetStream.Publish.Start", "NetStream.Publish.BadName")
        assert second.link.wait_closed(2)
        seen = len(viewer.media)
        wait_for(lambda: len(viewer.media) > seen + 5, "more pictures of the first encoder", 2)
        assert not any(body.endswith(second.tag) for _, _, body in viewer.media)
    first.close()


def test_067_of_twenty_encoders_with_one_key_one_wins(server: Server) -> None:
    index = server.next_index()
    with ThreadPoolExecutor(20) as pool:
        encoders = list(pool.map(lambda _: Encoder(server, key_of(index)), range(20)))

    answers = sorted(encoder.answer for encoder in encoders)
    with contextlib.closing(Viewer(server.address, stream_of(index))) as viewer:
        wait_for(lambda: len(viewer.media) > 40, "pictures", 3)
        senders = {body.partition(b"of ")[2] for kind, _, body in viewer.media if kind == wire.VIDEO} - {b""}
    for encoder in encoders:
        encoder.close()

    assert answers == ["NetStream.Publish.BadName"] * 19 + ["NetStream.Publish.Start"]
    assert len(senders) == 1, "frames of several encoders were mixed"
    again, answer = wait_for(lambda: _granted(try_publish(server, key_of(index))), "free key", 3)
    assert answer == "NetStream.Publish.Start"
    again.close()


def test_066_an_encoder_takes_over_from_itself_when_its_old_connection_is_dead(server: Server) -> None:
    index = server.next_index()
    old = live(server, index)
    time.sleep(2.2)

    new, answer = try_publish(server, key_of(index))

    assert answer == "NetStream.Publish.Start"
    new.send(wire.opening() + wire.video(wire.picture(b"new owner", key=True), 40))
    with contextlib.closing(Viewer(server.address, stream_of(index))) as viewer:
        assert viewer.wait_for(wire.picture(b"new owner", key=True))
        assert old.wait_closed(2), "the old connection stays"
        new.send(wire.video(wire.picture(b"still new owner"), 80))
        assert viewer.wait_for(wire.picture(b"still new owner"))
    new.close()


def _granted(tried: tuple[SocketLink, str]) -> tuple[SocketLink, str] | None:
    if tried[1] == "NetStream.Publish.Start":
        return tried
    tried[0].close()
    return None


def test_077_encoders_that_leave_before_the_answer_leave_nothing_behind(server: Server) -> None:
    index = server.next_index()
    for number in range(5):
        link = SocketLink(server.address, source_address(index))
        link.send(wire.handshake() + wire.connect() + wire.create_stream() + wire.publish(key_of(index)))
        link.abort() if number % 2 else link.close()

    last, answer = wait_for(lambda: _granted(try_publish(server, key_of(index))), "free key", 4)

    assert answer == "NetStream.Publish.Start"
    last.close()


def test_126_an_encoder_that_reconnects_without_end_is_slowed_down(server: Server) -> None:
    key, granted = key_of(server.next_index()), 0
    began = time.monotonic()
    while time.monotonic() < began + 3:
        link, answer = try_publish(server, key)
        granted += answer == "NetStream.Publish.Start"
        link.close()

    assert granted <= 5 + 3 + 2, f"{granted} publishes with one key within 3 s"


def test_079_frames_without_their_headers_reach_no_player(server: Server) -> None:
    index = server.next_index()
    link = SocketLink(server.address, source_address(index))
    dialogue.reach(link, Phase.PUBLISH, key=key_of(index))
    blind = [wire.picture(b"blind %d" % number, key=number % 10 == 0) for number in range(60)]
    early = SocketLink(server.address, patience=1)
    link.send(b"".join(wire.video(body, 40 * number) for number, body in enumerate(blind[:50])))
    with contextlib.suppress(dialogue.StuckError):
        dialogue.reach(early, Phase.PLAY, stream=stream_of(index))
    link.send(b"".join(wire.video(body, 40 * number) for number, body in enumerate(blind[50:], 50)))
    link.send(wire.opening() + wire.video(wire.picture(b"seen"), 2440))
    with contextlib.closing(Viewer(server.address, stream_of(index))) as viewer:
        assert viewer.wait_for(wire.picture(b"seen"))
        early.rest(0.2)
        came = [*(body for _, _, body in viewer.media), *(heard.body for heard in early.heard)]

    assert not [body for body in came if body in blind]
    early.close()
    link.close()


# --- ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fin", "half-close", "rst"])
def test_119_120_a_connection_may_end_inside_a_chunk(server: Server, how: str) -> None:
    index = server.next_index()
    link = live(server, index)
    with contextlib.closing(Viewer(server.address, stream_of(index))) as viewer:
        link.send(wire.header(6, wire.VIDEO, 5000, timestamp=40, msid=1) + bytes(77))
        match how:
            case "fin":
                link.close()
            case "rst":
                link.abort()
            case _:
                link.socket.shutdown(socket.SHUT_WR)
                assert link.wait_closed(2), "a half-closed connection stays open"

        wait_for(lambda: viewer.ended, "end of the stream at the player", 3)
        assert not any(body.endswith(bytes(77)) for _, _, body in viewer.media)
    again, answer = try_publish(server, key_of(index))
    assert answer == "NetStream.Publish.Start"
    again.close()
    link.close()


@pytest.mark.parametrize("phase", [Phase.NOTHING, Phase.HANDSHAKE, Phase.CONNECT, Phase.PUBLISH, Phase.PLAY])
def test_120_a_reset_at_any_time_raises_nothing(server: Server, phase: Phase) -> None:
    for _ in range(5):
        index = server.next_index()
        link = SocketLink(server.address, source_address(index))
        dialogue.reach(link, phase, key=key_of(index), stream=WITNESS_STREAM)
        link.send(b"\x03\0\0")
        link.abort()


def test_118_an_encoder_that_hangs_is_dropped(server: Server) -> None:
    index = server.next_index()
    link = live(server, index)
    began = time.monotonic()
    with contextlib.closing(Viewer(server.address, stream_of(index))) as viewer:
        assert link.wait_closed(IDLE_S + 2), "a silent publisher stays"

        assert time.monotonic() - began > IDLE_S - 1
        wait_for(lambda: viewer.ended, "end of the stream at the player", 2)


def test_118_pings_are_no_media(server: Server) -> None:
    link = live(server, server.next_index())
    began = time.monotonic()
    while not link.closed and time.monotonic() < began + IDLE_S + 2:
        link.send(wire.user_control(7, b"\0\0\0\1"))
        link.rest(0.2)

    assert link.closed, "a publisher that only pings stays"


# --- floods --------------------------------------------------------------------------------------------------------


def test_013_half_handshakes_are_bounded_in_number_and_time(server: Server) -> None:
    assert server.relay is not None
    before = server.relay.memory()
    links = []
    for number in range(1000):
        with contextlib.suppress(OSError):
            link = SocketLink(server.address, source_address(20_000 + number % 100))
            links.append(link)
            link.send(b"\x03" + wire.c1()[: 700 + number % 800])
    time.sleep(0.3)
    for link in links:
        link.rest(0.001)
    still_open = sum(not link.closed for link in links)

    assert still_open <= 200, f"{still_open} strangers at once"
    assert server.relay.memory() - before <= 64 * MIB
    wait_for(lambda: all(link.closed or link.wait_closed(0.01) for link in links), "end of the half handshakes", 6)


def test_121_one_address_may_not_hold_many_connections(server: Server) -> None:
    source = source_address(25_000)
    links = []
    for _ in range(200):
        with contextlib.suppress(OSError):
            links.append(SocketLink(server.address, source))
    time.sleep(0.3)
    for link in links:
        link.rest(0.001)
    still_open = sum(not link.closed for link in links)
    for link in links:
        link.close()

    assert still_open <= 20, f"{still_open} strangers from one address"


def test_124_a_blast_of_media_holds_nobody_up(server: Server) -> None:
    assert server.relay is not None
    link = live(server, server.next_index())
    link.send(wire.set_chunk_size(65536))
    before = server.relay.memory()
    late_before, server.witness.late_by = server.witness.late_by, 0.0
    for number in range(1, 1500):
        body = wire.picture(bytes(60_000), key=number % 30 == 0)
        link.send(wire.video(body, 40 * number, chunk_size=65536))
    assert not link.closed

    assert server.witness.check() == ""
    late, server.witness.late_by = server.witness.late_by, max(late_before, server.witness.late_by)
    assert late < 1, f"a good player's picture came {late:.2f} s late"
    assert server.relay.memory() - before <= 64 * MIB
    link.close()


def test_016_tiny_chunks_and_messages_delay_nobody(server: Server) -> None:
    def headers(kind: int, length: int) -> bytes:
        return b"".join(wire.header(csid, kind, length, msid=1) + b"x" for csid in (4, 5))

    strange = wire.handshake() + wire.set_chunk_size(1) + headers(wire.AUDIO, 30_000) + b"\xc4x\xc5x" * 16_000
    dust = wire.header(4, wire.AUDIO, 3, timestamp=100, msid=1) + b"\xaf\x01a" + b"\xc4\xaf\x01b" * 15_000
    server.witness.check()
    late_before, server.witness.late_by = server.witness.late_by, 0.0

    def knock(number: int) -> None:
        for turn in range(5):
            link = SocketLink(server.address, source_address(40_000 + number * 10 + turn))
            link.send(strange)
            link.rest(0.1)
            link.close()

    encoder = live(server, server.next_index())
    with ThreadPoolExecutor(4) as pool:
        knocking = [pool.submit(knock, number) for number in range(4)]
        for _ in range(4):
            encoder.send(dust)
            encoder.rest(0.3)
        for one in knocking:
            one.result()
    encoder.close()

    assert server.witness.check() == ""
    late, server.witness.late_by = server.witness.late_by, max(late_before, server.witness.late_by)
    assert late < 3, f"a good player's picture came {late:.2f} s late"


# --- slow players --------------------------------------------------------------------------------------------------


class Firehose:
    """A publisher of 16 Mbit/s: 40 pictures a second, two groups a second, numbered."""

    def __init__(self, server: Server, index: int) -> None:
        self.link = SocketLink(server.address, source_address(index), patience=10)
        dialogue.reach(self.link, Phase.LIVE, key=key_of(index))
        self.link.send(wire.set_chunk_size(65536))
        self.sent = 0
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._stop and not self.link.closed:
            self.sent += 1
            body = wire.picture(struct.pack(">I", self.sent) + bytes(50_000), key=self.sent % 20 == 0)
            self.link.send(wire.video(body, 25 * self.sent, chunk_size=65536))
            self.link.rest(max(began + self.sent * 0.025 - time.monotonic(), 0.0005))

    def close(self) -> None:
        """Stop."""
        self._stop = True
        self._thread.join(5)
        self.link.close()


def numbers(heard: list[wire.Heard]) -> list[tuple[int, bool]]:
    """Numbers of the firehose's pictures, and which are keyframes."""
    return [
        (int.from_bytes(message.body[10:14], "big"), message.body[0] == 0x17)
        for message in heard
        if message.type_id == wire.VIDEO and len(message.body) > 50_000
    ]


def slow_player(server: Server, stream: str, buffer: int = 4096) -> SocketLink:
    """A player with a small receive buffer that was granted its play and reads no more for now."""
    link = SocketLink(server.address, buffer=buffer)
    dialogue.reach(link, Phase.PLAY, stream=stream)
    return link


def read_some(link: SocketLink, budget: int) -> None:
    """Read what is there, but no more than *budget* bytes."""
    link.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while budget > 0 and (data := link.socket.recv(budget)):
            link.heard += link.ear.hear(data)
            budget -= len(data)


def test_114_to_116_and_125_slow_players_cost_little_and_hurt_nobody(server: Server) -> None:
    assert server.relay is not None
    index = server.next_index()
    with (
        contextlib.closing(Firehose(server, index)) as source,
        contextlib.closing(Viewer(server.address, stream_of(index))) as good,
    ):
        before = server.relay.memory()
        frozen = [slow_player(server, stream_of(index)) for _ in range(60)]
        sleeper, quarter = (slow_player(server, stream_of(index), 100_000) for _ in range(2))
        began = time.monotonic()
        for _ in range(70):  # a quarter of the rate: 0.5 MB/s
            read_some(quarter, 50_000)
            time.sleep(0.1)
        woken_at = source.sent
        sleeper.rest(1.5)
        quarter_got, sleeper_got = numbers(quarter.heard), numbers(sleeper.heard)
        wait_for(lambda: all(_hung_up(link) for link in frozen), "end of the frozen players", 14)
        took = time.monotonic() - began
        grown = server.relay.memory() - before
        good_got = [
            number for number, _ in numbers([wire.Heard(kind, at, 1, 6, body) for kind, at, body in good.media])
        ]
        for link in (*frozen, sleeper, quarter):
            link.close()

    assert took > 6, f"frozen players were dropped after {took:.1f} s already"
    assert grown <= 64 * MIB, f"slow players cost {grown // MIB} MiB"
    assert good_got == list(range(good_got[0], good_got[0] + len(good_got))), "the good player lost pictures"
    _check_resumed_at_keyframe(quarter_got)
    _check_resumed_at_keyframe(sleeper_got)
    late = [number for number, _ in sleeper_got if number < woken_at - 40 * 3]
    assert len(late) < 40, f"a player that slept for 7 s was then given {len(late)} pictures older than 3 s"
    assert sleeper_got[-1][0] > woken_at, "a player that woke up never came back to the present"


def _check_resumed_at_keyframe(got: list[tuple[int, bool]]) -> None:
    gaps = [(before, after, key) for (before, _), (after, key) in itertools.pairwise(got) if after != before + 1]
    assert gaps, "nothing was skipped for a slow player"
    assert all(key and after > before for before, after, key in gaps), f"resumed elsewhere than at a keyframe: {gaps}"


def _hung_up(link: SocketLink) -> bool:
    """Whether the server has closed or reset the connection; what it sent before stays unread."""
    port = f":{link.socket.getsockname()[1]:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(port):
            return fields[3] != "01"
    return True


# --- TLS and limits of the process ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A relay with a TLS listener."""
    directory = tmp_path_factory.mktemp("secure")
    table = stream_table(WITNESS_STREAM, WITNESS_KEY)
    with relay(directory, table, plugins=["streamkeys"], certificates=make_certificates(directory)) as running:
        yield running


def test_008_plain_rtmp_on_the_tls_port_is_named_as_such(secure: Relay) -> None:
    link = SocketLink(("127.0.0.1", secure.tls_port), source_address(30_001))
    link.send(b"\x03" + wire.c1())

    assert link.wait_closed(2)
    secure.wait_log("tls.plain_rtmp", lambda line: line.get("code") == "tls.plain_rtmp", 3)
    link.close()


def test_122_tls_handshakes_without_end_disturb_no_stream(secure: Relay) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    witness = Witness(("127.0.0.1", secure.port), WITNESS_KEY, WITNESS_STREAM)

    def knock(number: int) -> None:
        for turn in range(40):
            with contextlib.suppress(OSError), socket.socket() as plain:
                plain.settimeout(2)
                plain.bind((source_address(31_000 + number * 50 + turn), 0))
                plain.connect(("127.0.0.1", secure.tls_port))
                context.wrap_socket(plain).close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(knock, range(8)))

    assert witness.check() == ""
    assert witness.late_by < 1, f"a picture came {witness.late_by:.2f} s late"
    witness.close()


def test_123_without_file_descriptors_the_stream_goes_on(tmp_path: Path) -> None:
    table = stream_table(WITNESS_STREAM, WITNESS_KEY)
    limited = ("bash", "-c", 'ulimit -n 96; exec "$@"', "relay")
    with relay(tmp_path, table, plugins=["streamkeys"], command=limited) as running:
        witness = Witness(("127.0.0.1", running.port), WITNESS_KEY, WITNESS_STREAM)
        links = []
        for number in range(200):
            with contextlib.suppress(OSError):
                links.append(SocketLink(("127.0.0.1", running.port), source_address(32_000 + number)))
        time.sleep(0.5)

        assert witness.check() == ""
        assert running.descriptors() <= 96
        for link in links:
            link.close()
        wait_for(lambda: running.get("/healthz") is not None or True, "HTTP after the flood", 5)
        link = SocketLink(("127.0.0.1", running.port))
        dialogue.reach(link, Phase.CONNECT)
        link.close()
        witness.close()
        assert "Traceback" not in running.program.text
