"""The faults of encoders and lines, one by one, on a fake clock (reliability.md 3.4).

| fault | here: test_f... | and with real processes (`tests/integration`), unless said otherwise |
|---|---|---|
| F1 killed | f1 | test_failover: test_a_killed_primary...; benchmarks/failover.py `killed`, 200 times |
| F2 cable | f3 | test_failover_faults: test_a_pulled_cable...; benchmarks/failover.py `unplugged` |
| F3 stopped | f3 | test_failover: test_a_stopped_primary...; test_failover_faults: test_neither_a_short_stall... |
| F4 half a programme | f4 | test_failover_faults: test_half_a_programme... (RELAY_LONG=1) |
| F5 too thin a line | f5 | test_failover_faults: test_a_line_that_is_too_thin_is_left (RELAY_LONG=1) |
| F6 jitter, loss, pauses | tests/stream/test_jitter.py | test_failover_faults: test_losses... (RELAY_LONG=1) |
| F7 timestamps | f7 | test_failover_faults: test_what_timestamps_do (RELAY_LONG=1) |
| F8 comes and goes | f8 | test_failover_faults: test_a_primary_that_comes_and_goes... (RELAY_LONG=1) |
| F9 another kind of backup | f9 | test_failover: test_a_backup_of_another_kind... |
| F10 nobody left | f10 | test_failover: test_both_gone...; benchmarks/failover.py `returned`, 200 times |
| F13 at the same moment | tests/plugins/test_same_moment.py | test_same_moment |
| F14 the wall clock steps | nothing here reads it | test_failover_faults: test_a_step_of_the_wall_clock... |
| F18 the end of the hold | f18, test_failover.py | test_failover_faults: test_both_gone_shows_the_slate... |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from relay.media import aac
from relay.media.packets import MediaKind, Packet
from relay.stream.reports import Locked
from relay.testing import hevc_frame, hevc_header
from tests.stream.media import audio_header, video_header
from tests.stream.stage import OTHER_AVC, STEP, Encoder, Stage

VIDEO = MediaKind.VIDEO


def pair(
    *, backup: type[Encoder] = Encoder, seconds: float = 10.0, **options: object
) -> tuple[Stage, Encoder, Encoder]:
    """The primary is on air, the backup's keyframes lie between its own."""
    stage = Stage(mode="switch", **options)
    one = stage.encoder("primary", 0)
    two = backup(stage, "backup", 1, clock=700_000, phase_ms=1000)
    stage.encoders.append(two)
    stage.run(seconds)
    assert stage.on_air == "primary"
    return stage, one, two


def run_until(stage: Stage, on_air: str, most_s: float) -> float:
    """Seconds until *on_air* is."""
    began = stage.now
    while stage.on_air != on_air:
        stage.run(STEP)
        assert stage.now - began <= most_s, f"{on_air} is not on air after {most_s} s"
    return stage.now - began


def returned(encoder: Encoder) -> None:
    encoder.connect()
    encoder.sending = True


# F1 to F3: it is gone, or says nothing.


def test_f1_a_kill_at_any_phase_of_the_gop_costs_nothing() -> None:
    stage, one, two = pair()
    live, other = one, two
    for phase in range(0, 2000, 80):
        stage.run(6 - (stage.content + 2000 - phase) % 2000 / 1000)
        live.die()
        assert stage.on_air == other.name
        stage.run(0.5)
        returned(live)
        live, other = other, live

    stage.check()
    assert {switch.missed_ms for switch in stage.switches} == {0}
    assert max(switch.gap_ms for switch in stage.switches) <= 40


@pytest.mark.parametrize(("seconds", "switches"), [(0.4, 0), (0.9, 0), (1.2, 1), (10.0, 1)])
def test_f3_a_stop_counts_from_the_threshold_on_and_nothing_old_leaks_out(seconds: float, switches: int) -> None:
    stage, one, _ = pair()

    one.delay_s = seconds  # what it sent meanwhile arrives at once when it goes on
    stage.run(seconds)
    one.delay_s = 0.0
    seen = len(stage.sink.packets)
    stage.run(5)

    assert len(stage.switches) == switches
    stage.check()
    if switches:
        assert all(b"backup:" in packet.body for packet in stage.sink.packets[seen:])
        assert stage.switches[0].gap_ms <= 1500


# F4: half a programme.


@pytest.mark.parametrize(
    ("lost", "trigger", "most_s"),
    [("video", "no-video", 1.5), ("audio", "no-audio", 3.5), ("both", "no-video", 1.5)],
    ids=["sound only", "picture only", "nothing but pings"],
)
def test_f4_what_is_missing_is_noticed(lost: str, trigger: str, most_s: float) -> None:
    stage, one, _ = pair()
    one.video = lost == "audio"
    one.audio = lost == "video"

    run_until(stage, "backup", most_s)

    assert stage.switches[0].reason == trigger
    stage.run(5)
    stage.check()


@pytest.mark.parametrize("headers_again", [False, True])
def test_f4_who_sends_headers_only_is_left_for_who_sends_pictures(headers_again: bool) -> None:
    stage = Stage(mode="switch")
    one = stage.encoder("primary", 0, video=False, audio=False)
    stage.encoder("backup", 1)

    for _ in range(300):
        stage.run(STEP)
        if headers_again:
            one.headers()

    assert stage.on_air == "backup"
    stage.check()


def test_f4_a_lone_feed_that_goes_on_with_headers_only_gets_the_slate() -> None:
    stage = Stage()
    one = stage.encoder("primary", 0)
    stage.run(5)
    one.video = one.audio = False
    for _ in range(300):
        stage.run(STEP)
        one.headers()

    assert [hold.reason for hold in stage.holds] == ["no-video"]
    one.video = one.audio = True
    run_until(stage, "primary", 2.1)
    stage.run(2)
    stage.check()


# F5: the line is too thin.


class Throttled(Encoder):
    """Its line carries so many bytes a second; the rest waits."""

    rate = 0.0
    room = 0.0
    waits: list[Packet]

    def step(self, content: int) -> None:
        if not self.rate:
            super().step(content)
            return
        self.waits = [*getattr(self, "waits", []), *self.make(content)]
        self.room = min(self.room + self.rate * STEP, max(self.rate, 8000.0))
        while self.waits and len(self.waits[0].body) <= self.room:
            packet = self.waits.pop(0)
            self.room -= len(packet.body)
            self.feed.push(packet, self.stage.now)


@pytest.mark.parametrize(("share", "most_s"), [(0.6, 0.0), (0.25, 6.0)])
def test_f5_a_quarter_of_the_usual_rate_is_too_little_and_three_fifths_are_not(share: float, most_s: float) -> None:
    stage = Stage(mode="switch")
    one = Throttled(stage, "primary", 0)
    stage.encoders.append(one)
    stage.encoder("backup", 1, phase_ms=1000)
    stage.run(60)
    one.rate = share * 20_800  # 25 pictures, one in 50 of ten times the size, and 50 frames of sound

    if most_s:
        assert run_until(stage, "backup", most_s) >= 3.0
        assert stage.switches[0].reason == "low-bitrate"
    else:
        stage.run(30)
        assert stage.on_air == "primary"
    stage.check()


# F7: what timestamps do.


@pytest.mark.parametrize(
    "bend",
    [
        lambda one: one.clock - 10_000,
        lambda one: one.clock + 3_600_000,
        lambda one: -one.stage.content,
        lambda one: 2**32 - one.stage.content - 1000,
        lambda one: 2**31 - one.stage.content - 1000,
    ],
    ids=["back 10 s", "forward 1 h", "reset", "wrap in a second", "wrap of 31 bits"],
)
def test_f7_a_clock_that_jumps_is_mended_in_place(bend: Callable[[Encoder], int]) -> None:
    stage, one, _ = pair()
    before = len(stage.sink.packets)

    one.clock = bend(one)
    stage.run(20)

    assert stage.switches == []
    stage.check()
    assert len(stage.sink.packets) - before == 20 * 75, "nothing is left out"


def test_f7_sound_that_drifts_away_is_left_when_it_is_two_seconds_off() -> None:
    stage, one, _ = pair()
    while stage.on_air == "primary":
        one.skew_ms += 2
        stage.run(STEP)
        assert one.skew_ms < 3000

    assert stage.switches[0].reason == "av-skew"
    assert 2000 < one.skew_ms <= 2000 + 3.5 * 100
    stage.run(5)
    stage.check()


# F8: it comes and goes.


@pytest.mark.parametrize("failback", ["stay", "prefer-primary", "manual"])
@pytest.mark.parametrize("away_s", [1, 5, 20])
def test_f8_a_primary_that_returns_for_a_second_again_and_again_is_not_trusted(away_s: int, failback: str) -> None:
    stage, one, _ = pair(failback=failback)
    for _ in range(50 if failback == "prefer-primary" else 5):
        one.die()
        assert stage.on_air == "backup"
        stage.run(away_s)
        returned(one)
        stage.run(1)

    assert len(stage.switches) == 1
    stage.check()


def test_f8_when_both_come_and_go_the_programme_goes_on_and_a_dead_one_is_left_locked_or_not() -> None:
    stage, one, two = pair(failback="prefer-primary", clear_s=2, dwell_s=2)
    for number in range(50):
        victim = (one, two)[number % 2]
        victim.die()
        assert stage.on_air != victim.name
        stage.run(1)
        returned(victim)
        stage.run(4)
        assert stage.on_air

    locks = [report.seconds for report in stage.reports if isinstance(report, Locked)]
    assert locks[:4] == [60, 120, 240, 300]
    assert stage.holds == []
    stage.check()


# F9: another kind of backup.


class OtherRate(Encoder):
    def headers(self) -> None:
        self.feed.push(video_header(self.clock, self.avc), self.stage.now)
        self.feed.push(audio_header(self.clock, b"\xaf\x00" + aac.build_config(2, 3, 2)), self.stage.now)


class Hevc(Encoder):
    def headers(self) -> None:
        header = hevc_header()
        header.dts = self.clock
        self.feed.push(header, self.stage.now)
        self.feed.push(audio_header(self.clock), self.stage.now)

    def make(self, content: int) -> Iterator[Packet]:
        for packet in super().make(content):
            yield hevc_frame(packet.dts, keyframe=packet.keyframe, size=600) if packet.kind is VIDEO else packet


class NoSound(Encoder):
    def headers(self) -> None:
        self.feed.push(video_header(self.clock, self.avc), self.stage.now)

    def make(self, content: int) -> Iterator[Packet]:
        return (packet for packet in super().make(content) if packet.kind is VIDEO)


class Late(Encoder):
    """Pictures that are to be shown before they are decoded, as some encoders say."""

    def make(self, content: int) -> Iterator[Packet]:
        for packet in super().make(content):
            if packet.kind is VIDEO:
                packet.cts = -80
            yield packet


class OtherParameters(Encoder):
    def connect(self) -> None:
        self.avc = OTHER_AVC
        super().connect()


class LongGop(Encoder):
    def connect(self) -> None:
        self.gop_ms = 10_000
        super().connect()


class Faster(Encoder):
    def connect(self) -> None:
        self.interval_ms = 20
        super().connect()


@pytest.mark.parametrize(
    ("kind", "fit"),
    [
        (OtherParameters, "headers"),
        (Faster, "same"),
        (OtherRate, "class"),
        (Hevc, "class"),
        (NoSound, "class"),
        (LongGop, "same"),
        (Late, "same"),
    ],
)
def test_f9_a_backup_of_another_kind_takes_over_all_the_same(kind: type[Encoder], fit: str) -> None:
    stage, one, _ = pair(backup=kind, seconds=11)
    seen = len(stage.sink.calls)

    one.die()
    stage.run(5)

    assert stage.on_air == "backup"
    assert stage.switches[0].fit == fit
    after = stage.sink.calls[seen:]
    assert (after[0][0] == "configure") is (fit != "same"), "new headers come before what needs them"
    pictures = [value for _, value in after if isinstance(value, Packet) and value.kind is VIDEO]
    assert pictures[0].keyframe
    stage.check()


def test_f9_who_has_another_choice_takes_the_backup_that_fits() -> None:
    stage = Stage(mode="switch")
    one = stage.encoder("primary", 0)
    stage.encoders += [Hevc(stage, "backup", 1), Encoder(stage, "third", 2, phase_ms=600)]
    stage.run(5)

    one.die()

    assert stage.on_air == "third"


# F10: nobody is left.


def test_f10_a_backup_that_joins_five_seconds_after_the_death_is_on_air_with_its_first_keyframe() -> None:
    stage = Stage(mode="switch")
    one = stage.encoder("primary", 0)
    stage.run(5)
    one.die()
    stage.run(5)
    assert stage.holds

    stage.encoder("backup", 1)

    assert run_until(stage, "backup", 0.5) <= 0.1
    stage.run(2)
    stage.check()
    assert (stage.sink.closed, len(stage.sink.configured)) == (0, 1)


def test_f10_a_backup_that_dies_too_leaves_the_slate_and_both_may_return_together() -> None:
    stage, one, two = pair()
    one.die()
    stage.run(0.3)  # the replay has just begun
    two.die()
    stage.run(20)
    assert (stage.on_air, stage.sink.closed) == ("", 0)

    returned(one)
    returned(two)
    stage.run(0.1)

    assert stage.on_air in ("primary", "backup")
    stage.run(10)
    stage.check()
    assert stage.sink.closed == 0
    assert len(stage.switches) == 2


@pytest.mark.parametrize("failback", ["stay", "prefer-primary", "manual"])
def test_f10_a_primary_that_returns_in_mid_splice_does_not_disturb_it(failback: str) -> None:
    stage, one, _ = pair(failback=failback)
    one.die()
    assert stage.stream.failover.pacing

    returned(one)
    stage.run(8)

    assert stage.on_air == "backup"
    assert len(stage.switches) == 1
    stage.check()


# F18: the end of the hold.


@pytest.mark.parametrize(("after_s", "kept"), [(59, True), (61, False)])
def test_f18_who_returns_within_the_hold_goes_on_and_who_comes_later_begins_anew(after_s: int, kept: bool) -> None:
    stage = Stage(mode="switch")
    one = stage.encoder("primary", 0)
    stage.run(5)
    one.die()

    stage.run(after_s)

    assert stage.stream.closed is not kept
    assert stage.ended == ([] if kept else ["hold-expired"])
    if kept:
        returned(one)
        run_until(stage, "primary", 1.0)
        stage.run(5)
        stage.check()
        assert stage.sink.closed == 0
