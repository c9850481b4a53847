"""One feed's clock: bit-exact spacing through every wrap, strictly rising output for any input."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media import flvfile
from relay.media.packets import MediaKind
from relay.media.timeline import JUMP, KEEP_UNTIL, MAX_TRACKS, Timeline

AUDIO, VIDEO, DATA = MediaKind.AUDIO, MediaKind.VIDEO, MediaKind.DATA
BIT31, BIT32 = 1 << 31, 1 << 32
HOUR, DAY = 3_600_000, 86_400_000


def place(timeline: Timeline, *times: int, kind: MediaKind = VIDEO, track: int = 0) -> list[int]:
    return [timeline.place(kind, track, time, False) for time in times]


def both(timeline: Timeline, *times: int) -> list[tuple[int, int]]:
    """Place video and audio with the same wire times."""
    return [(timeline.place(VIDEO, 0, time, False), timeline.place(AUDIO, 0, time, False)) for time in times]


@pytest.mark.parametrize("start", [0, 1, 999, 1000])
def test_a_source_that_starts_early_keeps_its_timestamps(start: int) -> None:
    assert place(Timeline(), start, start + 40) == [start, start + 40]


@pytest.mark.parametrize("start", [1001, 5000, 0xFFFFFF, BIT31 - 20, BIT31, BIT32 - 100])
def test_any_other_source_starts_at_1000(start: int) -> None:
    assert place(Timeline(), start, start + 40) == [1000, 1040]


def test_audio_and_video_share_one_offset_from_the_start() -> None:
    timeline = Timeline()

    assert place(timeline, 50_000) == [1000]
    assert place(timeline, 49_900, 49_921, kind=AUDIO) == [900, 921]


def test_time_never_goes_below_zero() -> None:
    timeline = Timeline()
    place(timeline, 50_000)

    assert place(timeline, 47_000, 47_021, 49_500, kind=AUDIO) == [0, 1, 500]


@pytest.mark.parametrize("bits", [31, 32])
@pytest.mark.parametrize("step", [1, 16, 33, 40, 1000])
def test_spacing_is_exact_across_wraps(bits: int, step: int) -> None:
    start = (1 << bits) - 5 * step
    source = [start + index * step for index in range(12)]
    timeline = Timeline()
    out = [both(timeline, time & ((1 << bits) - 1))[0] for time in source]

    assert [video - 1000 for video, _ in out] == [time - start for time in source]
    assert [audio for _, audio in out] == [video for video, _ in out]
    assert (timeline.resets, timeline.clamped) == (0, 0)


@pytest.mark.parametrize("edge", [0xFFFFFF, BIT31])
def test_spacing_is_exact_across_the_extended_timestamp_and_bit_31_without_a_wrap(edge: int) -> None:
    source = [edge - 100 + index * 33 for index in range(9)]

    assert place(Timeline(), *source) == [1000 + time - source[0] for time in source]


def test_several_wraps_follow_each_other() -> None:
    timeline = Timeline()
    wires = range(BIT31 - 50_000, 2 * BIT31 + 50_000, JUMP)
    out = [timeline.place(VIDEO, 0, wire % BIT31, False) for wire in wires]

    assert out[-1] - out[0] == wires[-1] - wires[0]
    assert timeline.resets == 0


@given(
    start=st.integers(0, BIT32 - 1),
    bits=st.sampled_from([31, 32]),
    video_step=st.integers(1, 900),
    audio_step=st.integers(1, 900),
    lag=st.integers(-500, 500),
    burst=st.integers(1, 5),
)
def test_normal_input_keeps_spacing_and_the_relation_of_audio_and_video(
    start: int, bits: int, video_step: int, audio_step: int, lag: int, burst: int
) -> None:
    modulus = 1 << bits
    start = max(start % modulus, 500) if start % modulus > KEEP_UNTIL else 500
    if modulus - 1000 < start:
        start -= 1000
    timeline = Timeline()
    video = [(start + index * video_step, VIDEO) for index in range(30)]
    audio = [(start + lag + index * audio_step, AUDIO) for index in range(30)]
    ordered = video[:1] + sorted(video[1:] + audio, key=lambda item: (item[0] // (burst * 100), item[1], item[0]))
    source = [(time, kind) for time, kind in ordered if time < start + 25_000]
    out = [timeline.place(kind, 0, time % modulus, False) for time, kind in source]
    shift = out[0] - source[0][0]

    assert [time - shift for time in out] == [time for time, _ in source]
    assert (timeline.resets, timeline.clamped) == (0, 0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([AUDIO, VIDEO, DATA]),
            st.integers(0, 2),
            st.one_of(
                st.integers(0, BIT32 - 1),
                st.integers(0, 3000),
                st.sampled_from([0, 40, 1000, 11_000, BIT31 - 1, BIT31, BIT32 - 1]),
            ),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_any_input_rises_strictly_per_track_and_never_leaps(items: list[tuple[MediaKind, int, int, bool]]) -> None:
    timeline = Timeline()
    last: dict[tuple[MediaKind, int], int] = {}
    for kind, track, wire, config in items:
        before = timeline.newest
        started = bool(last)
        out = timeline.place(kind, track, wire, config)
        assert 0 <= out <= (before + JUMP if started else KEEP_UNTIL)
        if not config and kind is not DATA:
            assert out > last.get((kind, track), -1)
            last[kind, track] = out


@pytest.mark.parametrize("back", [1, 40, 999])
def test_a_small_step_back_is_clamped(back: int) -> None:
    timeline = Timeline()

    assert place(timeline, 5000, 5040, 5040 - back, 5080) == [1000, 1040, 1041, 1080]
    assert (timeline.clamped, timeline.resets) == (1, 0)


@pytest.mark.parametrize("back", [1000, 1001, 60_000, HOUR])
def test_a_large_step_back_continues_one_frame_later(back: int) -> None:
    timeline = Timeline()
    wire = 2 * HOUR

    assert place(timeline, wire, wire + 40, wire + 40 - back, wire + 80 - back) == [1000, 1040, 1080, 1120]
    assert (timeline.clamped, timeline.resets) == (0, 1)


def test_an_encoder_that_restarts_at_zero_keeps_the_relation_of_audio_and_video() -> None:
    timeline = Timeline()
    both(timeline, 0, 40, 80, 5000)
    out = both(timeline, 0, 40, 80)

    assert out == [(5040, 5040), (5080, 5080), (5120, 5120)]
    assert timeline.resets == 1


def test_audio_of_the_old_clock_may_still_come_after_the_video_restarted() -> None:
    timeline = Timeline()
    both(timeline, *range(0, 8000, 40))
    place(timeline, 7960 + 40)
    first = place(timeline, 0)
    late = place(timeline, 7981, 8002, kind=AUDIO)
    then = place(timeline, 0, 21, kind=AUDIO)

    assert (first, late) == ([8040], [7981, 8002])
    assert then == [8040, 8061]
    assert timeline.resets == 1


def test_a_restart_continues_after_audio_that_is_ahead() -> None:
    timeline = Timeline()
    both(timeline, *range(0, 8000, 40))
    place(timeline, 8260, kind=AUDIO)

    assert place(timeline, 0) == [8261]
    assert place(timeline, 0, 21, kind=AUDIO) == [8261, 8282]


@pytest.mark.parametrize("jump", [JUMP + 1, HOUR, 10 * DAY])
def test_a_jump_ahead_advances_by_one_frame(jump: int) -> None:
    timeline = Timeline()
    both(timeline, 0, 40)

    assert both(timeline, 40 + jump, 80 + jump) == [(80, 80), (120, 120)]
    assert timeline.resets == 1


@pytest.mark.parametrize("pause", [1001, 9999, JUMP])
def test_a_pause_up_to_ten_seconds_stays_a_pause(pause: int) -> None:
    timeline = Timeline()

    assert both(timeline, 0, pause, pause + 40) == [(0, 0), (pause, pause), (pause + 40, pause + 40)]
    assert timeline.resets == 0


def test_a_track_that_was_silent_while_the_other_went_on_keeps_its_place() -> None:
    timeline = Timeline()
    both(timeline, 0, 40)
    place(timeline, *range(80, 60_000, 40))

    assert place(timeline, 59_990, kind=AUDIO) == [59_990]
    assert timeline.resets == 0


def test_a_track_that_was_silent_during_a_restart_comes_back_on_the_new_clock() -> None:
    timeline = Timeline()
    both(timeline, *range(0, 20_000, 40))
    place(timeline, *range(0, 30_000, 40))

    assert place(timeline, 29_960, kind=AUDIO) == [timeline.newest]
    assert timeline.resets == 1


def test_a_track_that_starts_late_takes_the_common_offset() -> None:
    timeline = Timeline()
    place(timeline, *range(50_000, 80_000, 40))

    assert place(timeline, 80_000, kind=AUDIO) == [31_000]


def test_a_track_on_a_clock_of_its_own_starts_beside_the_others_and_is_counted() -> None:
    timeline = Timeline()
    place(timeline, 0, 40)

    assert place(timeline, DAY, DAY + 21, kind=AUDIO) == [41, 62]
    assert place(timeline, 80) == [80]
    assert timeline.resets == 1


@pytest.mark.parametrize("skew", [-2000, 2000, 6000])
def test_skew_is_reported_and_not_repaired(skew: int) -> None:
    timeline = Timeline()
    for time in range(7000, 12_000, 20):
        place(timeline, time)
        place(timeline, time + skew, kind=AUDIO)

    assert timeline.skew == skew
    assert timeline.resets == 0


def test_drift_of_one_percent_moves_neither_track() -> None:
    timeline = Timeline()
    for index in range(50_000):
        assert timeline.place(VIDEO, 0, index * 40, False) == index * 40
        assert timeline.place(AUDIO, 0, index * 404 // 10, False) == index * 404 // 10

    assert timeline.skew == 49_999 * 404 // 10 - 49_999 * 40
    assert timeline.resets == 0


@pytest.mark.parametrize("time", [0, 40, 777, 123_456])
def test_equal_timestamps_rise_by_one(time: int) -> None:
    timeline = Timeline()
    out = place(timeline, *[time] * 900)

    assert out == list(range(out[0], out[0] + 900))


def test_equal_timestamps_without_end_stay_strictly_rising_and_bounded() -> None:
    out = place(Timeline(), *[40] * 5000)

    assert all(after > before for before, after in pairwise(out))
    assert out[-1] < 6000


@pytest.mark.parametrize("wire", [0, 40, HOUR, BIT32 - 1])
@pytest.mark.parametrize("kind", [AUDIO, VIDEO, DATA])
def test_what_is_no_frame_never_moves_the_clock(wire: int, kind: MediaKind) -> None:
    timeline = Timeline()
    both(timeline, 50_000, 50_040)
    time = timeline.place(kind, 0, wire, True)

    assert 1000 <= time <= 2040
    assert both(timeline, 50_080) == [(1080, 1080)]
    assert (timeline.resets, timeline.clamped) == (0, 0)


def test_headers_before_the_first_frame_do_not_decide_the_offset() -> None:
    timeline = Timeline()

    assert timeline.place(DATA, 0, 0, True) == 0
    assert timeline.place(VIDEO, 0, 0, True) == 0
    assert place(timeline, BIT31 - 5) == [1000]


def test_a_header_near_now_keeps_its_time() -> None:
    timeline = Timeline()
    both(timeline, 50_000, 50_040)

    assert timeline.place(VIDEO, 0, 50_080, True) == 1080
    assert timeline.place(DATA, 0, 50_060, False) == 1060


def test_the_number_of_clocks_is_bounded() -> None:
    timeline = Timeline()
    for track in range(3 * MAX_TRACKS):
        timeline.place(VIDEO, track, 0, False)

    assert len(timeline._clocks) == MAX_TRACKS


FFMPEG_SOURCE = "-f lavfi -i testsrc2=s=64x64:r=30000/1001 -f lavfi -i sine=r=44100 -t 3 -c:v libx264 -preset ultrafast"


@pytest.mark.integration
@pytest.mark.parametrize(("offset", "edge"), [("16776.2", 0xFFFFFF), ("2147482.6", BIT31)])
def test_ffmpeg_with_a_late_clock_gives_the_spacing_of_the_source(offset: str, edge: int, tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="pip install imageio-ffmpeg").get_ffmpeg_exe()

    def run(name: str, *options: str) -> list[tuple[int, int]]:
        """Return wire time and placed time of each frame."""
        path = tmp_path / name
        command = [ffmpeg, "-v", "error", *FFMPEG_SOURCE.split(), "-bitexact", "-c:a", "aac", *options, str(path)]
        subprocess.run(command, check=True, timeout=60)
        timeline = Timeline()
        tags = [tag for tag in flvfile.read(path.read_bytes()) if tag.type_id != 18 and tag.body[1] == 1]
        placed = [(t.timestamp, timeline.place(MediaKind(t.type_id), 0, t.timestamp, False)) for t in tags]
        assert (timeline.resets, timeline.clamped) == (0, 0)
        return placed

    plain = run("plain.flv")
    late = run("late.flv", "-output_ts_offset", offset)
    wires = [wire for wire, _ in late]

    assert wires[0] < edge
    assert wires[-1] > edge or wires[-1] < 3000
    assert [time - 1000 for _, time in late] == [(wire - wires[0]) % BIT31 for wire in wires]
    # FFmpeg rounds to whole milliseconds after it added the offset, so the two runs agree within one.
    assert max(abs(a - plain[0][1] - b + 1000) for (_, a), (_, b) in zip(plain, late, strict=True)) <= 1
