"""A switch at the very moment of something else (F13): whichever comes first, subscribers see one whole programme (P6).

One stream with a recorder and HLS on one fake clock. Once a second there is a step in which both encoders send, a file
and a segment are due to end, a feed is put on air and something else happens, in every order.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import m3u8
import pytest

from relay.media import nal
from relay.media.packets import MediaKind, Packet, Role
from relay.net.reporting import event_of
from relay.testing import AVC_CONFIG, stream_info
from tests.helpers import hls
from tests.plugins.recordrig import TICK_S, Rig, rig
from tests.stream.media import RecordingSink
from tests.stream.stage import STEP, Encoder, Stage, content_of

__all__ = ["rig"]

GOP_MS = 480
AROUND_S = 0.8
"""Between two crowded moments: every replay is over, and both encoders have sent a keyframe."""

HEADER = b"\x17\x00\x00\x00\x00" + AVC_CONFIG


class Camera(Encoder):
    """An encoder whose pictures are real NAL units, and whose every session has frames of its own."""

    sessions = 0

    def connect(self) -> None:
        self.sessions += 1
        self.maker = f"{self.name}{self.sessions}"
        self.clock += 777_777
        self.sending = True
        super().connect()

    def make(self, content: int):  # type: ignore[no-untyped-def]
        for packet in super().make(content):
            if packet.kind is MediaKind.VIDEO:
                unit = (b"\x65" if packet.keyframe else b"\x41") + packet.body[5:]
                packet.body = packet.body[:5] + nal.join([unit])
            yield packet


class House(Stage):
    """The stage with two cameras, and with what writes the programme down."""

    def __init__(self, make: Callable[..., Rig], **where: Path) -> None:
        super().__init__(mode="switch")
        self.hls = hls.Stage(segment_s=1, window_s=30)
        self.record = make(segment_s=2 * GOP_MS / 1000, **where)
        self.recorder = self.record.open()
        self.stream.attach(self.recorder)
        self.late: list[RecordingSink] = []
        self.paused = False
        self.failed: list[object] = []
        self.stream.failover.report = self.reported
        self.stream._on_sink_failed = lambda sink, error: self.failed.append(error)
        self.cameras = [
            Camera(self, name, number, gop_ms=GOP_MS, avc=HEADER) for number, name in enumerate(("primary", "backup"))
        ]
        self.encoders += self.cameras
        self.run(0.2)
        [opened] = self.hls.host.open_sinks(stream_info("stage", self.stream.tracks))
        self.stream.attach(opened.sink)
        self.run(AROUND_S)

    def reported(self, report: Any) -> None:
        self.reports.append(report)
        self.hls.host.emit(event_of("stage", report))

    def moment(self, *acts: Callable[[], object]) -> None:
        super().moment(*acts)
        self.hls.clock.advance(STEP)
        if self.content % round(TICK_S * 1000) == 0:
            self.record.wait(TICK_S)

    @property
    def live(self) -> Camera:
        return next(one for one in self.cameras if one.feed is self.stream.live_feed)

    @property
    def other(self) -> Camera:
        return next(one for one in self.cameras if one.feed is not self.stream.live_feed)

    def until_before_a_keyframe(self, camera: Camera) -> None:
        while (self.content + 20 - camera.phase_ms) % GOP_MS:
            self.run(STEP)

    def recover(self) -> None:
        """Whoever is gone comes back, and stands by."""
        self.run(0.1)
        for camera in self.cameras:
            if camera.feed not in self.stream.feeds:
                camera.connect()
        self.run(AROUND_S - 0.1)
        assert len(self.stream.feeds) == 2
        assert not self.stream.failover.pacing

    # What may happen.

    def put(self, camera: Camera) -> None:
        self.stream.failover.switch(camera.feed, self.now)

    def come_back(self, camera: Camera) -> None:
        """With a new key, or from another network: the new connection is opened, then the old one is ended."""
        old = camera.feed
        camera.connect()
        old.end("publish.taken_over", self.now)

    def change_sinks(self) -> None:
        """A target is taken out, another one comes."""
        if self.late:
            self.stream.detach(self.late[-1])
        self.late.append(RecordingSink())
        self.stream.attach(self.late[-1])

    def record_anew(self) -> None:
        """The recording is stopped and started: it goes on with the next keyframe."""
        self.paused = True
        self.recorder.stop()
        self.recorder.start()

    # What must hold.

    def check_all(self) -> None:
        assert self.failed == []
        self.check()
        self.check_frames(self.sink)
        for sink in self.late:
            assert sink.names[0] == "configure"
            assert not sink.packets or sink.packets[0].keyframe
            self.check_frames(sink)
        self.check_distance()
        self.check_recording()
        assert len(self.record.files()) >= 24
        self.check_playlist()

    def check_frames(self, sink: RecordingSink) -> None:
        frames = [packet for packet in sink.packets if packet.role is Role.FRAME and b":" in packet.body]
        assert len({(one.kind, one.body) for one in frames}) == len(frames), "a frame came twice"
        pictures = [one for one in frames if one.kind is MediaKind.VIDEO]
        for before, after in itertools.pairwise(pictures):
            if maker_of(before) != maker_of(after):
                assert after.keyframe, "another encoder's first picture is a keyframe"
        for kind in (MediaKind.VIDEO, MediaKind.AUDIO):
            for before, after in itertools.pairwise(one.dts for one in sink.packets if one.kind is kind):
                assert 0 < after - before <= 2000

    def check_distance(self) -> None:
        """Sound and picture of one session keep one distance as long as it is on air."""
        frames = [packet for packet in self.sink.packets if content_of(packet) is not None]
        for maker, packets in itertools.groupby(frames, maker_of):
            assert len({one.dts - (content_of(one) or 0) for one in packets}) == 1, maker

    def check_recording(self) -> None:
        """Files begin at every keyframe; together they hold every frame, once and in order."""
        self.record.close(self.recorder)
        assert self.record.torn() == []
        assert self.recorder.totals.dropped_packets == 0
        held, shown = self.record.bodies(), [packet.body for packet in self.sink.packets if packet.role is Role.FRAME]
        if self.paused:
            rest = iter(shown)
            assert all(body in rest for body in held)
        else:
            assert held == shown

    def check_playlist(self) -> None:
        """What is listed is there; a segment begins anew at every switch."""
        segments = [one for one in m3u8.loads(self.hls.text("stage/main.m3u8")).segments if one.uri]
        assert len(segments) >= 12
        for segment in segments:
            answer = self.hls.get(f"stage/{segment.uri}")
            assert (answer.status, answer.body[4:8]) == (200, b"moof")
            assert 0 < segment.duration <= 2
        assert any(segment.discontinuity for segment in segments)


def maker_of(packet: Packet) -> bytes:
    """Which session made a frame; nothing for the slate's silence."""
    found = re.search(rb"(?:primary|backup)\d+(?=:)", packet.body[:40])
    return found[0] if found else b""


HAPPENINGS: dict[str, Callable[[House, Camera, Camera], Callable[[], object]]] = {
    "the live one is kicked": lambda house, live, other: lambda: live.die("kicked"),
    "the other is kicked": lambda house, live, other: lambda: other.die("kicked"),
    "the live one comes with a new key": lambda house, live, other: lambda: house.come_back(live),
    "the other comes with a new key": lambda house, live, other: lambda: house.come_back(other),
    "a target is changed": lambda house, live, other: house.change_sinks,
    "the recording begins anew": lambda house, live, other: house.record_anew,
    "it is judged": lambda house, live, other: lambda: house.stream.failover.tick(house.now, 0.0),
    "it is taken back": lambda house, live, other: lambda: house.put(live),
}


@pytest.mark.parametrize("what", HAPPENINGS)
def test_in_every_order_it_is_one_programme(rig: Callable[..., Rig], what: str) -> None:
    house = House(rig)
    for number, order in enumerate(itertools.permutations(range(4))):
        live, other = house.live, house.other
        other.phase_ms = live.phase_ms + 40 * (number % 2)  # keyframes come together, or a picture apart
        house.until_before_a_keyframe(other)
        acts = (
            lambda live=live: live.step(house.content),
            lambda other=other: other.step(house.content),
            partial(house.put, other),
            HAPPENINGS[what](house, live, other),
        )
        house.moment(*(acts[number] for number in order))
        house.recover()

    assert len(house.switches) >= 8
    house.check_all()


def test_a_switch_while_the_stream_ends_does_no_harm(rig: Callable[..., Rig], tmp_path: Path) -> None:
    for number, order in enumerate(itertools.permutations(range(3))):
        house = House(rig, directory=tmp_path / str(number))
        live, other = house.live, house.other
        house.until_before_a_keyframe(other)
        acts = (
            partial(other.step, house.content + 20),
            partial(house.put, other),
            partial(house.stream.close, "shutdown"),
        )
        house.moment(partial(live.step, house.content + 20), *(acts[which] for which in order))
        house.run(0.2)

        assert house.failed == []
        assert (house.ended, house.sink.closed) == (["shutdown"], 1)
        house.check()
        house.check_recording()
