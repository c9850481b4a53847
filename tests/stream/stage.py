"""A stream with encoders on a fake clock: what the tests of failover play with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from relay.media.packets import MediaKind, Packet
from relay.stream.feeds import Feed
from relay.stream.policy import FailoverOptions
from relay.stream.reports import Held, Report, Switched
from relay.stream.stream import Stream
from tests.stream.media import AAC_HEADER, AVC_HEADER, RecordingSink, audio, audio_header, video, video_header

OTHER_AVC = AVC_HEADER[:-1] + b"\x81"

STEP = 0.02
"""Seconds of one step of the stage; a frame of sound comes with each, a picture with every second one."""

FRAME_MS = 40


def picture(content: int, key: bool, *, maker: str = "", size: int = 600, dts: int = 0) -> Packet:
    """Make a picture that shows the moment *content*, as one encoder makes it."""
    packet = video(dts, key, size=size)
    mark = f"{maker}:{content};".encode()
    packet.body = packet.body[:5] + mark + packet.body[5 + len(mark) :]
    return packet


def sound(content: int, *, maker: str = "", dts: int = 0) -> Packet:
    """Make a frame of sound of the moment *content*."""
    packet = audio(dts, size=60)
    mark = f"{maker}:{content};".encode()
    packet.body = packet.body[:2] + mark + packet.body[2 + len(mark) :]
    return packet


def content_of(packet: Packet) -> int | None:
    """Return the moment that a packet shows, None for silence."""
    _, colon, rest = packet.body.partition(b":")
    number = rest.partition(b";")[0]
    return int(number) if colon and number.isdigit() else None


@dataclass
class Encoder:
    """Sends the programme as it is at each moment, with its own clock, keyframes and network delay."""

    stage: Stage
    name: str
    priority: int = 0
    clock: int = 0
    gop_ms: int = 2000
    phase_ms: int = 0
    maker: str | None = None
    avc: bytes = AVC_HEADER
    delay_s: float = 0.0
    video: bool = True
    audio: bool = True
    sending: bool = True
    size: int = 600
    skew_ms: int = 0
    interval_ms: int = FRAME_MS
    feed: Feed = field(init=False)
    begun: bool = field(init=False, default=False)
    line: list[tuple[float, Packet]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.maker = self.name if self.maker is None else self.maker
        self.connect()

    def connect(self) -> None:
        self.feed = self.stage.stream.open_feed(self.name, self.priority, self.stage.now)
        self.begun = False
        self.line = []
        self.headers()

    def headers(self) -> None:
        self.feed.push(video_header(self.clock, self.avc), self.stage.now)
        self.feed.push(audio_header(self.clock, AAC_HEADER), self.stage.now)

    def die(self, reason: str = "closed") -> None:
        self.feed.end(reason, self.stage.now)
        self.sending = False
        self.line = []

    def make(self, content: int) -> Iterable[Packet]:
        wire = (self.clock + content) % 2**32
        if self.video and content % self.interval_ms == 0:
            key = not self.begun or (content - self.phase_ms) % self.gop_ms == 0
            self.begun = True
            yield picture(content, key, maker=self.maker or "", size=self.size * (10 if key else 1), dts=wire)
        if self.audio and self.begun:
            yield sound(content, maker=self.maker or "", dts=(wire + self.skew_ms) % 2**32)

    def step(self, content: int) -> None:
        """Send what belongs to the moment *content*; it arrives after the delay."""
        if self.sending:
            self.line += [(self.stage.now + self.delay_s, packet) for packet in self.make(content)]
        while self.line and self.line[0][0] <= self.stage.now + 1e-9 and self.feed in self.stage.stream.feeds:
            self.feed.push(self.line.pop(0)[1], self.stage.now)


class Stage:
    """One stream, its encoders, a sink, and time."""

    def __init__(self, **options: object) -> None:
        self.now = 100.0
        self.content = 0
        self.reports: list[Report] = []
        self.ended: list[str] = []
        self.sink = RecordingSink()
        self.encoders: list[Encoder] = []
        self.arrivals: list[tuple[float, Packet]] = []
        self.stream = Stream(
            "show",
            failover=FailoverOptions(**options),  # type: ignore[arg-type]
            on_report=lambda _, report: self.reports.append(report),
            on_ended=lambda _, reason: self.ended.append(reason),
        )
        self.stream.attach(self.sink)

    def encoder(self, name: str, priority: int = 0, **more: object) -> Encoder:
        encoder = Encoder(self, name, priority, **more)  # type: ignore[arg-type]
        self.encoders.append(encoder)
        return encoder

    def run(self, seconds: float, *, stopped: bool = False) -> None:
        """Let time pass in steps; *stopped*: our own process does not run, and then finds all that came at once."""
        steps = round(seconds / STEP)
        if stopped:
            self.now += seconds
            for encoder in self.encoders:
                for number in range(steps):
                    encoder.step(self.content + 20 * (number + 1))
            self.content += 20 * steps
            return
        for _ in range(steps):
            self.moment()

    def moment(self, *acts: Callable[[], object]) -> None:
        """Let one step pass, in which these *acts* come one after the other; without any, every encoder sends."""
        self.now += STEP
        self.content += 20
        seen = len(self.sink.calls)
        for act in acts or [partial(encoder.step, self.content) for encoder in self.encoders]:
            act()
        if self.stream.failover.pacing:
            self.stream.failover.pace(self.now)
        if self.content % 240 == 0:
            self.stream.failover.tick(self.now, 0.24)
        self.arrivals += [(self.now, call[1]) for call in self.sink.calls[seen:] if isinstance(call[1], Packet)]

    @property
    def switches(self) -> list[Switched]:
        return [report for report in self.reports if isinstance(report, Switched)]

    @property
    def holds(self) -> list[Held]:
        return [report for report in self.reports if isinstance(report, Held)]

    @property
    def on_air(self) -> str:
        feed = self.stream.live_feed
        return "" if feed is None else feed.name

    def shown(self, kind: MediaKind = MediaKind.VIDEO) -> list[int | None]:
        """The moments that were shown, in order."""
        return [content_of(packet) for packet in self.sink.packets if packet.kind is kind]

    def times(self, kind: MediaKind = MediaKind.VIDEO) -> list[int]:
        return [packet.dts for packet in self.sink.packets if packet.kind is kind]

    def check(self) -> None:
        """Hold what every subscriber may rely on (P6)."""
        for kind in (MediaKind.VIDEO, MediaKind.AUDIO):
            times = self.times(kind)
            assert all(one < next for one, next in itertools.pairwise(times)), f"{kind.name} runs back"
        assert self.sink.names[0] == "configure"
        header, first = b"", True
        for _, value in self.sink.calls:
            if isinstance(value, Packet):
                if value.kind is MediaKind.VIDEO and first:
                    assert value.keyframe, "new parameters, and the programme, begin with a keyframe"
                    first = False
            elif value is not None:
                track = value.find(MediaKind.VIDEO)  # type: ignore[attr-defined]
                now = b"" if track is None or track.header is None else track.header.body
                first = first or now != header
                header = now
