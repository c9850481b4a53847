"""The HLS plugin from outside: what viewers get while encoders come, go and misbehave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import m3u8
import pytest

from relay.api import Codec, Packet, TrackSet
from relay.testing import (
    AVC_CONFIG,
    PluginContract,
    aac_frame,
    aac_header,
    avc_frame,
    avc_header,
    hevc_header,
    packets,
    track_set,
)
from relay_hls import HlsPlugin
from tests.helpers.hls import Stage, attribute, tag, uris


class TestHlsContract(PluginContract):
    name = "hls"
    plugin = HlsPlugin
    config: ClassVar[Mapping[str, object]] = {"segment_s": 2}
    bad_configs = (
        ({"container": "webm"}, "plugins.hls.container"),
        ({"segment_s": 0}, "plugins.hls.segment_s"),
        ({"segment_s": 30, "window_s": 60}, "plugins.hls"),
        ({"segment_s": 1, "part_ms": 1000}, "plugins.hls"),
        ({"part_ms": -1}, "plugins.hls.part_ms"),
    )


def audio_only() -> TrackSet:
    return TrackSet(tracks=track_set(audio=aac_header()).tracks[1:], generation=1)


def sounds(seconds: float, start: int = 0) -> list[Packet]:
    return [aac_frame(start + 1024 * n // 48) for n in range(int(seconds * 48_000 / 1024))]


def whole(text: str) -> list[m3u8.Segment]:
    """The complete segments of a playlist; m3u8 counts the parts of the one that grows as another."""
    return [segment for segment in m3u8.loads(text).segments if segment.uri]


# What is listed.


def test_a_programme_is_listed_once_its_first_segment_is_complete() -> None:
    stage = Stage()
    stage.start()
    stage.run(3.9)
    peer = stage.peer()
    peer.begin("GET", "/hls/stage/index.m3u8")
    stage.clock.advance(0)
    assert peer.transport.value() == b""

    stage.run(1)

    answer = peer.answer()
    assert answer.status == 200
    assert b'CODECS="avc1.42C01E,mp4a.40.2",RESOLUTION=640x360,FRAME-RATE=25.000' in answer.body
    assert answer.body.endswith(b"\nmain.m3u8\n")
    peer.hang_up()


def test_an_ordinary_reader_finds_whole_segments_of_the_wanted_length() -> None:
    stage = Stage()
    stage.start()
    stage.run(30)

    playlist = m3u8.loads(stage.text("stage/main.m3u8"))

    assert playlist.target_duration == 4
    assert [segment.duration for segment in whole(stage.text("stage/main.m3u8"))] == [4.0] * 7
    assert playlist.media_sequence > 0
    assert not playlist.is_endlist
    assert playlist.is_independent_segments
    for before, after in pairwise(whole(stage.text("stage/main.m3u8"))):
        gap = after.program_date_time - before.program_date_time
        assert gap.total_seconds() == pytest.approx(before.duration, abs=0.002)


def test_everything_that_is_listed_can_be_fetched_and_parts_make_the_segment() -> None:
    stage = Stage()
    stage.start()
    stage.run(21)
    lines = stage.lines()
    parts: list[bytes] = []
    for line in lines:
        if line.startswith("#EXT-X-PART:"):
            answer = stage.get("stage/" + attribute(line.partition(":")[2], "URI"))
            assert answer.status == 200
            parts.append(answer.body)
        elif not line.startswith("#"):
            whole = stage.get(f"stage/{line}")
            assert whole.status == 200
            assert whole.headers["content-type"] == "video/iso.segment"
            assert not parts or b"".join(parts) == whole.body
            parts = []
    [init] = {attribute(value, "URI") for value in tag(lines, "EXT-X-MAP")}
    assert stage.get(f"stage/{init}").body[4:8] == b"ftyp"


def test_parts_are_as_long_as_they_say_and_are_listed_near_the_end_only() -> None:
    stage = Stage()
    stage.start()
    stage.run(30.3)
    lines = stage.lines()
    durations = [float(attribute(value, "DURATION")) for value in tag(lines, "EXT-X-PART")]
    [information] = tag(lines, "EXT-X-PART-INF")
    target = float(attribute(information, "PART-TARGET"))

    assert target == 0.2
    assert max(durations) <= target
    assert min(durations) >= 0.85 * target
    assert 3 * 20 <= len(durations) <= 4 * 20 + 20
    assert [line for line in lines[:20] if line.startswith("#EXT-X-PART:")] == []
    assert lines[-1].startswith("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=")


def low_latency(stage: Stage) -> tuple[list[str], float]:
    """What a playlist promises of its parts, and how long the longest one says that it is."""
    lines = stage.lines()
    durations = [float(attribute(value, "DURATION")) for value in tag(lines, "EXT-X-PART")]
    return [*tag(lines, "EXT-X-PART-INF"), *tag(lines, "EXT-X-SERVER-CONTROL")], max(durations, default=0.0)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param([avc_frame(9_000 + 500 * n, keyframe=True) for n in range(24)], id="a slate"),
        pytest.param([avc_frame(9_000 + 41 * n, keyframe=n % 48 == 0) for n in range(290)], id="another rate"),
        pytest.param(
            [avc_frame(9_000 + 40 * n + 300 * (n > 60), keyframe=n % 50 == 0) for n in range(300)], id="a pause"
        ),
    ],
)
def test_what_is_promised_of_parts_never_changes_and_is_kept(after: list[Packet]) -> None:
    stage = Stage()
    stage.start()
    stage.run(9)
    promised, longest = low_latency(stage)
    assert promised[0] == "PART-TARGET=0.20000"
    if after[1].dts - after[0].dts == 41:  # a new encoder is measured anew
        stage.sink.configure(track_set(hevc_header(), generation=2))
        after = [replace(packet, codec=Codec.HEVC) for packet in after]

    for packet in after:
        stage.play([packet])
        now, longest = low_latency(stage)
        assert now == promised
        assert longest <= 0.2

    listed = whole(stage.text("stage/main.m3u8"))
    for before, later in pairwise(listed):
        passed = (later.program_date_time - before.program_date_time).total_seconds()
        assert later.discontinuity or passed == pytest.approx(before.duration, abs=0.05)


def test_without_parts_there_is_nothing_of_low_latency() -> None:
    stage = Stage(part_ms=0)
    stage.start()
    stage.run(21)
    lines = stage.lines()

    assert not [line for line in lines if "PART" in line or "SERVER-CONTROL" in line or "PRELOAD" in line]
    assert len(uris(lines)) == 5
    assert tag(lines, "EXT-X-VERSION") == ["7"]


def test_discontinuities_are_counted_from_a_number_that_hls_js_can_count_to() -> None:
    stage = Stage()
    stage.start()
    stage.run(9)

    # It keeps an array as long as this and walks through it at every update: at 200 million a browser hangs.
    assert int(tag(stage.lines(), "EXT-X-DISCONTINUITY-SEQUENCE")[0]) < 100_000


def test_a_relay_without_a_disk_that_was_killed_begins_above_what_it_had_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    for at in (1_795_000_200.0, 1_795_000_200.0 + 1_300):  # not in one and the same ten minutes
        monkeypatch.setattr("relay_hls.time.time", lambda at=at: at)
        stage = Stage(segment_s=1, window_s=10)
        stage.start()
        stage.run(5)
        stage.switch()
        stage.run(25)
        lines = stage.lines()
        shown.append([int(tag(lines, f"EXT-X-{name}-SEQUENCE")[0]) for name in ("MEDIA", "DISCONTINUITY")])

    assert shown[1][0] > shown[0][0]
    assert shown[1][1] >= shown[0][1] == 1_795_000_200 // 600 - 1_767_225_600 // 600 + 2


def test_the_window_slides_and_what_left_it_can_still_be_fetched_for_a_while() -> None:
    stage = Stage(window_s=12)
    stage.start()
    stage.run(9)
    first = uris(stage.lines())[0]
    sequence = int(tag(stage.lines(), "EXT-X-MEDIA-SEQUENCE")[0])
    discontinuities = int(tag(stage.lines(), "EXT-X-DISCONTINUITY-SEQUENCE")[0])
    stage.run(12)
    lines = stage.lines()

    assert first not in lines
    assert int(tag(lines, "EXT-X-MEDIA-SEQUENCE")[0]) > sequence
    assert int(tag(lines, "EXT-X-DISCONTINUITY-SEQUENCE")[0]) == discontinuities + 1
    assert stage.get(f"stage/{first}").status == 200

    stage.run(20)

    assert stage.get(f"stage/{first}").status == 404


def test_memory_is_bounded_by_a_shorter_window() -> None:
    stage = Stage(memory_mb=16, window_s=60, part_ms=0)
    stage.start()
    frames = (avc_frame(40 * n, keyframe=n % 25 == 0, size=100_000) for n in range(25 * 40))
    stage.play(frames)

    programme = stage.plugin.programme("stage")
    assert programme is not None
    assert programme.size <= 3 * 4 * 2_600_000
    assert len(uris(stage.lines())) == 3


def test_ts_segments_are_ts() -> None:
    stage = Stage(container="ts", part_ms=0)
    stage.start()
    stage.run(9)
    lines = stage.lines()
    answer = stage.get("stage/" + uris(lines)[0])

    assert tag(lines, "EXT-X-VERSION") == ["3"]
    assert tag(lines, "EXT-X-MAP") == []
    assert answer.headers["content-type"] == "video/mp2t"
    assert answer.body[0] == 0x47
    assert len(answer.body) % 188 == 0


def test_sound_alone_is_cut_by_time() -> None:
    stage = Stage()
    stage.start(tracks=audio_only())
    stage.play(sounds(13))

    assert [segment.duration for segment in whole(stage.text("stage/main.m3u8"))] == pytest.approx([4, 4, 4], abs=0.03)
    index = stage.text("stage/index.m3u8")
    assert 'CODECS="mp4a.40.2"' in index
    assert "RESOLUTION" not in index


def test_a_track_that_never_sends_a_frame_is_in_no_playlist() -> None:
    stage = Stage()
    stage.start()
    stage.play(avc_frame(40 * n, keyframe=n % 50 == 0) for n in range(250))

    assert 'CODECS="avc1.42C01E"' in stage.text("stage/index.m3u8")


def test_sound_that_comes_later_is_added_with_a_discontinuity() -> None:
    stage = Stage()
    stage.start()
    stage.play(avc_frame(40 * n, keyframe=n % 25 == 0) for n in range(250))
    stage.play(packets(13, start=10_000))
    lines = stage.lines()

    assert 'CODECS="avc1.42C01E,mp4a.40.2"' in stage.text("stage/index.m3u8")
    assert len(tag(lines, "EXT-X-DISCONTINUITY")) == 2
    assert len(set(tag(lines, "EXT-X-MAP"))) == 2


# What interrupts it.


def test_repeated_headers_change_nothing() -> None:
    stage = Stage()
    stage.start()
    for _ in range(5):
        stage.run(4)
        stage.sink.configure(track_set(generation=2))

    assert len(tag(stage.lines(), "EXT-X-DISCONTINUITY")) == 1


def test_new_parameters_are_one_discontinuity_with_a_new_init() -> None:
    stage = Stage()
    stage.start()
    stage.run(9)
    stage.sink.configure(track_set(hevc_header(), generation=2))
    stage.run(13, codec=Codec.HEVC)
    lines = stage.lines()
    after = lines[lines.index("#EXT-X-DISCONTINUITY", 10) :]

    assert len(tag(lines, "EXT-X-DISCONTINUITY")) == 2
    assert len(set(tag(lines, "EXT-X-MAP"))) == 2
    assert after[1].startswith("#EXT-X-MAP:")
    assert "hvc1" in stage.text("stage/index.m3u8")
    assert m3u8.loads("\n".join(lines)).target_duration == 4


def test_another_encoder_is_a_discontinuity_without_a_new_init() -> None:
    stage = Stage()
    stage.start()
    stage.run(9)
    stage.switch()
    stage.run(13)
    lines = stage.lines()

    assert len(tag(lines, "EXT-X-DISCONTINUITY")) == 2
    assert len(set(tag(lines, "EXT-X-MAP"))) == 1


def test_a_merged_path_of_the_same_encoder_is_none() -> None:
    stage = Stage()
    stage.start()
    stage.run(9)
    stage.switch(how="merged")
    stage.run(13)

    assert len(tag(stage.lines(), "EXT-X-DISCONTINUITY")) == 1


def test_a_hole_in_time_is_a_discontinuity_not_a_long_segment() -> None:
    stage = Stage()
    stage.start()
    stage.run(9)
    stage.play(packets(13, start=30_000))

    assert max(segment.duration for segment in whole(stage.text("stage/main.m3u8"))) <= 4
    assert [segment.discontinuity for segment in whole(stage.text("stage/main.m3u8"))].count(True) == 2


def test_keyframes_that_stay_out_do_not_exceed_the_target_duration() -> None:
    stage = Stage()
    stage.start()
    stage.run(9)
    start = stage.now_ms + 40
    stage.play(avc_frame(start + 40 * n) for n in range(25 * 60))
    text = stage.text("stage/main.m3u8")
    playlist = m3u8.loads(text)

    assert playlist.target_duration == 4
    assert all(round(segment.duration) <= 4 for segment in whole(stage.text("stage/main.m3u8")))
    assert not playlist.is_independent_segments


def test_frames_of_nothing_do_not_move_the_place_where_segments_end() -> None:
    stage = Stage(segment_s=1)
    stage.start(tracks=audio_only())
    stage.play(sounds(2.5))
    empty, full = sounds(1.2, start=2_510), sounds(3, start=3_720)

    stage.play([*(replace(packet, body=packet.body[: packet.offset]) for packet in empty), *full])

    listed = whole(stage.text("stage/main.m3u8"))
    assert len(listed) > 3
    for before, after in pairwise(listed):
        passed = (after.program_date_time - before.program_date_time).total_seconds()
        assert passed == pytest.approx(before.duration, abs=0.05)


@pytest.mark.parametrize("container", ["fmp4", "ts"])
def test_a_picture_that_stays_for_long_begins_a_segment_rather_than_make_one_too_long(container: str) -> None:
    stage = Stage(segment_s=1, container=container)
    stage.start()
    stage.run(2.0)
    late = stage.now_ms + 1_100  # as a shared screen on which nothing moves

    stage.play([avc_frame(late + 40 * n, keyframe=n == 0) for n in range(60)])

    listed = whole(stage.text("stage/main.m3u8"))
    assert max(round(segment.duration, 3) for segment in listed) < 1.5
    assert [segment.discontinuity for segment in listed].count(True) == 1
    for before, after in pairwise(listed):
        passed = (after.program_date_time - before.program_date_time).total_seconds()
        assert passed == pytest.approx(before.duration, abs=0.002)


def test_the_target_duration_is_learned_from_long_gops_at_the_start() -> None:
    stage = Stage()
    stage.start()
    stage.play(packets(31, gop=250))
    playlist = m3u8.loads(stage.text("stage/main.m3u8"))

    assert playlist.target_duration == 10
    assert [segment.duration for segment in whole(stage.text("stage/main.m3u8"))] == [10, 10, 10]


def test_an_encoder_that_says_goodbye_ends_the_playlist() -> None:
    stage = Stage()
    stage.start()
    stage.run(10)
    stage.end()
    lines = stage.lines()

    assert lines[-1] == "#EXT-X-ENDLIST"
    assert sum(float(value.rstrip(",")) for value in tag(lines, "EXTINF")) == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("reason", ["closed", "hold-expired", "shutdown", "idle"])
def test_a_lost_programme_stays_open_and_goes_on_in_the_same_playlist(reason: str) -> None:
    stage = Stage()
    stage.start()
    stage.run(10)
    stage.end(reason)
    before = stage.lines()
    stage.clock.advance(30)
    stage.start()
    stage.run(10)
    after = stage.lines()

    assert "#EXT-X-ENDLIST" not in before
    assert uris(after)[: len(uris(before))] == uris(before)
    assert len(tag(after, "EXT-X-DISCONTINUITY")) == len(tag(before, "EXT-X-DISCONTINUITY")) + 1
    assert tag(after, "EXT-X-MEDIA-SEQUENCE") == tag(before, "EXT-X-MEDIA-SEQUENCE")


def test_a_new_show_after_the_end_has_a_list_of_its_own_with_higher_numbers() -> None:
    stage = Stage()
    stage.start()
    stage.run(10)
    stage.end()
    before = stage.lines()
    stage.start()
    stage.run(3)
    assert stage.lines() == before
    stage.run(7)
    after = stage.lines()

    assert not set(uris(after)) & set(uris(before))
    last = int(tag(before, "EXT-X-MEDIA-SEQUENCE")[0]) + len(uris(before)) - 1
    assert int(tag(after, "EXT-X-MEDIA-SEQUENCE")[0]) == last + 1
    assert int(tag(after, "EXT-X-DISCONTINUITY-SEQUENCE")[0]) > int(tag(before, "EXT-X-DISCONTINUITY-SEQUENCE")[0])
    assert stage.get("stage/" + uris(before)[0]).status == 200


def test_what_ended_long_ago_is_forgotten() -> None:
    stage = Stage(keep_s=60)
    stage.start()
    stage.run(10)
    stage.end()
    stage.clock.advance(61)
    stage.plugin.tick()

    assert stage.get("stage/index.m3u8").status == 404


def test_a_stream_that_was_forgotten_and_returns_begins_above_what_it_had_shown() -> None:
    stage = Stage(keep_s=0)
    shown = []
    for _ in range(2):
        stage.start()
        stage.run(5)
        stage.switch()
        stage.run(9)
        lines = stage.lines()
        found = [int(tag(lines, f"EXT-X-{name}-SEQUENCE")[0]) for name in ("MEDIA", "DISCONTINUITY")]
        shown.append((found, found[0] + len(uris(lines)), found[1] + len(tag(lines, "EXT-X-DISCONTINUITY"))))
        stage.end("closed")
        stage.clock.advance(2)
        assert stage.get("stage/main.m3u8").status == 404

    (_, number, discontinuity), (again, _, _) = shown
    assert again[0] >= number
    assert again[1] >= discontinuity


def test_a_header_that_nobody_can_read_and_frames_of_nothing_do_no_harm() -> None:
    stage = Stage()
    stage.start(tracks=track_set(avc_header(AVC_CONFIG[:9])))
    stage.play(avc_frame(40 * n, keyframe=n % 25 == 0, size=n % 3) for n in range(100))
    stage.play(packets(10, start=4_000))
    stage.end()

    assert stage.get("stage/index.m3u8").status in (200, 404)
    assert [place for place, stats in stage.host.stats.items() if stats.errors] == []


def test_the_numbers_of_a_stream_are_told() -> None:
    stage = Stage()
    stage.start()
    stage.run(9)
    stage.get("stage/" + uris(stage.lines())[0])
    peer = stage.peer()
    peer.begin("GET", f"/hls/stage/main.m3u8?_HLS_msn={int(tag(stage.lines(), 'EXT-X-MEDIA-SEQUENCE')[0]) + 3}")
    status = stage.sink.status()
    peer.hang_up()

    assert status.bytes_out > 10_000
    assert status.numbers["segments_total"] == 2
    assert status.numbers["parts_total"] == pytest.approx(45, abs=1)
    assert status.numbers["waiting_requests"] == 1
    assert status.numbers["memory_bytes"] >= status.numbers["packaged_bytes_total"] > 0
