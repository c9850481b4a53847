"""What a feed that stands by keeps, and where it would start."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.media.packets import MediaKind
from relay.stream.splice import Splice
from relay.stream.standby import StandbyRing
from tests.stream.media import audio, data, video


def filled(seconds: int = 10, gop_ms: int = 2000, **options: int) -> StandbyRing:
    """Make a ring that got a picture every 100 ms, arriving 1,000 s after its own time, and sound 20 ms ahead."""
    ring = StandbyRing(0, **options)
    for dts in range(0, seconds * 1000, 100):
        ring.add(audio(dts + 20), 1000 + dts / 1000)
        ring.add(video(dts, dts % gop_ms == 0), 1000 + dts / 1000)
    return ring


def starts(ring: StandbyRing, at: float) -> int:
    first = ring.begin(at)[0][1]
    assert first.keyframe
    return first.dts


def test_it_begins_with_the_newest_keyframe_before_the_cut() -> None:
    ring = filled()

    assert starts(ring, 1009.9) == 8000
    assert starts(ring, 1008.0) == 8000
    assert starts(ring, 1007.99) == 6000


def test_a_keyframe_too_far_back_is_passed_over_for_the_next_one() -> None:
    ring = filled(20, gop_ms=10_000)

    assert starts(ring, 1004.0) == 0
    assert starts(ring, 1004.01) == 10_000
    assert starts(ring, 1019.9) == 10_000


def test_what_is_not_held_any_more_begins_at_the_oldest_keyframe() -> None:
    ring = filled(20)

    assert starts(ring, 0.0) == 14_000


def test_at_least_four_seconds_and_a_gop_are_kept() -> None:
    ring = filled(60)
    assert ring.span_ms == 4000

    assert filled(35, gop_ms=10_000).span_ms == 10_000


def test_more_than_the_bound_is_never_kept() -> None:
    ring = StandbyRing(0, max_bytes=1000)
    for dts in range(0, 10_000, 100):
        ring.add(video(dts, dts % 500 == 0, size=100), dts / 1000)
        assert ring.nbytes <= 1000

    assert ring


def test_a_gop_larger_than_the_bound_leaves_nothing_and_the_next_keyframe_begins_again() -> None:
    ring = StandbyRing(0, max_bytes=250)
    assert ring.add(video(0, True, size=100), 0.0)
    ring.add(video(40, size=100), 0.04)
    ring.add(video(80, size=100), 0.08)
    assert not ring
    assert ring.nbytes == 0

    assert not ring.add(video(120, size=100), 0.12)
    assert not ring.add(video(160, True, size=251), 0.16)
    assert ring.add(video(200, True, size=250), 0.2)


def test_sound_that_arrived_before_the_keyframe_but_belongs_behind_it_is_replayed() -> None:
    ring = StandbyRing(0)
    packets = [video(0, True), audio(30), audio(45), audio(60), video(40, True), audio(35), audio(80)]
    for packet in packets:
        ring.add(packet, packet.dts / 1000)

    assert [packet.dts for _, packet in ring.begin(1.0)] == [40, 45, 60, 80]


def test_sound_only_begins_anywhere() -> None:
    ring = StandbyRing(None)
    for dts in range(0, 10_000, 20):
        ring.add(audio(dts), dts / 1000)

    assert ring.begin(7.31)[0][1].dts == 7320
    assert ring.begin(99.0)[0][1].dts == 9980


def test_data_is_kept_with_its_gop() -> None:
    ring = StandbyRing(0)
    for packet in (video(0, True), data(10), video(40)):
        ring.add(packet, 0.0)

    assert [packet.kind for _, packet in ring.begin(0.0)] == [MediaKind.VIDEO, MediaKind.DATA, MediaKind.VIDEO]


@given(st.lists(st.tuples(st.sampled_from("kvva"), st.integers(1, 400)), max_size=80), st.floats(0, 4))
def test_whatever_comes_what_is_replayed_begins_with_a_keyframe_and_keeps_its_order(
    frames: list[tuple[str, int]], at: float
) -> None:
    ring = StandbyRing(0, max_bytes=2000, min_ms=500)
    for number, (kind, size) in enumerate(frames):
        dts = number * 20
        ring.add(audio(dts, size=size) if kind == "a" else video(dts, kind == "k", size=size), dts / 1000)
        assert ring.nbytes <= 2000

    if ring:
        packets = [packet for _, packet in ring.begin(at)]
        assert packets[0].keyframe
        for kind in (MediaKind.VIDEO, MediaKind.AUDIO):
            times = [packet.dts for packet in packets if packet.kind is kind]
            assert times == sorted(times)
            assert all(dts >= packets[0].dts for dts in times)


def test_a_splice_gives_twice_the_time_that_passed() -> None:
    splice = Splice([(0.0, video(dts, dts == 0)) for dts in range(0, 1000, 40)], 50.0)

    assert [packet.dts for _, packet in splice.due(50.0)] == [0]
    assert [packet.dts for _, packet in splice.due(50.03)] == [40]
    assert [packet.dts for _, packet in splice.due(50.041)] == [80]
    assert splice.waiting_ms == 840
    splice.append(video(1000), 50.1)
    assert [packet.dts for _, packet in splice.rest()][-1] == 1000
    assert not splice


def test_a_splice_that_holds_too_much_gives_all_at_once() -> None:
    splice = Splice([(0.0, video(0, True))], 0.0)
    for number in range(1, 26):
        splice.append(video(number * 1000, size=1024 * 1024), 0.0)

    assert len(splice.due(0.0)) == 26
