"""Sinks that block: found, counted and detached, and nobody for one long stall."""

from __future__ import annotations

import pytest

from relay.media.packets import Packet
from relay.stream.registry import Registry
from relay.stream.slowness import BLOCKED_S, BLOCKS, WINDOW_S, Slowness
from relay.stream.stream import Stream
from tests.stream.media import RecordingSink, audio, audio_header, data, video, video_header
from tests.stream.test_stream import Failures, headers, publish


class Time:
    """A clock that counts how often it is read."""

    def __init__(self) -> None:
        self.now = 100.0
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.now


class SlowSink(RecordingSink):
    """Blocks in every write for *takes* seconds."""

    def __init__(self, time: Time, takes: float) -> None:
        super().__init__()
        self.time = time
        self.takes = takes

    def write(self, packet: Packet) -> None:
        super().write(packet)
        self.time.now += self.takes


class Rig:
    """A stream on air with these sinks, by a clock of its own."""

    def __init__(self) -> None:
        self.time = Time()
        self.failures = Failures()
        self.excused: list[object] = []
        slowness = Slowness(self.time, excused=lambda sink: sink in self.excused)
        self.stream = Stream("show", slowness=slowness, on_sink_failed=self.failures)
        publish(self.stream, *headers(), video(0, True), audio(10))
        self.other = RecordingSink()
        self.stream.attach(self.other)
        self.dts = 10

    def slow(self, takes: float) -> SlowSink:
        """Attach a sink that gets what is published from now on."""
        sink = SlowSink(self.time, takes)
        self.stream.attach(sink, from_keyframe=False)
        return sink

    def play(self, packets: int = 1, every: float = 0.0) -> None:
        for _ in range(packets):
            self.dts += 20
            self.time.now += every
            self.stream.publish(audio(self.dts))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_sink_that_blocks_again_and_again_is_detached_with_its_count_and_the_others_go_on(rig: Rig) -> None:
    sink = rig.slow(0.4)

    rig.play(20)

    assert [failed for failed, _ in rig.failures] == [sink]
    assert rig.failures[0][1].startswith("SlowSink.write blocked the relay 5 times within 60 s, for 2.0 s in all")
    assert sink.names[-1] == "close"
    assert len(sink.packets) == 1 + BLOCKS  # the first was one of all sinks together and says only that one blocks
    assert len(rig.other.packets) == 2 + 20


@pytest.mark.parametrize(("takes", "stays"), [(BLOCKED_S - 0.01, True), (BLOCKED_S, False)])
def test_how_long_is_too_long(rig: Rig, takes: float, stays: bool) -> None:
    rig.time.now = 0.0
    sink = rig.slow(takes)

    rig.play(30)

    assert (sink in rig.stream.sinks) is stays


def test_one_block_less_than_too_many_is_forgiven_when_the_minute_is_over(rig: Rig) -> None:
    sink = rig.slow(0.4)
    rig.play(BLOCKS)
    sink.takes = 0.0
    rig.play(10, every=WINDOW_S / 10)
    sink.takes = 0.4

    rig.play(BLOCKS)

    assert rig.failures == []


def test_blocks_further_apart_than_a_minute_are_forgiven_for_ever(rig: Rig) -> None:
    rig.slow(0.4)

    rig.play(50, every=WINDOW_S / (BLOCKS - 1))

    assert rig.failures == []


def test_one_long_stall_of_the_process_detaches_nobody_wherever_it_falls(rig: Rig) -> None:
    sink = rig.slow(600.0)
    rig.play()
    sink.takes = 0.0
    rig.play(100)
    sink.takes = 600.0
    rig.play()
    sink.takes = 0.0
    rig.play(100)

    assert rig.failures == []
    assert len(sink.packets) == 202


def test_a_sink_that_is_quick_is_not_blamed_for_its_neighbour(rig: Rig) -> None:
    first, blocks, last = rig.slow(0.0), rig.slow(1.0), rig.slow(0.0)

    rig.play(20)

    assert [failed for failed, _ in rig.failures] == [blocks]
    assert first in rig.stream.sinks
    assert last in rig.stream.sinks


def test_who_is_excused_is_not_detached(rig: Rig) -> None:
    sink = rig.slow(0.4)
    rig.excused.append(sink)

    rig.play(50)

    assert rig.failures == []
    assert sink in rig.stream.sinks


def test_two_looks_at_the_clock_are_enough_for_any_number_of_sinks(rig: Rig) -> None:
    for _ in range(10):
        rig.slow(0.0)
    rig.time.reads = 0

    rig.play(100)

    assert rig.time.reads == 200


def test_sinks_are_timed_together_again_a_minute_after_the_last_block(rig: Rig) -> None:
    sink = rig.slow(0.4)
    rig.play(2)
    sink.takes = 0.0
    rig.time.now += WINDOW_S
    rig.play()
    rig.time.reads = 0

    rig.play(10)

    assert rig.time.reads == 20


def test_a_sink_that_blocks_while_it_is_shown_the_cached_pictures_is_not_let_in(rig: Rig) -> None:
    rig.play(200)
    sink = SlowSink(rig.time, 0.4)

    rig.stream.attach(sink)

    assert [failed for failed, _ in rig.failures] == [sink]
    assert len(sink.packets) == BLOCKS
    assert sink.names[-1] == "close"
    assert sink not in rig.stream.sinks


def test_blocks_at_data_messages_count(rig: Rig) -> None:
    sink = rig.slow(0.4)

    publish(rig.stream, *(data(20 + n) for n in range(BLOCKS)))

    assert [failed for failed, _ in rig.failures] == [sink]


def test_a_sink_that_comes_back_begins_without_blocks(rig: Rig) -> None:
    sink = rig.slow(0.4)
    rig.play(BLOCKS)
    rig.stream.detach(sink)
    rig.stream.attach(sink, from_keyframe=False)

    rig.play(BLOCKS - 1)

    assert rig.failures == []


@pytest.mark.parametrize("excused", [False, True])
def test_the_registry_gives_its_streams_the_clock_and_the_excuses(excused: bool) -> None:
    time, failed = Time(), []
    registry = Registry(seconds=time, may_block=lambda sink: excused)
    registry.on_sink_failed.append(lambda stream, sink, error: failed.append(sink))
    stream = registry.get_or_create("show")
    publish(stream, video_header(), audio_header(), video(0, True))
    sink = SlowSink(time, 1.0)
    stream.attach(sink)

    publish(stream, *(audio(20 * n) for n in range(1, 20)))

    assert failed == ([] if excused else [sink])
