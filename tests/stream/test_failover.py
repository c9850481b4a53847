"""Failover as subscribers see it: the cut, the choice, the way back, and what is shown when nobody is left."""

from __future__ import annotations

import itertools

import pytest

from relay.media.packets import MediaKind
from relay.stream.clip import Clip
from relay.stream.reports import Held, Locked, MergeChanged
from tests.stream.media import RecordingSink
from tests.stream.stage import FRAME_MS, OTHER_AVC, STEP, Encoder, Stage, content_of

AUDIO, VIDEO = MediaKind.AUDIO, MediaKind.VIDEO


def pair(*, phase_ms: int = 1000, seconds: float = 10.0, **options: object) -> tuple[Stage, Encoder, Encoder]:
    """Run two encoders whose keyframes are *phase_ms* apart; the primary is on air."""
    stage = Stage(**options)
    primary = stage.encoder("primary", 0)
    backup = stage.encoder("backup", 1, clock=700_000, phase_ms=phase_ms)
    stage.run(seconds)
    assert stage.on_air == "primary"
    return stage, primary, backup


def missing(stage: Stage) -> list[int]:
    """Moments of the programme between the first and the last shown that no picture showed."""
    shown = {moment for moment in stage.shown() if moment is not None}
    return [moment for moment in range(min(shown), max(shown), FRAME_MS) if moment not in shown]


def test_a_killed_primary_is_replaced_at_once_and_no_moment_is_missed() -> None:
    stage, primary, _ = pair()

    primary.die()
    assert stage.on_air == "backup"
    stage.run(10)

    stage.check()
    assert missing(stage) == []
    (switch,) = stage.switches
    assert (switch.previous, switch.feed, switch.reason, switch.how) == ("primary", "backup", "closed", "fast")
    assert switch.fault is not None
    assert switch.fault.trigger == "gone"
    assert switch.gap_ms <= 20
    assert 0 <= switch.replayed_ms <= 2000
    assert switch.missed_ms == 0
    assert stage.ended == []


def test_after_the_cut_a_keyframe_comes_first_and_nothing_of_the_old_feed() -> None:
    stage, primary, _ = pair()
    before = len(stage.sink.packets)

    primary.die()
    stage.run(5)

    after = stage.sink.packets[before:]
    assert after[0].keyframe
    assert all(b"backup:" in packet.body for packet in after)
    assert after[0].dts == stage.switches[0].cut_ms > stage.switches[0].cut_from_ms


def test_sound_and_picture_keep_their_distance_over_the_cut() -> None:
    stage, primary, _ = pair()

    primary.die()
    stage.run(10)

    def offsets(kind: MediaKind) -> set[int]:
        pairs = [(p.dts, p) for p in stage.sink.packets if p.kind is kind and b"backup:" in p.body]
        return {dts - moment for dts, p in pairs if (moment := content_of(p)) is not None}

    assert offsets(VIDEO) == offsets(AUDIO)
    assert len(offsets(VIDEO)) == 1


def test_the_replay_is_at_most_twice_as_fast_and_then_in_time() -> None:
    stage, primary, _ = pair()
    primary.die()
    began, first = stage.now, stage.sink.packets[-1].dts
    stage.run(10)

    after = [(at, packet.dts) for at, packet in stage.arrivals if at > began]
    assert all(dts - first <= (at - began) * 2000 + FRAME_MS for at, dts in after)
    assert not stage.stream.failover.pacing
    assert stage.shown()[-1] == stage.content


def test_a_clean_splice_waits_for_the_next_keyframe() -> None:
    stage, primary, _ = pair(splice="clean", seconds=10.2)

    primary.die()
    assert stage.on_air == ""
    stage.run(2)

    stage.check()
    (switch,) = stage.switches
    assert switch.how == "clean"
    assert switch.replayed_ms == 0
    assert switch.missed_ms == pytest.approx(780, abs=60)


@pytest.mark.parametrize("sends", ["nothing", "sound"])
def test_a_stalled_primary_is_left_after_the_threshold(sends: str) -> None:
    stage, primary, _ = pair()
    stalled_at = stage.now
    primary.video = False
    primary.audio = sends == "sound"
    while stage.on_air == "primary":
        stage.run(STEP)
        assert stage.now - stalled_at < 1.5

    stage.run(5)
    stage.check()
    (switch,) = stage.switches
    assert switch.reason == "no-video"
    assert switch.fault is not None
    assert switch.fault.measured >= switch.fault.threshold == 1000
    if sends == "nothing":
        assert missing(stage) == []


def test_a_stall_below_the_threshold_is_no_reason_to_switch() -> None:
    stage, primary, _ = pair()

    for _ in range(5):
        primary.sending = False
        stage.run(0.9)
        primary.sending = True
        stage.run(2)

    assert stage.switches == []


def test_what_a_stopped_primary_sends_later_never_leaks_out() -> None:
    stage, primary, _ = pair()
    primary.delay_s = 10.0
    stage.run(2)
    assert stage.on_air == "backup"
    primary.delay_s = 0.0
    before = len(stage.sink.packets)
    stage.run(12)

    assert all(b"backup:" in packet.body for packet in stage.sink.packets[before:])
    stage.check()


def test_missing_sound_counts_after_its_own_threshold() -> None:
    stage, primary, _ = pair()
    primary.audio = False

    stage.run(2.9)
    assert stage.on_air == "primary"
    stage.run(0.6)

    assert stage.on_air == "backup"
    assert stage.switches[0].reason == "no-audio"


def test_time_in_which_our_own_process_was_stopped_does_not_count() -> None:
    stage, _, _ = pair()

    stage.now += 30.0
    stage.stream.failover.tick(stage.now, 0.5)
    stage.run(5)

    assert stage.switches == []
    assert stage.on_air == "primary"


def test_when_both_look_bad_the_live_feed_stays() -> None:
    stage, primary, backup = pair(seconds=20)
    primary.size = backup.size = 60

    stage.run(20)

    assert stage.switches == []


def test_it_stays_with_the_backup_when_the_primary_comes_back() -> None:
    stage, primary, _ = pair()
    primary.die()
    stage.run(5)
    primary.connect()
    primary.sending = True

    stage.run(60)

    assert stage.on_air == "backup"
    assert len(stage.switches) == 1


def test_it_goes_back_to_the_primary_when_that_is_preferred_and_well_for_long_enough() -> None:
    stage, primary, _ = pair(failback="prefer-primary")
    primary.die()
    left = stage.now
    stage.run(5)
    primary.connect()
    primary.sending = True
    while stage.on_air == "backup":
        stage.run(STEP)
        assert stage.now - left < 35

    assert stage.now - left >= 30
    stage.run(10)
    stage.check()
    back = stage.switches[1]
    assert (back.reason, back.how) == ("failback", "clean")
    assert back.replayed_ms == back.missed_ms == 0
    assert missing(stage) == []


def test_a_failback_waits_until_the_primary_was_clean() -> None:
    stage, primary, _ = pair(failback="prefer-primary", dwell_s=0)
    primary.die()
    stage.run(5)
    primary.connect()
    primary.sending = True
    returned = stage.now
    while stage.on_air == "backup":
        stage.run(STEP)
        assert stage.now - returned < 14

    assert stage.now - returned >= 10


def test_a_switch_by_hand_is_at_a_keyframe_and_is_not_taken_back() -> None:
    stage, _, backup = pair(failback="prefer-primary")

    stage.stream.failover.switch(backup.feed, stage.now)
    stage.run(2.1)
    assert stage.on_air == "backup"
    stage.run(60)

    stage.check()
    assert missing(stage) == []
    assert [switch.reason for switch in stage.switches] == ["manual"]
    assert len(stage.shown()) - len(set(stage.shown())) <= 1, "of the cut itself both may have been seen"


def test_a_feed_that_flaps_is_locked_out_but_a_dead_one_is_always_left() -> None:
    stage, primary, backup = pair(failback="prefer-primary", clear_s=3, dwell_s=3, audio_stall_ms=1000)
    while len(stage.switches) < 3:
        primary.audio = not primary.audio
        stage.run(6)
        assert stage.now < 200
    locks = [report for report in stage.reports if isinstance(report, Locked)]
    assert [lock.seconds for lock in locks] == [60]
    on_air = stage.on_air

    primary.audio, backup.audio = on_air != "primary", on_air != "backup"
    stage.run(20)
    assert stage.on_air == on_air

    (primary if on_air == "primary" else backup).die()
    assert stage.on_air not in (on_air, "")


@pytest.mark.parametrize("ready", [True, False])
def test_a_clean_end_fails_over_when_there_is_somebody(ready: bool) -> None:
    stage, primary, backup = pair()
    if not ready:
        backup.die()

    primary.die("unpublished")

    assert stage.on_air == ("backup" if ready else "")
    assert stage.ended == ([] if ready else ["unpublished"])


def test_a_clean_end_ends_the_stream_when_that_is_wanted() -> None:
    stage, primary, _ = pair(on_clean_end="end")

    primary.die("unpublished")

    assert stage.ended == ["unpublished"]
    assert stage.sink.closed == 1


def test_other_parameters_come_before_the_keyframe_that_needs_them() -> None:
    stage = Stage()
    primary = stage.encoder("primary", 0)
    stage.encoder("backup", 1, avc=OTHER_AVC, phase_ms=1000)
    stage.run(10)

    primary.die()
    stage.run(5)

    stage.check()
    assert len(stage.sink.configured) == 2
    assert stage.switches[0].fit == "headers"


def test_equal_parameters_are_no_news() -> None:
    stage, primary, _ = pair()

    primary.die()
    stage.run(5)

    assert len(stage.sink.configured) == 1
    assert stage.switches[0].fit == "same"


def test_a_backup_whose_parameters_changed_starts_behind_the_change() -> None:
    stage, primary, backup = pair()
    backup.avc = OTHER_AVC
    backup.headers()
    primary.die()
    assert stage.on_air == ""
    stage.run(3)

    stage.check()
    assert stage.on_air == "backup"
    first = next(packet for packet in stage.sink.packets if b"backup:" in packet.body)
    assert first.keyframe


# Nothing left.


def test_without_any_feed_the_last_picture_is_repeated_and_the_sound_is_silent() -> None:
    stage = Stage()
    only = stage.encoder("primary")
    stage.run(5)
    only.die()
    gone = stage.now
    stage.run(10)

    slate = [(at, packet) for at, packet in stage.arrivals if at > gone]
    pictures = [at for at, packet in slate if packet.kind is VIDEO]
    assert pictures[0] - gone <= 1.0
    assert max(b - a for a, b in itertools.pairwise(pictures)) <= 1.0
    assert len({packet.body for _, packet in slate if packet.kind is VIDEO}) == 1
    assert all(packet.keyframe for _, packet in slate if packet.kind is VIDEO)
    sounds = [packet for _, packet in slate if packet.kind is AUDIO]
    assert {packet.body[:2] for packet in sounds} == {b"\xaf\x01"}
    assert len(sounds) == pytest.approx(9.5 * 44100 / 1024, abs=5)
    assert len(stage.sink.configured) == 1
    stage.check()
    assert stage.stream.live_feed is None
    assert [(hold.reason, hold.hold_s, hold.slate) for hold in stage.holds] == [("closed", 60, True)]


@pytest.mark.parametrize("own", [True, False])
def test_a_hold_says_whether_the_slate_of_the_operator_is_shown(own: bool) -> None:
    stage = Stage()
    only = stage.encoder("primary")
    stage.run(5)
    track = stage.stream.tracks.find(VIDEO)
    assert track is not None
    config = track.config if own else b"another"
    stage.stream.failover.clip = Clip(
        config=config, sound_config=b"", pictures=((0, True, b"picture"),), sounds=(), duration_ms=1000
    )
    only.die()
    stage.run(2)

    assert [hold.own for hold in stage.holds] == [own]


def test_a_source_that_comes_back_is_on_air_with_its_first_keyframe() -> None:
    stage = Stage()
    only = stage.encoder("primary")
    stage.run(5)
    only.die()
    stage.run(30)
    only.connect()
    only.sending = True
    stage.run(0.1)

    assert stage.on_air == "primary"
    stage.run(5)
    stage.check()
    assert stage.sink.closed == 0
    assert len(stage.sink.configured) == 1
    assert stage.switches[-1].reason == "returned"


@pytest.mark.parametrize(("seconds", "ended"), [(59, []), (61, ["hold-expired"])])
def test_the_hold_ends_when_it_is_over(seconds: float, ended: list[str]) -> None:
    stage = Stage()
    only = stage.encoder("primary")
    stage.run(5)
    only.die()

    stage.run(seconds)

    assert stage.ended == ended
    assert stage.sink.closed == len(ended)


def test_without_a_hold_the_stream_ends_with_its_last_feed() -> None:
    stage = Stage(hold_s=0)
    only = stage.encoder("primary")
    stage.run(5)

    only.die()

    assert stage.ended == ["closed"]


def test_without_a_slate_subscribers_are_kept_in_silence() -> None:
    stage = Stage(slate="none")
    only = stage.encoder("primary")
    stage.run(5)
    only.die()
    before = len(stage.sink.calls)
    stage.run(20)

    assert len(stage.sink.calls) == before
    assert stage.holds[0].slate is False
    only.connect()
    only.sending = True
    stage.run(1)
    stage.check()
    assert stage.on_air == "primary"


def test_a_lone_feed_that_is_only_slow_loses_nothing() -> None:
    stage = Stage()
    only = stage.encoder("primary")
    stage.run(5)
    line, only.delay_s = only.delay_s, 2.5
    stage.run(2.4)
    only.delay_s = line
    stage.run(5)

    assert stage.holds == []
    assert missing(stage) == []
    stage.check()


def test_a_lone_feed_that_is_silent_gets_the_slate_and_comes_back_at_a_keyframe() -> None:
    stage = Stage()
    only = stage.encoder("primary")
    stage.run(5)
    only.sending = False
    stage.run(8)
    assert isinstance(stage.reports[-1], Held)
    only.sending = True
    stage.run(2.1)

    assert stage.on_air == "primary"
    stage.run(2)
    stage.check()


def test_who_joins_during_the_slate_gets_a_picture() -> None:
    stage = Stage()
    only = stage.encoder("primary")
    stage.run(5)
    only.die()
    stage.run(5)
    late = RecordingSink()

    stage.stream.attach(late)

    assert late.names[:2] == ["configure", "write"]
    assert late.packets[0].keyframe


# Two paths of one encoder.


def paths(*, lead_s: float = 0.3, seconds: float = 10.0, **options: object) -> tuple[Stage, Encoder, Encoder]:
    """Run two paths of one encoder, the second *lead_s* behind the first, until they are merged."""
    stage = Stage(**options)
    one = stage.encoder("one", 0, maker="e", delay_s=0.0 if lead_s >= 0 else -lead_s)
    two = stage.encoder("two", 1, maker="e", clock=50_000, delay_s=max(lead_s, 0.0))
    stage.run(seconds)
    return stage, one, two


def assert_every_frame_once(stage: Stage) -> None:
    for kind, step in ((VIDEO, FRAME_MS), (AUDIO, 20)):
        shown = stage.shown(kind)
        first, last = shown[0], shown[-1]
        assert first is not None
        assert last is not None
        assert shown == list(range(first, last + 1, step)), kind.name
    stage.check()


@pytest.mark.parametrize("lead_s", [-0.5, -0.02, 0.0, 0.02, 0.5, 1.5])
@pytest.mark.parametrize("dies", ["one", "two"])
def test_losing_either_path_loses_nothing(lead_s: float, dies: str) -> None:
    stage, one, two = paths(lead_s=lead_s)
    assert [report.merged for report in stage.reports if isinstance(report, MergeChanged)] == [True]

    (one if dies == "one" else two).die()
    stage.run(5)

    assert_every_frame_once(stage)
    assert stage.shown()[-1] is not None
    assert stage.on_air == ("two" if dies == "one" else "one")
    assert [switch.how for switch in stage.switches] == (["merged"] if dies == "one" else [])


def test_a_path_that_comes_back_is_merged_again() -> None:
    stage, one, two = paths()
    for round in range(4):
        path = (one, two)[round % 2]
        path.die()
        stage.run(3)
        path.connect()
        path.sending = True
        stage.run(8)

    assert_every_frame_once(stage)
    assert sum(report.merged for report in stage.reports if isinstance(report, MergeChanged)) == 5


def test_a_path_that_stalls_costs_nothing() -> None:
    stage, one, _ = paths()
    one.delay_s = 6.0
    stage.run(5)
    one.delay_s = 0.3
    stage.run(10)

    assert_every_frame_once(stage)
    assert stage.holds == []


def test_two_encoders_are_not_merged() -> None:
    stage, _, _ = pair(seconds=20)

    assert not any(isinstance(report, MergeChanged) for report in stage.reports)


def test_merging_can_be_switched_off() -> None:
    stage, _, _ = paths(mode="switch", seconds=20)

    assert not any(isinstance(report, MergeChanged) for report in stage.reports)


def test_in_merge_mode_the_first_equal_keyframe_is_enough() -> None:
    stage, _, _ = paths(mode="merge", seconds=1)

    assert [report.merged for report in stage.reports if isinstance(report, MergeChanged)] == [True]


def test_paths_whose_copies_differ_are_taken_apart_and_switching_goes_on() -> None:
    stage, one, two = paths()
    two.maker = "other"
    stage.run(5)
    assert [report.merged for report in stage.reports if isinstance(report, MergeChanged)] == [True, False]

    one.die()
    stage.run(5)

    stage.check()
    assert stage.on_air == "two"
    assert stage.switches[-1].how == "fast"
