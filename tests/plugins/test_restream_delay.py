"""A programme some seconds later, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from relay.api import Codec, MediaKind, Packet, Role
from relay.testing import RecordingSink, aac_frame, avc_frame, packets, track_set
from relay_restream import spool
from relay_restream.delay import AHEAD_BYTES, BLOCK_BYTES, MEMORY_BYTES, DelayLine
from relay_restream.spool import pack, unpack


class Disk:
    """Runs work at once, later, or never well."""

    def __init__(self) -> None:
        self.held: list[Callable[[], None]] | None = None
        self.broken = False
        self.calls = 0

    def __call__(self, work: Callable[..., object], /, *arguments: object) -> Deferred[object]:
        self.calls += 1
        if self.broken:
            return fail(OSError(28, "No space left on device"))
        if self.held is None:
            return succeed(work(*arguments))
        later: Deferred[object] = Deferred()
        self.held.append(lambda: later.callback(work(*arguments)))
        return later

    def catch_up(self) -> None:
        held, self.held = self.held or [], None
        for one in held:
            one()


LINES: list[Line] = []


@pytest.fixture(autouse=True)
def _close_lines() -> Iterator[None]:
    yield
    while LINES:
        line = LINES.pop().line
        line.close()
        line.cut()


class Line:
    """A delay with everything around it."""

    def __init__(self, delay_s: float, directory: Path | None = None) -> None:
        LINES.append(self)
        self.clock = Clock()
        self.disk = Disk()
        self.sink = RecordingSink()
        self.broken: list[Failure] = []
        self.disk_failed: list[Failure] = []
        self.most = 0
        self.line = DelayLine(
            self.sink,
            delay_s,
            clock=self.clock,
            directory=directory,
            thread=self.disk,
            on_broken=self.broken.append,
            on_disk_failed=self.disk_failed.append,
        )

    def play(self, seconds: float, *, kbps: int = 800, start: float = 0.0) -> list[Packet]:
        """Let a programme come in, in time, and return it."""
        sent = []
        size = kbps * 1000 // 8 // 25
        for n in range(int(seconds * 25)):
            packet = avc_frame(int(start * 1000) + n * 40, keyframe=n % 50 == 0, size=size)
            sent.append(packet)
            self.line.write(packet)
            self.clock.advance(0.04)
            self.most = max(self.most, self.line.memory_bytes)
        return sent

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.04)):
            self.clock.advance(0.04)

    @property
    def written(self) -> list[Packet]:
        return self.sink.written


def same(got: list[Packet], sent: list[Packet]) -> bool:
    def fields(packet: Packet) -> tuple[object, ...]:
        return (packet.kind, packet.track, packet.codec, packet.role, packet.keyframe, packet.dts, packet.cts)

    return [(*fields(p), p.body, p.offset) for p in got] == [(*fields(p), p.body, p.offset) for p in sent]


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e9),
            st.sampled_from(list(MediaKind)),
            st.integers(0, 255),
            st.sampled_from(list(Codec)),
            st.sampled_from(list(Role)),
            st.booleans(),
            st.integers(-(2**62), 2**62),
            st.integers(-(2**23), 2**23),
            st.binary(max_size=40),
            st.integers(0, 40),
        )
    )
)
def test_what_is_packed_comes_back(rows: list[tuple[Any, ...]]) -> None:
    entries = [(row[0], Packet(*row[1:])) for row in rows]
    back = unpack(pack(entries))

    assert [due for due, _ in back] == [due for due, _ in entries]
    assert same([packet for _, packet in back], [packet for _, packet in entries])


def test_everything_comes_out_after_the_delay_and_not_before() -> None:
    line = Line(2.0)
    line.line.configure(track_set())
    sent = line.play(1.0)

    assert line.sink.configured == []
    line.wait(0.96)
    assert line.written == []
    line.wait(0.08)
    assert len(line.sink.configured) == 1
    assert 1 <= len(line.written) <= 2
    line.wait(1.0)
    assert [id(one) for one in line.written] == [id(one) for one in sent]
    assert line.line.memory_bytes == 0
    line.clock.advance(100)
    assert line.clock.getDelayedCalls() == [], "nothing ticks when nothing waits"


def test_tracks_change_where_they_changed() -> None:
    line = Line(1.0)
    line.line.configure(track_set(generation=1))
    line.line.write(avc_frame(0, keyframe=True))
    line.line.configure(track_set(generation=2))
    line.line.write(avc_frame(40, keyframe=True))
    seen: list[object] = []
    line.sink.write = lambda packet: seen.append(packet.dts)  # type: ignore[method-assign]
    line.sink.configure = lambda tracks: seen.append(f"tracks {tracks.generation}")  # type: ignore[method-assign]
    line.wait(1.1)

    assert seen == ["tracks 1", 0, "tracks 2", 40]


def test_a_long_delay_goes_through_the_disk_and_comes_back_the_same(tmp_path: Path) -> None:
    line = Line(30.0, tmp_path)
    line.line.configure(track_set())
    sent = line.play(60.0, kbps=8000)

    assert line.disk.calls > 50
    assert line.most <= AHEAD_BYTES + 3 * BLOCK_BYTES, "memory does not grow with the delay"
    assert line.line.disk_bytes > 20 * 1024 * 1024
    assert list(tmp_path.iterdir()) == [], "the files have no names"
    line.wait(31)
    assert same(line.written, sent)
    assert (line.line.memory_bytes, line.line.disk_bytes, line.line.dropped_packets) == (0, 0, 0)


def test_files_are_closed_when_they_are_no_longer_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(spool, "FILE_BYTES", 4 * BLOCK_BYTES)
    make = spool.tempfile.TemporaryFile

    def temporary(**options: Any) -> Any:
        made.append(make(**options))
        return made[-1]

    monkeypatch.setattr(spool.tempfile, "TemporaryFile", temporary)
    line = Line(20.0, tmp_path)
    line.line.configure(track_set())
    line.play(40.0, kbps=8000)

    assert len(made) > 8
    assert sum(not file.closed for file in made) < len(made) / 1.5
    line.wait(21)
    line.line.close()
    line.wait(1)
    assert all(file.closed for file in made)


def test_a_disk_that_does_not_answer_costs_whole_groups_of_pictures_and_no_memory(tmp_path: Path) -> None:
    line = Line(30.0, tmp_path)
    line.disk.held = []
    line.line.configure(track_set())
    line.play(40.0, kbps=8000)

    assert line.most <= MEMORY_BYTES + BLOCK_BYTES
    assert line.line.dropped_packets > 100
    line.disk.catch_up()
    line.play(10.0, kbps=8000, start=40.0)
    line.wait(40)
    gaps = [(before, after) for before, after in pairwise(line.written) if after.dts - before.dts != 40]
    assert gaps
    assert all(after.keyframe for _, after in gaps), "after a gap comes a keyframe"


def test_a_full_disk_is_said_once_and_the_programme_goes_on_in_memory(tmp_path: Path) -> None:
    line = Line(30.0, tmp_path)
    line.disk.broken = True
    line.line.configure(track_set())
    line.play(70.0, kbps=8000)

    assert len(line.disk_failed) == 1
    assert line.most <= MEMORY_BYTES + BLOCK_BYTES
    assert line.written[0].keyframe
    assert len(line.written) > 100
    assert line.broken == []


def test_a_dump_throws_away_what_waits_and_begins_again_at_a_keyframe(tmp_path: Path) -> None:
    line = Line(10.0, tmp_path)
    line.line.configure(track_set(generation=1))
    line.play(4.0, kbps=8000)
    line.line.configure(track_set(generation=2))
    line.play(1.0, kbps=8000, start=4.0)
    gone = line.line.dump()

    assert gone == 125
    assert line.written == []
    assert [tracks.generation for tracks in line.sink.configured] == [2], "headers are kept"
    assert (line.line.memory_bytes, line.line.disk_bytes) == (0, 0)
    for n in range(10):
        line.line.write(aac_frame(5000 + n * 21))
        line.line.write(avc_frame(5000 + n * 21))
    sent = line.play(1.0, start=6.0)
    line.wait(10.1)
    assert same(line.written, sent)


def test_a_closed_line_plays_to_its_end_then_closes_its_sink(tmp_path: Path) -> None:
    line = Line(10.0, tmp_path)
    line.line.configure(track_set())
    sent = line.play(8.0, kbps=8000)
    closed = line.line.close()
    line.wait(9)

    assert not closed.called
    line.wait(1.2)
    assert closed.called
    assert line.sink.closed == 1
    assert same(line.written, sent)
    assert line.line.close() is closed


def test_a_line_that_is_cut_closes_at_once(tmp_path: Path) -> None:
    line = Line(10.0, tmp_path)
    line.line.configure(track_set())
    line.play(8.0, kbps=8000)
    closed = line.line.close()
    line.line.cut()

    assert closed.called
    assert line.written == []
    assert line.clock.getDelayedCalls() == []
    assert (line.line.memory_bytes, line.line.disk_bytes) == (0, 0)


def test_a_sink_that_raises_is_reported_and_gets_nothing_more() -> None:
    line = Line(1.0)
    line.line.configure(track_set())

    def fail_once(packet: Packet) -> None:
        raise RuntimeError("no")

    line.sink.write = fail_once  # type: ignore[method-assign]
    line.play(2.0)

    assert len(line.broken) >= 1
    assert line.broken[0].check(RuntimeError)


def test_everything_about_files_happens_in_another_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    make = spool.tempfile.TemporaryFile
    monkeypatch.setattr(spool, "FILE_BYTES", 4 * BLOCK_BYTES)

    def temporary(**options: Any) -> Any:
        names.append(threading.current_thread().name)
        file = make(**options)
        close = file.close

        def noted() -> None:
            names.append(threading.current_thread().name)
            close()

        monkeypatch.setattr(file, "close", noted, raising=False)
        return file

    monkeypatch.setattr(spool.tempfile, "TemporaryFile", temporary)
    line = Line(5.0, tmp_path)

    def thread(work: Callable[..., object], /, *arguments: object) -> Deferred[object]:
        results: list[object] = []

        def run() -> None:
            names.append(threading.current_thread().name)
            results.append(work(*arguments))

        worker = threading.Thread(target=run, name="disk")
        worker.start()
        worker.join()
        return succeed(results[0])

    line.line._thread = thread
    line.line.configure(track_set())
    sent = line.play(10.0, kbps=8000)
    line.wait(6)

    assert set(names) == {"disk"}
    assert same(line.written, sent)


def test_sound_without_picture_is_delayed_too() -> None:
    line = Line(0.5)
    tracks = track_set()
    audio = tuple(track for track in tracks.tracks if track.kind is MediaKind.AUDIO)
    line.line.configure(type(tracks)(audio))
    line.line.skip_to_keyframe()
    sent = [packet for packet in packets(0.3) if packet.kind is MediaKind.AUDIO]
    for packet in sent:
        line.line.write(packet)
    line.wait(0.6)

    assert line.written == sent
