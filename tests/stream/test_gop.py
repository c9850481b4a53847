"""The GOP cache."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.media.packets import MediaKind
from relay.stream.gop import GopCache, lead_video
from tests.stream.media import audio, audio_header, tracks, video, video_header


def cache_of(*packets: object, max_bytes: int = 10_000, max_ms: int = 5000, lead: int | None = 0) -> GopCache:
    cache = GopCache(max_bytes, max_ms)
    cache.follow(lead)
    for packet in packets:
        cache.add(packet)  # type: ignore[arg-type]
    return cache


def test_without_a_keyframe_there_is_nothing_to_replay() -> None:
    cache = cache_of(video(0), audio(5), video(33))

    assert not cache.ready


def test_sound_before_the_very_first_keyframe_is_kept_in_front_of_it() -> None:
    first = [audio(0), audio(20), video(40, True), audio(41), video(80)]

    cache = cache_of(video(0), *first)

    assert cache.ready
    assert list(cache.packets) == first
    assert cache.nbytes == 70


def test_of_the_sound_before_the_very_first_keyframe_a_second_is_kept() -> None:
    cache = cache_of(*(audio(dts) for dts in range(0, 5000, 20)), video(5000, True))

    assert [packet.dts for packet in cache.packets] == [*range(3980, 5000, 20), 5000]


def test_sound_before_a_later_keyframe_stays_in_its_gop() -> None:
    cache = cache_of(audio(0), video(40, True), audio(50), video(80, True))

    assert [packet.dts for packet in cache.packets] == [80]


def test_everything_since_the_newest_keyframe_is_kept_in_order() -> None:
    old = [video(0, True), audio(10), video(33)]
    new = [video(66, True), audio(70), video(99)]

    cache = cache_of(*old, *new)

    assert list(cache.packets) == new
    assert cache.nbytes == 20 + 10 + 20


def test_a_keyframe_of_another_track_does_not_open_a_gop() -> None:
    first = video(0, True)
    other = video(33, True, track=1)

    cache = cache_of(first, other)

    assert list(cache.packets) == [first, other]


def test_add_says_whether_a_gop_was_opened() -> None:
    cache = cache_of()

    assert cache.add(video(0)) is False
    assert cache.add(video(33, True)) is True
    assert cache.add(audio(40)) is False


def test_a_gop_of_exactly_the_bound_is_kept_and_one_byte_more_is_not() -> None:
    assert len(cache_of(video(0, True, size=60), video(33, size=40), max_bytes=100).packets) == 2
    assert not cache_of(video(0, True, size=60), video(33, size=41), max_bytes=100).packets
    assert len(cache_of(video(0, True), video(5000), max_ms=5000).packets) == 2
    assert not cache_of(video(0, True), video(5001), max_ms=5000).packets


def test_after_an_overflow_nothing_is_kept_until_the_next_keyframe() -> None:
    cache = cache_of(video(0, True, size=60), video(33, size=60), video(66), audio(70), max_bytes=100)

    assert not cache.packets
    assert cache.overflowed
    assert cache.overflows == 1

    cache.add(video(99, True))

    assert [packet.dts for packet in cache.packets] == [99]
    assert not cache.overflowed
    assert cache.overflows == 1


def test_a_keyframe_larger_than_the_bound_is_an_overflow() -> None:
    cache = cache_of(video(0, True, size=101), video(33), max_bytes=100)

    assert not cache.packets
    assert cache.overflows == 1


def test_an_audio_only_stream_keeps_its_last_second() -> None:
    cache = cache_of(*(audio(dts) for dts in range(0, 5001, 20)), lead=None)

    assert [packet.dts for packet in cache.packets] == list(range(4000, 5001, 20))
    assert cache.nbytes == 51 * 10


def test_sound_that_came_before_the_video_track_was_known_belongs_to_the_beginning() -> None:
    cache = cache_of(audio(0), lead=None)

    cache.follow(0)
    cache.add(audio(20))
    assert not cache.ready
    cache.add(video(40, True))

    assert [packet.dts for packet in cache.packets] == [0, 20, 40]


def test_when_the_lead_changes_later_nothing_is_kept_until_its_keyframe() -> None:
    cache = cache_of(video(0, True), audio(5))

    cache.follow(1)
    cache.add(audio(20))

    assert not cache.ready
    assert not cache.packets


def test_lead_video_is_the_lowest_video_track() -> None:
    assert lead_video(tracks(audio_header())) is None
    assert lead_video(tracks(video_header(), audio_header())) == 0


@given(
    st.lists(st.tuples(st.sampled_from("kvax"), st.integers(1, 60), st.integers(0, 300)), max_size=60),
    st.integers(1, 200),
    st.integers(1, 1000),
)
def test_the_cache_is_empty_or_begins_with_a_keyframe_within_bounds(
    steps: list[tuple[str, int, int]], max_bytes: int, max_ms: int
) -> None:
    cache = GopCache(max_bytes, max_ms, audio_ms=max_ms)
    cache.follow(0)
    dts = gops = 0
    for what, size, step in steps:
        dts += step
        if what == "x":
            cache.clear()
        else:
            gops += cache.add(audio(dts, size=size) if what == "a" else video(dts, what == "k", size=size))

        assert cache.nbytes == sum(len(packet.body) for packet in cache.packets) <= max_bytes
        kept = list(cache.packets)
        pictures = [packet for packet in kept if packet.kind is MediaKind.VIDEO]
        assert [packet.keyframe for packet in pictures] == [True, *[False] * (len(pictures) - 1)][: len(pictures)]
        assert cache.ready is bool(pictures)
        if gops > 1:
            assert kept[:1] == pictures[:1]
        if kept:
            assert cache.packets[-1].dts - cache.packets[0].dts <= max_ms
