"""A relay's state made of plain values, and an HTTP peer that speaks to a site over a string transport."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from relay.http.channel import HttpLimits
from relay.http.site import RelaySite, make_site
from relay.http.state import (
    Counters,
    FeedView,
    HookView,
    LagView,
    ListenerView,
    RecordingView,
    SinkView,
    StreamView,
    SwitchView,
    TargetView,
    TrackView,
)
from relay.secret import Secret

TOWNHALL = StreamView(
    name="townhall",
    state="live",
    live_feed="primary",
    started_at=1_700_000_000.0,
    feeds=(
        FeedView(name="primary", state="live", peer="192.0.2.7", bytes_in=5_000_000, bitrate_kbps=4200.5, fps=30.0),
        FeedView(name="backup", state="standby", priority=1, bytes_in=4_000_000),
    ),
    tracks=(TrackView(kind="video", track_id=0, codec="avc1", width=1280, height=720),),
    sinks=(
        SinkView(name="archive", plugin="record", bytes_out=1000, dropped_gops=1),
        SinkView(name="archive-2", plugin="record", bytes_out=500),
    ),
    targets=(
        TargetView(name="youtube", state="live", attempts=3, bytes_sent=900, bytes_acked=800, queue_ms=250),
        TargetView(name="twitch", state="refused", reason="publish-refused", dropped_gops=2),
    ),
    players=4,
    bytes_in=9_000_000,
    bytes_out=36_000_000,
    frames={"video": 300, "audio": 470},
    switches=2,
)


@dataclass
class FakeState:
    """Satisfies `RelayState`."""

    known: list[StreamView] = field(default_factory=lambda: [TOWNHALL, StreamView(name="nested/one", state="waiting")])
    ports: list[ListenerView] = field(default_factory=lambda: [ListenerView(url="rtmp://127.0.0.1:1935", up=True)])
    switched: list[tuple[str, str]] = field(default_factory=list)
    kicked: list[tuple[str, str, float]] = field(default_factory=list)
    recordings: dict[str, RecordingView] = field(default_factory=dict)
    connections: Mapping[str, int] = field(default_factory=lambda: {"publisher": 2, "player": 4})

    @property
    def ready(self) -> bool:
        return all(listener.up for listener in self.ports)

    def streams(self) -> Sequence[StreamView]:
        return self.known

    def stream(self, name: str) -> StreamView | None:
        return next((stream for stream in self.known if stream.name == name), None)

    def switch(self, stream: str, feed: str) -> SwitchView | None:
        view = self.stream(stream)
        known = [] if view is None else [one.name for one in view.feeds]
        if feed not in known:
            return None
        self.switched.append((stream, feed))
        return SwitchView(stream=stream, feed=feed, state="armed")

    def kick(self, stream: str, feed: str, cooloff_s: float) -> bool:
        view = self.stream(stream)
        known = view is not None and any(one.name == feed for one in view.feeds)
        if known:
            self.kicked.append((stream, feed, cooloff_s))
        return known

    def recording(self, stream: str) -> RecordingView | None:
        return self.recordings.get(stream)

    def listeners(self) -> Sequence[ListenerView]:
        return self.ports

    def counters(self) -> Counters:
        return Counters(
            accepted=9,
            refused={"chunk.size_zero": 1},
            auth={"publish-denied": 3},
            certificates={"rtmps": 2e9},
            log_lines_dropped=4,
        )

    def hooks(self) -> Sequence[HookView]:
        return [HookView(plugin="webhook", hook="authorize_publish", calls=5, errors=1, seconds=0.25)]

    def plugin_numbers(self) -> Mapping[str, Mapping[str, float]]:
        return {"webhook": {"events_queued": 3, "events_dropped_total": 2}}

    def lag(self) -> LagView:
        return LagView(p99_ms=3.5, max_ms=12.0)


def site_of(
    clock: Clock,
    *,
    token: str | None = None,
    resources: Mapping[str, IResource] | None = None,
    limits: HttpLimits | None = None,
    state: FakeState | None = None,
) -> RelaySite:
    """Return a site over a fake relay."""
    secret = Secret(token) if token is not None else None
    return make_site(state or FakeState(), token=secret, resources=resources or {}, clock=clock, limits=limits)


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Peer:
    """One connection to *site* from *host*."""

    def __init__(self, site: RelaySite, host: str = "127.0.0.1") -> None:
        self.channel = site.buildProtocol(IPv4Address("TCP", host, 40000))
        assert self.channel is not None
        self.transport = StringTransport(peerAddress=IPv4Address("TCP", host, 40000))
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.channel.dataReceived(data)

    def request(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send one request on this connection and return the answer to it."""
        self.begin(method, target, headers, body)
        return self.answer(head=method == "HEAD")

    def begin(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        lines = {"Host": "localhost:8080", **(headers or {})}
        if body:
            lines["Content-Length"] = str(len(body))
        head = "".join([f"{method} {target} HTTP/1.1\r\n", *(f"{n}: {v}\r\n" for n, v in lines.items()), "\r\n"])
        self.send(head.encode("latin-1") + body)

    def answer(self, *, head: bool = False) -> Answer:
        """Parse everything sent so far as one answer; fail when there is more or less."""
        raw = self.transport.value()
        self.transport.clear()
        start, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = start.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if not head and "content-length" in headers:
            assert len(body) == int(headers["content-length"])
        return Answer(int(first.split()[1]), headers, body)

    @property
    def closed(self) -> bool:
        """Whether the site closes the connection."""
        return bool(self.transport.disconnecting)

    def hang_up(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))


def ask(site: RelaySite, target: str, method: str = "GET", **headers: str) -> Answer:
    """Make one request on a fresh connection. Underscores in header names stand for hyphens."""
    peer = Peer(site)
    answer = peer.request(method, target, {name.replace("_", "-"): value for name, value in headers.items()})
    peer.hang_up()
    return answer
