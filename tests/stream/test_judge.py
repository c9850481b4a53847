"""Each trigger at its threshold, just below it and just above."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pytest

from relay.stream.judge import Fault, Judge, Level, Trigger
from relay.stream.policy import FailoverOptions

TICK = 0.25


@dataclass
class Counters:
    """A feed as its judge sees it: counters that the test turns."""

    last_packet_at: float | None = None
    last_video_at: float | None = None
    last_audio_at: float | None = None
    last_keyframe_at: float | None = None
    bytes_total: int = 0
    video_frames_total: int = 0
    audio_frames_total: int = 0
    keyframes_total: int = 0
    moving_frames_total: int = 0
    longest_gop_ms: int = 0
    newest_ms: int = -1
    skew_ms: int = 0
    resets: int = 0
    slow_steps: deque[tuple[float, int]] = field(default_factory=deque)


class Desk:
    """A judge and a feed that sends 20 pictures and 40 frames of sound a second unless it is told otherwise."""

    def __init__(self, **options: object) -> None:
        self.now = 1000.0
        self.feed = Counters()
        self.judge = Judge(self.feed, FailoverOptions(**options))  # type: ignore[arg-type]
        self.video = self.audio = self.keyframes = True
        self.moving = True
        self.pace = 1.0
        self.rate = 10_000.0

    def run(self, seconds: float, tick: float = TICK) -> list[str]:
        """Let the feed send and the judge look; return what is wrong at the end."""
        for _ in range(round(seconds / tick)):
            self.now += tick
            self.send(tick)
            self.judge.tick(self.now, tick)
        return self.wrong

    def send(self, seconds: float) -> None:
        feed = self.feed
        if self.video or self.audio:
            feed.last_packet_at = self.now
            feed.bytes_total += round(self.rate * seconds)
            feed.newest_ms += round(1000 * seconds * self.pace)
        if self.video:
            feed.last_video_at = self.now
            feed.video_frames_total += 5
            feed.moving_frames_total += 4 if self.moving else 0
            if self.keyframes and (feed.last_keyframe_at is None or self.now - feed.last_keyframe_at >= 2.0):
                feed.last_keyframe_at = self.now
                feed.keyframes_total += 1
                feed.longest_gop_ms = 2000
        if self.audio:
            feed.last_audio_at = self.now
            feed.audio_frames_total += 10

    @property
    def wrong(self) -> list[str]:
        return [fault.trigger for fault in self.judge.verdict.faults]

    def fault(self, trigger: Trigger) -> Fault:
        return next(fault for fault in self.judge.verdict.faults if fault.trigger == trigger.value)


def well(**options: object) -> Desk:
    desk = Desk(**options)
    assert desk.run(30) == []
    return desk


def wait(desk: Desk, milliseconds: int) -> list[str]:
    """Let the judge look again after so long, with nothing sent."""
    desk.now += milliseconds / 1000
    desk.judge.tick(desk.now, milliseconds / 1000)
    return desk.wrong


@pytest.mark.parametrize(("age", "dead"), [(999, False), (1000, True), (1001, True)])
def test_no_video(age: int, dead: bool) -> None:
    desk = well()

    assert ("no-video" in wait(desk, age)) is dead
    if dead:
        assert desk.fault(Trigger.NO_VIDEO) == Fault("no-video", Level.DEAD, age, 1000)


@pytest.mark.parametrize(("age", "bad"), [(2999, False), (3000, True), (3001, True)])
def test_no_audio(age: int, bad: bool) -> None:
    desk = well()
    desk.audio = False
    desk.run(2.5)
    desk.feed.last_packet_at = desk.feed.last_video_at = desk.now + (age - 2500) / 1000

    assert ("no-audio" in wait(desk, age - 2500)) is bad
    if bad:
        assert desk.fault(Trigger.NO_AUDIO).level is Level.BAD


def test_a_feed_of_sound_only_is_dead_without_sound() -> None:
    desk = Desk()
    desk.video = False
    desk.run(10)

    assert wait(desk, 3000) == ["no-audio"]
    assert desk.judge.verdict.level is Level.DEAD


def test_a_feed_without_sound_is_not_missing_any() -> None:
    desk = Desk()
    desk.audio = False

    assert desk.run(30) == []


@pytest.mark.parametrize(("age", "dead"), [(3999, False), (4000, True)])
def test_a_feed_that_never_sent_anything_is_dead_after_four_seconds(age: int, dead: bool) -> None:
    desk = Desk()

    assert wait(desk, age) == (["no-media"] if dead else [])


@pytest.mark.parametrize(
    ("interval", "threshold"),
    [(99, 1000), (100, 1100), (200, 1200), (250, 1250), (333, 1333), (334, 1336), (1000, 4000)],
)
def test_a_slow_feed_has_its_own_frame_interval_more_or_four_of_them_if_that_is_more(
    interval: int, threshold: int
) -> None:
    desk = Desk()
    desk.audio = False
    for _ in range(30):
        desk.now += interval / 1000
        desk.feed.video_frames_total += 1
        desk.feed.last_packet_at = desk.feed.last_video_at = desk.now
        desk.feed.newest_ms += interval
        if interval >= 100:
            desk.feed.slow_steps.append((desk.now, interval))
        desk.judge.tick(desk.now, interval / 1000)

    assert wait(desk, threshold - 1) == []
    assert "no-video" in wait(desk, 1)
    assert desk.fault(Trigger.NO_VIDEO).threshold == threshold


def test_one_slow_frame_in_a_hundred_does_not_move_the_threshold_and_two_do() -> None:
    desk = well()
    desk.feed.slow_steps.extend([(desk.now, 900)] * 6)  # of 600
    wait(desk, 1)
    assert wait(desk, 999) == ["no-video"]

    desk.feed.slow_steps.extend([(desk.now, 900)] * 2)
    assert wait(desk, 1) == []


def test_a_slow_frame_is_forgotten_after_a_minute() -> None:
    desk = Desk()
    desk.run(1)
    desk.feed.slow_steps.extend([(desk.now, 900)] * 100)
    desk.run(61)

    assert wait(desk, 1000) == ["no-video"]


def test_time_in_which_we_were_stopped_does_not_count() -> None:
    desk = well()
    desk.now += 30
    desk.judge.tick(desk.now, 0.5)
    assert desk.wrong == []

    desk.send(0.1)
    desk.now += 30
    desk.judge.tick(desk.now, 0.5)
    assert desk.wrong == []
    assert wait(desk, 500) == ["no-video"]


@pytest.mark.parametrize(("percent", "suspect"), [(31, False), (30, False), (29, True)])
def test_low_bitrate(percent: int, suspect: bool) -> None:
    desk = well()
    desk.rate *= percent / 100

    assert ("low-bitrate" in desk.run(5)) is suspect
    if suspect:
        fault = desk.fault(Trigger.LOW_BITRATE)
        assert (fault.level, fault.measured, fault.threshold) == (Level.SUSPECT, pytest.approx(29), 30)


def test_a_fall_to_a_quarter_is_noticed_within_five_seconds_and_not_at_once() -> None:
    desk = well()
    desk.rate /= 4

    assert desk.run(4) == []
    assert desk.run(1) == ["low-bitrate"]


def test_a_low_bitrate_needs_a_past_to_be_low_against() -> None:
    desk = Desk()
    desk.run(9)
    desk.rate = 1

    assert desk.run(5) == []


@pytest.mark.parametrize(
    ("pace", "wrong"), [(0.25, ""), (0.15, "timestamps-frozen"), (2.4, ""), (2.6, "timestamps-running-away")]
)
def test_the_pace_of_the_timestamps(pace: float, wrong: str) -> None:
    desk = well()
    desk.pace = pace

    assert desk.run(6) == ([wrong] if wrong else [])


@pytest.mark.parametrize(("resets", "bad"), [(2, False), (3, True), (4, True)])
def test_resets_of_the_timestamps(resets: int, bad: bool) -> None:
    desk = well()
    for _ in range(resets):
        desk.feed.resets += 1
        desk.run(1)
    assert (desk.wrong == ["timestamps-reset"]) is bad

    assert desk.run(11) == []


@pytest.mark.parametrize(
    ("skew", "seconds", "bad"), [(2000, 5, False), (2001, 2.75, False), (2001, 3, True), (-2001, 3, True)]
)
def test_sound_and_picture_apart(skew: int, seconds: float, bad: bool) -> None:
    desk = well()
    desk.feed.skew_ms = skew

    assert desk.run(seconds) == (["av-skew"] if bad else [])


def test_skew_counts_from_new_when_it_was_gone() -> None:
    desk = well()
    desk.feed.skew_ms = 2500
    desk.run(2.5)
    desk.feed.skew_ms = 0
    desk.run(0.25)
    desk.feed.skew_ms = 2500

    assert desk.run(2.5) == []


def test_no_keyframe_for_three_of_its_own_gops() -> None:
    desk = well()
    desk.keyframes = False
    since = desk.feed.last_keyframe_at
    assert since is not None

    while desk.now - since < 6.0 - TICK / 2:
        assert desk.wrong == []
        desk.run(TICK)
    assert desk.wrong == ["no-keyframe"]
    assert desk.judge.verdict.level is Level.SUSPECT


def test_a_long_interval_behind_a_first_short_one_is_not_late() -> None:
    desk = well()
    desk.feed.longest_gop_ms, desk.feed.keyframes_total = 1000, 4
    desk.keyframes = False

    assert desk.run(20.0) == []
    assert desk.run(10.0) == ["no-keyframe"]


def test_scene_cuts_do_not_make_the_next_keyframe_late_before_four_seconds() -> None:
    desk = well()
    desk.feed.longest_gop_ms = 200
    desk.keyframes = False
    since = desk.feed.last_keyframe_at
    assert since is not None

    while desk.now - since < 4.0 - TICK / 2:
        assert desk.wrong == []
        desk.run(TICK)
    assert desk.wrong == ["no-keyframe"]


@pytest.mark.parametrize(("seconds", "suspect"), [(4.75, False), (5.0, True), (5.25, True)])
def test_a_picture_that_stands_still(seconds: float, suspect: bool) -> None:
    desk = well()
    desk.moving = False

    assert desk.run(seconds) == (["frozen-picture"] if suspect else [])


def test_a_picture_that_never_moved_is_no_suspect() -> None:
    desk = Desk()
    desk.moving = False

    assert desk.run(30) == []


@pytest.mark.parametrize(
    ("option", "break_it"),
    [
        ("bitrate_percent", lambda desk: setattr(desk, "rate", 1)),
        ("skew_ms", lambda desk: setattr(desk.feed, "skew_ms", 9000)),
        ("keyframe_intervals", lambda desk: setattr(desk, "keyframes", False)),
        ("frozen_picture_s", lambda desk: setattr(desk, "moving", False)),
    ],
)
def test_a_trigger_can_be_switched_off(option: str, break_it: object) -> None:
    desk = well(**{option: 0})
    break_it(desk)  # type: ignore[operator]

    assert desk.run(15) == []


def test_the_worst_fault_comes_first_and_decides() -> None:
    desk = well()
    desk.keyframes = False
    desk.audio = False
    desk.run(8)
    assert desk.wrong == ["no-audio", "no-keyframe"]

    assert wait(desk, 1000)[0] == "no-video"
    assert desk.judge.verdict.level is Level.DEAD


def test_clean_time_begins_when_the_last_fault_is_gone() -> None:
    desk = well()
    assert desk.judge.clean_s == pytest.approx(30)
    wait(desk, 1000)
    assert desk.judge.clean_s == 0

    desk.run(3)
    assert desk.judge.clean_s == pytest.approx(3)


def test_somebody_with_a_decoder_may_add_an_opinion_and_take_it_back() -> None:
    desk = well()
    black = Fault("black-picture", Level.SUSPECT, 4.0, 3.0, "s")

    desk.judge.opine("black-picture", black)
    desk.run(TICK)
    assert desk.judge.verdict.worst == black

    desk.judge.opine("black-picture", None)
    assert desk.run(TICK) == []
