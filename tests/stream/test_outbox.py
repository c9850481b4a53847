"""The outbox before one slow destination."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media.packets import MediaKind, Packet, TrackSet
from relay.stream.outbox import BEGUN_GOP, Outbox
from tests.stream.media import audio, audio_header, data, tracks, video, video_header

BOTH = tracks(video_header(), audio_header())
SOUND = tracks(audio_header())


def outbox_of(*packets: Packet, max_bytes: int = 10_000, max_ms: int = 4000, of: TrackSet = BOTH) -> Outbox:
    outbox = Outbox(max_bytes, max_ms)
    outbox.configure(of)
    outbox.take_opening()
    for packet in packets:
        outbox.append(packet)
    return outbox


def drained(outbox: Outbox) -> list[Packet]:
    taken = []
    while (packet := outbox.pop()) is not None:
        taken.append(packet)
    return taken


def gop(start: int, *, frames: int = 5, size: int = 20) -> list[Packet]:
    packets: list[Packet] = []
    for index in range(frames):
        dts = start + index * 40
        packets += [video(dts, index == 0, size=size), audio(dts + 10, size=10)]
    return packets


def test_packets_come_out_in_the_order_they_went_in() -> None:
    packets = gop(0) + gop(200)

    outbox = outbox_of(*packets)

    assert outbox.queue_bytes == 2 * (5 * 20 + 5 * 10)
    assert outbox.queue_ms == 370
    assert drained(outbox) == packets
    assert outbox.queue_bytes == 0
    assert outbox.queue_ms == 0


def test_no_picture_is_taken_before_the_first_keyframe() -> None:
    outbox = outbox_of(video(1))

    assert outbox.append(video(40)) is False
    assert outbox.append(video(80, True)) is True
    assert [packet.dts for packet in drained(outbox)] == [80]
    assert outbox.dropped_packets == 2


def test_sound_in_front_of_the_first_keyframe_is_kept_at_the_beginning_only() -> None:
    outbox = outbox_of(audio(0), audio(20), video(40, True))

    outbox.restart()
    assert [packet.dts for packet in drained(outbox)] == [0, 20, 40]

    outbox.restart()
    assert outbox.append(audio(60)) is False


def test_sound_without_end_in_front_of_the_first_keyframe_is_bounded() -> None:
    outbox = outbox_of(*(audio(dts) for dts in range(0, 400, 20)), max_bytes=100)

    assert outbox.append(video(400, True)) is True
    assert [packet.dts for packet in drained(outbox)] == [400]
    assert outbox.dropped_packets == 20


def test_the_oldest_gop_is_dropped_whole_when_bytes_run_out() -> None:
    first, second, third = gop(0), gop(200), video(400, True)
    outbox = outbox_of(*first, *second, max_bytes=310)

    assert outbox.append(third) is True
    assert outbox.dropped_gops == 1
    assert outbox.dropped_packets == len(first)
    assert outbox.dropped_bytes == 150
    assert drained(outbox) == [*second, third]


@pytest.mark.parametrize("ms", [1999, 2000])
def test_a_queue_of_at_most_the_bounds_is_kept(ms: int) -> None:
    by_bytes = outbox_of(video(0, True, size=60), video(40, size=40), max_bytes=100)
    by_time = outbox_of(video(0, True), video(40, True), video(ms), max_ms=2000)

    assert len(by_bytes) == 2
    assert len(by_time) == 3
    assert by_bytes.dropped_packets == by_time.dropped_packets == 0


def test_a_millisecond_more_leaves_out_what_comes_before_a_later_keyframe() -> None:
    outbox = outbox_of(video(0, True), audio(20), video(40, True), audio(60), video(2001), max_ms=2000)

    assert [packet.dts for packet in drained(outbox)] == [40, 60, 2001]
    assert outbox.dropped_gops == 1


@pytest.mark.parametrize(("ms", "kept"), [(1999, [0, 1999]), (2000, [0, 2000]), (2001, [2001])])
def test_the_keyframe_that_finds_more_than_the_bound_waiting_is_the_one_to_go_on_from(ms: int, kept: list[int]) -> None:
    outbox = outbox_of(video(0, True), video(ms, True), max_ms=2000)

    assert [packet.dts for packet in drained(outbox)] == kept


@pytest.mark.parametrize("ms", [2001, 3999, 4000])
def test_a_gop_that_has_begun_is_kept_while_there_is_no_later_keyframe(ms: int) -> None:
    outbox = outbox_of(video(0, True), audio(20), video(ms), audio(ms), max_ms=2000)

    assert [packet.dts for packet in drained(outbox)] == [0, 20, ms, ms]
    assert outbox.dropped_packets == 0


def test_a_keyframe_that_was_sent_is_no_later_one() -> None:
    outbox = outbox_of(video(0, True), video(40, True), video(80), max_ms=2000)
    sent = [outbox.pop(), outbox.pop()]

    outbox.append(video(2100))

    assert [packet.dts for packet in sent if packet] == [0, 40]
    assert [packet.dts for packet in drained(outbox)] == [80, 2100]


def test_more_than_one_gop_goes_until_the_rest_is_within_the_bound() -> None:
    outbox = outbox_of(*(video(dts, dts % 500 == 0) for dts in range(0, 2001, 100)), max_ms=2000)

    outbox.append(video(2900))

    assert [packet.dts for packet in drained(outbox)][:2] == [1000, 1100]
    assert outbox.dropped_gops == 2


def test_a_keyframe_of_tracks_that_are_gone_is_no_later_one() -> None:
    outbox = outbox_of(audio(0), audio(20), audio(40), max_ms=2000, of=SOUND)
    outbox.configure(BOTH)
    outbox.append(video(60, True))

    outbox.append(video(2000))
    assert outbox.peek() is not None
    assert outbox.dropped_packets == 0
    outbox.append(video(2001))

    assert outbox.take_opening() is BOTH
    assert [packet.dts for packet in drained(outbox)] == [60, 2000, 2001]


def test_one_byte_too_many_or_a_gop_above_the_last_bound_empties_the_queue_until_the_next_keyframe() -> None:
    by_bytes = outbox_of(video(0, True, size=60), video(40, size=41), max_bytes=100)
    by_time = outbox_of(video(0, True), video(4001), max_ms=2000)

    for outbox in (by_bytes, by_time):
        assert len(outbox) == 0
        assert outbox.waiting
        assert outbox.append(video(4040)) is False
        assert outbox.append(audio(4041)) is False
        assert outbox.append(video(4080, True)) is True
        assert outbox.dropped_gops == 1


def test_the_rest_of_a_gop_that_was_begun_is_dropped_and_the_next_keyframe_follows() -> None:
    first, second = gop(0), gop(200)
    outbox = outbox_of(*first, *second, max_bytes=310)
    begun = [outbox.pop(), outbox.pop()]

    outbox.append(video(400, True, size=100))

    assert begun == first[:2]
    assert outbox.peek() is second[0]
    assert outbox.dropped_packets == len(first) - 2


def test_sound_of_a_dropped_span_that_arrives_after_the_keyframe_is_dropped_too() -> None:
    late, kept = audio(190), audio(205)
    outbox = outbox_of(video(0, True, size=60), video(200, True, size=20), late, kept, max_bytes=100)

    outbox.append(video(240, size=20))
    later = outbox.append(audio(199))

    assert [packet.dts for packet in drained(outbox)] == [200, 205, 240]
    assert later is False


def test_sound_of_a_dropped_span_is_dropped_when_the_keyframe_that_made_room_is_the_newest_packet() -> None:
    outbox = outbox_of(video(0, True), video(4001, True), audio(3999), audio(4005), max_ms=4000)

    assert [packet.dts for packet in drained(outbox)] == [4001, 4005]


def test_sound_that_made_room_by_dropping_its_own_span_is_dropped_too() -> None:
    outbox = outbox_of(video(0, True, size=50), video(40, True, size=50), audio(39, size=10), max_bytes=100)

    assert [packet.dts for packet in drained(outbox)] == [40]


def test_data_rides_along_and_is_dropped_with_its_span() -> None:
    outbox = outbox_of(video(0, True, size=60), data(10), video(200, True, size=60), data(210), max_bytes=100)

    assert [packet.dts for packet in drained(outbox)] == [200, 210]


def test_a_packet_larger_than_the_queue_is_refused_and_what_waits_stays() -> None:
    outbox = outbox_of(video(0, True, size=20), max_bytes=100)

    assert outbox.append(video(40, size=101)) is False
    assert outbox.append(video(80)) is False
    assert [packet.dts for packet in drained(outbox)] == [0]
    assert outbox.append(video(120, True)) is True


def test_without_video_only_the_oldest_sound_is_dropped() -> None:
    by_bytes = outbox_of(*(audio(index * 20) for index in range(20)), max_bytes=100, of=SOUND)
    by_time = outbox_of(*(audio(index * 20) for index in range(20)), max_ms=180, of=SOUND)

    for outbox in (by_bytes, by_time):
        assert [packet.dts for packet in drained(outbox)] == list(range(200, 400, 20))
        assert outbox.dropped_packets == 10
        assert outbox.dropped_gops == 0


def test_take_returns_at_least_one_packet_and_at_most_the_bytes_asked_for() -> None:
    outbox = outbox_of(*gop(0))

    assert [len(packet.body) for packet in outbox.take(1)] == [20]
    assert [len(packet.body) for packet in outbox.take(39)] == [10, 20]
    assert len(outbox.take(10_000)) == 7
    assert outbox.take(10_000) == []


def test_an_opening_is_due_before_the_first_packet() -> None:
    outbox = Outbox()
    outbox.configure(BOTH)
    outbox.append(video(0, True))

    assert outbox.needs_opening
    assert outbox.take(10_000) == []
    assert outbox.take_opening() is BOTH
    assert not outbox.needs_opening
    assert len(outbox.take(10_000)) == 1


def test_an_opening_is_due_exactly_where_the_configuration_changes() -> None:
    changed = tracks(video_header(), audio_header(), generation=2)
    outbox = outbox_of(*gop(0))
    outbox.configure(changed)
    outbox.append(video(200, True))

    assert outbox.take(10_000)[-1].dts == 170
    assert outbox.needs_opening
    assert outbox.take_opening() is changed
    assert [packet.dts for packet in outbox.take(10_000)] == [200]


def test_a_change_of_configuration_inside_a_dropped_span_is_not_forgotten() -> None:
    second, third = (tracks(video_header(), audio_header(), generation=number) for number in (2, 3))
    outbox = outbox_of(*gop(0), max_bytes=310)
    outbox.configure(second)
    outbox.append(video(200))
    outbox.configure(third)
    for packet in gop(240):
        outbox.append(packet)

    assert outbox.take_opening() is third
    assert [packet.dts for packet in outbox.take(10_000)] == [packet.dts for packet in gop(240)]


def test_restart_begins_with_the_current_opening_and_a_keyframe() -> None:
    first, second = gop(0), gop(200)
    outbox = outbox_of(*first, *second)
    outbox.take(60)

    outbox.restart()

    assert outbox.needs_opening
    assert outbox.take_opening() is BOTH
    assert drained(outbox) == second


def test_restart_at_a_keyframe_leaves_out_sound_of_the_gop_that_the_old_destination_got() -> None:
    outbox = outbox_of(video(0, True), video(40, True), audio(35), audio(45))
    outbox.pop()

    outbox.restart()

    assert [packet.dts for packet in drained(outbox)] == [40, 45]


def test_restart_of_an_empty_outbox_waits_for_a_keyframe() -> None:
    outbox = outbox_of(*gop(0))
    drained(outbox)

    outbox.restart()

    assert outbox.append(video(200)) is False
    assert outbox.append(video(240, True)) is True


def test_restart_before_any_configuration_changes_nothing_that_matters() -> None:
    outbox = Outbox()

    outbox.restart()
    outbox.configure(BOTH)

    assert outbox.take_opening() is BOTH


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("kvad"), st.integers(1, 60), st.integers(0, 120), st.integers(-60, 60)),
        st.tuples(st.sampled_from("tcr"), st.integers(1, 300), st.just(0), st.just(0)),
    ),
    max_size=120,
)


def make(what: str, now: int, size: int, skew: int) -> Packet:
    if what == "a":
        return audio(now + skew, size=size)
    if what == "d":
        return data(now, body=b"d" * size)
    return video(now, what == "k", size=size)


@given(STEPS, st.integers(60, 300), st.integers(50, 1500))
def test_whatever_happens_the_bounds_hold_and_what_comes_out_can_be_decoded(
    steps: list[tuple[str, int, int, int]], max_bytes: int, max_ms: int
) -> None:
    outbox = outbox_of(max_bytes=max_bytes, max_ms=max_ms)
    model = Destination()
    now = 1000
    offered: list[Packet] = []
    generation = 1
    for what, size, step, skew in steps:
        now += step + 1
        if what == "t":
            model.receive(outbox, size)
        elif what == "c":
            generation += 1
            outbox.configure(tracks(video_header(), audio_header(), generation=generation))
        elif what == "r":
            outbox.restart()
            model.reconnect()
        else:
            packet = make(what, now, size, skew)
            offered.append(packet)
            model.offered(packet, generation)
            outbox.append(packet)
            assert outbox.queue_bytes <= max_bytes
            assert outbox.queue_ms <= BEGUN_GOP * max_ms
            assert outbox.queue_ms <= max_ms or not later_starts(outbox), "the destination is behind, needlessly"
    while len(outbox):
        model.receive(outbox, 100)

    assert outbox.queue_bytes == 0
    assert len(model.got) + outbox.dropped_packets == len(offered)
    positions = {id(packet): index for index, packet in enumerate(offered)}
    order = [positions[id(packet)] for packet in model.got]
    assert order == sorted(set(order))


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(-60, 60), st.integers(0, 3)), max_size=80))
def test_without_video_never_more_than_the_bound_waits(steps: list[tuple[int, int, int]]) -> None:
    outbox, now = outbox_of(max_ms=1000, of=SOUND), 1000
    for step, skew, taken in steps:
        now += step
        outbox.append(audio(now + skew))
        assert outbox.queue_ms <= 1000
        for _ in range(taken):
            outbox.pop()


def later_starts(outbox: Outbox) -> list[Packet]:
    """What the destination could go on from, were all before it left out."""
    waiting = [entry for entry in outbox._queue if isinstance(entry, Packet)]
    return [packet for packet in waiting[1:] if packet.kind is MediaKind.VIDEO and packet.keyframe]


class Destination:
    """Checks what a decoder at the other end would check."""

    def __init__(self) -> None:
        self.got: list[Packet] = []
        self._lead: list[Packet] = []
        self._generations: dict[int, int] = {}
        self._generation = 1
        self._fresh = True
        self._beginning = True
        self._start = 0
        self._last: int | None = None

    def offered(self, packet: Packet, generation: int) -> None:
        self._generations[id(packet)] = generation
        if packet.kind is MediaKind.VIDEO:
            self._lead.append(packet)

    def reconnect(self) -> None:
        self._fresh = True
        self._beginning = self._beginning and not self.got
        self._generation = 0

    def receive(self, outbox: Outbox, nbytes: int) -> None:
        if outbox.needs_opening:
            self._generation = outbox.take_opening().generation
        for packet in outbox.take(nbytes):
            self.got.append(packet)
            assert self._generation == self._generations[id(packet)]
            if packet.kind is MediaKind.VIDEO:
                index = next(i for i, other in enumerate(self._lead) if other is packet)
                if self._fresh or index != self._last:
                    assert packet.keyframe, "after a gap the first picture must be a keyframe"
                    if not self._beginning:
                        self._start = packet.dts
                self._beginning = False
                self._last = index + 1
                self._fresh = False
            elif not self._beginning or packet.kind is MediaKind.DATA:
                assert not self._fresh, "sound before the first picture"
                assert packet.dts >= self._start, "sound of a span whose picture was left out"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_dropped_gop_is_counted(count: int) -> None:
    packets = [packet for index in range(count) for packet in gop(index * 200)]
    outbox = outbox_of(*packets)

    outbox_small = outbox_of(*packets, video(count * 200, True, size=150), max_bytes=150)

    assert outbox.dropped_gops == 0
    assert outbox_small.dropped_gops == count
