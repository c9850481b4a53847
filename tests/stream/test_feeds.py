"""Feeds: timing, health, and who is live."""

from __future__ import annotations

import pytest

from relay.media.packets import MediaKind, Packet, Role
from relay.stream.feeds import Feed, FeedState
from relay.stream.policy import FailoverOptions
from relay.stream.reports import Report, Switched
from relay.stream.stream import Stream
from tests.stream.media import AVC_HEADER, RecordingSink, audio, audio_header, data, video, video_header

OTHER_AVC = AVC_HEADER[:-1] + b"\x81"


def begin(feed: Feed, start: int, *, now: float = 0.0, avc: bytes = AVC_HEADER) -> None:
    """Send what an encoder sends first: metadata, headers, a keyframe and its sound."""
    feed.push(data(start, role=Role.METADATA), now)
    feed.push(video_header(start, avc), now)
    feed.push(audio_header(start), now)
    feed.push(video(start, True), now)
    feed.push(audio(start + 10), now)


class Show:
    """A stream with a recording sink and a list of what was told."""

    def __init__(self) -> None:
        self.switched: list[tuple[str, str, str]] = []
        self.ended: list[str] = []
        self.sink = RecordingSink()
        self.stream = Stream(
            "show",
            failover=FailoverOptions(mode="switch", splice="clean", hold_s=0),
            on_report=self.reported,
            on_ended=lambda _, reason: self.ended.append(reason),
        )
        self.stream.attach(self.sink)

    def reported(self, stream: Stream, report: Report) -> None:
        if isinstance(report, Switched):
            self.switched.append((report.previous, report.feed, report.reason))

    def times(self, kind: MediaKind) -> list[int]:
        return [packet.dts for packet in self.sink.packets if packet.kind is kind]


def pair() -> tuple[Show, Feed, Feed]:
    """Make a show whose primary is on air at 0 and whose backup, with another clock, stands by."""
    show = Show()
    primary = show.stream.open_feed("primary", 0, 0.0)
    backup = show.stream.open_feed("backup", 1, 0.0)
    begin(primary, 0)
    begin(backup, 500_000)
    return show, primary, backup


def test_the_first_feed_is_live_and_keeps_its_small_timestamps() -> None:
    show = Show()
    feed = show.stream.open_feed("primary", 0, 0.0)

    begin(feed, 200)

    assert show.stream.live_feed is feed
    assert feed.state is FeedState.LIVE
    assert show.times(MediaKind.VIDEO) == [200]
    assert show.times(MediaKind.AUDIO) == [210]
    assert show.stream.last_dts == 210


def test_a_standby_feed_is_judged_and_not_forwarded() -> None:
    show, primary, backup = pair()

    assert primary.state is FeedState.LIVE
    assert backup.state is FeedState.STANDBY
    assert backup.video_frames_total == 1
    assert len(backup.table.tracks.tracks) == 2
    assert show.times(MediaKind.VIDEO) == [0]


def test_when_the_live_feed_ends_the_next_goes_live_at_its_keyframe_on_the_same_clock() -> None:
    show, primary, backup = pair()
    primary.push(video(40), 0.04)
    primary.push(audio(33), 0.04)

    primary.end("closed", 1.0)
    backup.push(video(500_040), 1.0)
    backup.push(audio(500_050), 1.0)
    backup.push(video(502_000, True), 1.1)
    backup.push(audio(501_990), 1.1)
    backup.push(audio(502_013), 1.1)
    backup.push(video(502_040), 1.1)

    assert show.times(MediaKind.VIDEO) == [0, 40, 80, 120]
    assert show.times(MediaKind.AUDIO) == [10, 33, 93]
    assert show.switched == [("primary", "backup", "closed")]
    assert show.stream.switches == 1
    assert backup.cut_packets_total == 1
    assert show.ended == []


def test_the_cut_lies_after_the_newest_sound_too() -> None:
    show, primary, backup = pair()
    primary.push(audio(300), 0.3)

    primary.end("closed", 1.0)
    backup.push(video(502_000, True), 1.1)

    assert show.times(MediaKind.VIDEO)[-1] == 400
    assert show.times(MediaKind.AUDIO)[-1] == 300


def test_the_same_parameters_on_the_backup_are_no_reason_to_configure() -> None:
    show, primary, backup = pair()

    primary.end("closed", 1.0)
    backup.push(video(502_000, True), 1.1)

    assert len(show.sink.configured) == 1
    assert show.sink.names[-1] == "write"


def test_other_parameters_on_the_backup_reach_the_sinks_before_its_keyframe() -> None:
    show = Show()
    primary = show.stream.open_feed("primary", 0, 0.0)
    backup = show.stream.open_feed("backup", 1, 0.0)
    begin(primary, 0)
    begin(backup, 500_000, avc=OTHER_AVC)

    primary.end("closed", 1.0)
    backup.push(video(502_000, True), 1.1)

    assert show.sink.names[-2:] == ["configure", "write"]
    header = show.sink.configured[-1].tracks[0].header
    assert header is not None
    assert header.body == OTHER_AVC
    assert header.dts == show.sink.packets[-1].dts
    assert show.sink.configured[-1].generation > show.sink.configured[0].generation


def test_other_metadata_on_the_backup_is_written_at_the_cut() -> None:
    show, primary, backup = pair()
    backup.push(data(500_100, role=Role.METADATA, body=b"\x02\x00\x03new"), 0.1)

    primary.end("closed", 1.0)
    backup.push(video(502_000, True), 1.1)

    assert [packet.role for packet in show.sink.packets[-2:]] == [Role.METADATA, Role.FRAME]
    assert show.sink.packets[-2].dts == show.sink.packets[-1].dts


def test_a_flood_of_metadata_is_passed_on_ten_times_a_second() -> None:
    show, primary, _ = pair()
    before = len(show.sink.packets)
    for number in range(2000):  # two seconds of a thousand a second
        body = b"\x02\x00\x04" + b"%04d" % number
        primary.push(data(100 + number, role=Role.METADATA, body=body), 1.0 + number / 1000)
    primary.push(data(3100, role=Role.METADATA, body=b"\x02\x00\x03new"), 4.0)

    passed = show.sink.packets[before:]
    assert len(passed) == 10 + 20
    assert passed[-1].body.endswith(b"new")
    assert primary.metadata_dropped_total == 2001 - 30


def test_a_switch_by_hand_keeps_the_live_feed_until_the_keyframe() -> None:
    show, primary, backup = pair()

    show.stream.failover.switch(backup, 0.1, "manual")
    primary.push(video(40), 0.1)
    backup.push(video(500_040), 0.1)
    assert show.times(MediaKind.VIDEO) == [0, 40]

    backup.push(video(500_080, True), 0.2)
    primary.push(video(80), 0.2)

    assert show.times(MediaKind.VIDEO) == [0, 40, 80]
    assert show.stream.live_feed is backup
    assert primary.state is FeedState.STANDBY
    assert show.switched == [("primary", "backup", "manual")]


def test_a_feed_can_come_back_on_air() -> None:
    show, primary, backup = pair()
    show.stream.failover.switch(backup, 0.1, "manual")
    backup.push(video(502_000, True), 0.1)
    primary.push(video(2000), 2.0)

    show.stream.failover.switch(primary, 0.1, "failback")
    primary.push(video(2040, True), 2.1)
    primary.push(video(2080), 2.1)

    assert show.times(MediaKind.VIDEO) == [0, 33, 133, 173]
    assert show.stream.live_feed is primary


def test_a_feed_that_arrives_while_nobody_is_live_takes_over() -> None:
    show, primary, backup = pair()
    primary.end("closed", 1.0)
    later = show.stream.open_feed("primary", 0, 60.0)

    backup.end("idle", 61.0)
    begin(later, 0, now=61.0)

    assert show.stream.live_feed is later
    assert show.times(MediaKind.VIDEO) == [0, 33]
    assert show.ended == []


def test_an_encoder_that_comes_back_before_its_old_connection_died_continues_the_programme() -> None:
    show = Show()
    old = show.stream.open_feed("primary", 0, 0.0)
    begin(old, 0)

    new = show.stream.open_feed("primary", 0, 5.0)
    old.end("taken-over", 5.0)
    begin(new, 0, now=5.1)

    assert show.stream.find_feed("primary") is new
    assert show.stream.live_feed is new
    assert show.ended == []
    assert show.times(MediaKind.VIDEO) == [0, 33]


def test_the_stream_ends_with_its_last_feed() -> None:
    show, primary, backup = pair()

    backup.end("unpublished", 1.0)
    assert show.ended == []
    primary.end("closed", 2.0)
    primary.end("closed", 3.0)

    assert show.ended == ["closed"]
    assert show.sink.closed == 1
    assert show.stream.feeds == ()


def test_what_arrives_after_the_end_goes_nowhere() -> None:
    show, primary, _ = pair()
    show.stream.close("shutdown")
    calls = len(show.sink.calls)

    primary.push(video(40, True), 1.0)
    primary.end("closed", 1.0)

    assert len(show.sink.calls) == calls
    assert show.ended == ["shutdown"]


def test_the_end_of_a_sequence_is_not_forwarded() -> None:
    show, primary, _ = pair()
    calls = len(show.sink.calls)

    primary.push(Packet(MediaKind.VIDEO, 0, video(0).codec, Role.END, False, 0, 0, b"\x17\x02\x00\x00\x00", 5), 1.0)

    assert len(show.sink.calls) == calls


def test_an_audio_only_feed_takes_over_from_another_without_waiting_for_a_keyframe() -> None:
    show = Show()
    primary = show.stream.open_feed("primary", 0, 0.0)
    backup = show.stream.open_feed("backup", 1, 0.0)
    for feed, start in ((primary, 0), (backup, 700_000)):
        feed.push(audio_header(start), 0.0)
        for dts in range(start, start + 1200, 20):
            feed.push(audio(dts), 0.0)

    primary.end("closed", 1.2)
    backup.push(audio(701_200), 1.2)

    assert show.times(MediaKind.AUDIO)[-2:] == [1180, 1200]
    assert show.stream.live_feed is backup


def test_health_is_averaged_over_the_last_seconds() -> None:
    stream = Stream("show")
    feed = stream.open_feed("primary", 0, 0.0)
    feed.push(video_header(), 0.0)
    for index in range(250):
        now = index / 25
        feed.push(video(index * 40, index % 50 == 0, size=1000), now)
        if index % 25 == 0:
            feed.sample(now)

    health = feed.sample(10.0)

    assert health.fps == pytest.approx(25, abs=0.5)
    assert health.bitrate_kbps == pytest.approx(200, abs=5)
    assert health.keyframe_interval_ms == 2000
    assert health.last_packet_age_ms == 40
    assert health.video_frames_total == 250
    assert health.packets_total == 251
    assert feed.last_video_at == pytest.approx(9.96)
    assert feed.last_audio_at is None


def test_health_of_a_feed_that_sent_nothing() -> None:
    health = Stream("show").open_feed("primary", 0, 5.0).sample(5.0)

    assert health.bitrate_kbps == health.fps == 0
    assert health.last_packet_age_ms is None
    assert health.keyframe_interval_ms is None


def test_an_eager_observer_does_not_spoil_the_rates() -> None:
    feed = Stream("show").open_feed("primary", 0, 0.0)
    for index in range(1000):
        feed.push(video(index * 10, size=100), index / 100)
        feed.sample(index / 100)

    assert feed.sample(10.0).fps == pytest.approx(100, rel=0.1)


def test_timeline_faults_are_part_of_health() -> None:
    feed = Stream("show").open_feed("primary", 0, 0.0)
    for dts in (0, 40, 39, 80, 5_000_000, 5_000_040):
        feed.push(video(dts, dts == 0), 0.0)

    health = feed.sample(1.0)

    assert health.timeline_resets == 1
    assert health.timestamps_clamped == 1
