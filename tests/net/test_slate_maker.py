"""Which stream gets which slate, and when it is made: on a fake clock, with an encoder of paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from relay.media.packets import MediaKind, TrackSet
from relay.net.encoderchild import ChildError
from relay.net.slates import STARTS, STARTS_S, SlateMaker
from relay.stream.clip import Clip
from relay.stream.policy import FailoverOptions
from relay.stream.registry import Registry
from relay.stream.reports import SlateMade
from relay.stream.stream import Stream
from tests.stream.media import AVC_HEADER, audio, audio_header, video, video_header
from tests.stream.stage import OTHER_AVC


class Place:
    """A maker with one file; what it asks for is done when the test says so."""

    def __init__(self, path: Path, slate: str | None = None) -> None:
        path.write_bytes(b"picture")
        self.path = path
        self.clock = Clock()
        self.registry = Registry(failover=lambda _: FailoverOptions(slate=slate or str(path)))
        self.reports: list[tuple[str, SlateMade]] = []
        self.jobs: list[Callable[[], None]] = []
        self.encoded: list[TrackSet] = []
        self.problem: Exception | None = None
        self.maker = SlateMaker(
            self.clock,
            self.registry,
            in_thread=self._in_thread,
            report=lambda stream, report: self.reports.append((stream.name, report)),
            encode=self._encode,
        )

    def _encode(self, path: Path, tracks: TrackSet) -> Clip:
        self.encoded.append(tracks)
        if self.problem is not None:
            raise self.problem
        track = tracks.find(MediaKind.VIDEO)
        assert track is not None
        return Clip(track.config, b"", ((0, True, b"\x65"),), (), 1000)

    def _in_thread(self, work: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()

        def run() -> None:
            try:
                result = work(*arguments)
            except Exception:
                done.errback(Failure())
            else:
                done.callback(result)

        self.jobs.append(run)
        return done

    def stream(self, name: str, avc: bytes = AVC_HEADER) -> Stream:
        stream = self.registry.get_or_create(name)
        feed = stream.open_feed("primary", 0, 0.0)
        for packet in (video_header(0, avc), audio_header(), video(0, True), audio(0), video(40), audio(20)):
            feed.push(packet, 0.0)
        return stream

    def work(self) -> None:
        self.maker.tick(0.25)
        while self.jobs:
            self.jobs.pop(0)()
            self.maker.tick(0.25)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "slate.png")


def test_a_stream_gets_its_slate_once(place: Place) -> None:
    stream = place.stream("show")

    place.work()
    place.work()

    assert stream.failover.clip is not None
    assert stream.failover.clip.fits(stream.tracks)
    assert [(name, report.problem) for name, report in place.reports] == [("show", "")]
    assert len(place.encoded) == 1


def test_other_parameters_need_another_slate_and_meanwhile_there_is_none(place: Place) -> None:
    stream = place.stream("show")
    place.work()

    stream.feeds[0].push(video_header(80, OTHER_AVC), 0.0)
    stream.feeds[0].push(video(80, True), 0.0)
    place.maker.tick(0.25)

    assert stream.failover.clip is None
    place.work()
    assert stream.failover.clip is not None
    assert len(place.encoded) == 2


def test_streams_with_equal_parameters_share_the_work(place: Place) -> None:
    one, other = place.stream("one"), place.stream("other")

    place.work()

    assert one.failover.clip is other.failover.clip
    assert len(place.encoded) == 1


def test_a_slate_that_nobody_wants_any_more_is_not_made(place: Place) -> None:
    stream = place.stream("show")
    place.maker.tick(0.25)
    begun = list(place.jobs)
    for number in range(8):
        stream.feeds[0].push(video_header(80 * number, OTHER_AVC if number % 2 else AVC_HEADER), 0.0)
        stream.feeds[0].push(video(80 * number + 40, True), 0.0)
        place.maker.tick(0.25)
    short = place.stream("short", OTHER_AVC)
    place.maker.tick(0.25)
    short.close("over")
    stream.close("over")

    place.maker.tick(0.25)
    place.work()

    assert len(begun) == 1
    assert len(place.encoded) == 1


def test_a_file_that_has_changed_is_encoded_again(place: Place) -> None:
    place.stream("show").close("over")
    place.stream("show").close("over")
    place.work()
    place.stream("show")
    place.work()
    assert len(place.encoded) == 1
    place.registry.close("over")
    place.path.write_bytes(b"another picture")

    place.stream("show")
    place.work()

    assert len(place.encoded) == 2


@pytest.mark.parametrize("problem", [ChildError("no such codec"), RuntimeError("a bug")])
def test_what_fails_is_said_and_the_last_picture_stays(place: Place, problem: Exception) -> None:
    place.problem = problem
    stream = place.stream("show")

    if isinstance(problem, RuntimeError):
        place.maker.log.failure = lambda *_: None  # type: ignore[method-assign]
    place.work()

    assert stream.failover.clip is None
    assert place.reports[0][1].problem


def test_a_file_that_is_missing_is_said(place: Place) -> None:
    place.path.unlink()
    place.stream("show")

    place.work()

    assert "No such file" in place.reports[0][1].problem
    assert place.encoded == []


@pytest.mark.parametrize("slate", ["auto", "none"])
def test_without_a_file_there_is_nothing_to_do(tmp_path: Path, slate: str) -> None:
    place = Place(tmp_path / "slate.png", slate)
    place.stream("show")

    place.work()

    assert place.reports == []
    assert place.encoded == []


def test_only_so_many_a_minute(place: Place) -> None:
    streams = [place.stream(f"show{n}", AVC_HEADER[:-1] + bytes((n,))) for n in range(STARTS + 2)]

    place.work()
    assert sum(stream.failover.clip is not None for stream in streams) == STARTS
    place.clock.advance(STARTS_S)
    place.work()

    assert all(stream.failover.clip is not None for stream in streams)
