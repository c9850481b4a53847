"""Encoders, faults and a fake clock in any order: what subscribers may rely on always holds (P5 to P12)."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.media.packets import MediaKind, Packet
from relay.stream.feeds import FeedState
from relay.stream.judge import Level
from relay.stream.policy import MAX_LOCK_S
from relay.stream.reports import Locked
from tests.stream.media import AVC_HEADER, video
from tests.stream.stage import OTHER_AVC, Encoder, Stage, content_of

MOST = 3
HOLD_S = 20.0


class FailoverMachine(RuleBasedStateMachine):
    """Up to three encoders; the model is what each of them does, the output is what the sink got."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.last = {MediaKind.VIDEO: -1, MediaKind.AUDIO: -1}
        self.header = b""
        self.maker = b""
        self.need_keyframe = True

    @initialize(
        mode=st.sampled_from(["auto", "switch", "merge"]),
        splice=st.sampled_from(["fast", "clean"]),
        failback=st.sampled_from(["stay", "prefer-primary", "manual"]),
        slate=st.sampled_from(["auto", "none"]),
        clock=st.integers(0, 2**32 - 1),
    )
    def begin(self, mode: str, splice: str, failback: str, slate: str, clock: int) -> None:
        self.stage = Stage(
            mode=mode, splice=splice, failback=failback, slate=slate, hold_s=HOLD_S, clear_s=2.0, dwell_s=4.0
        )
        self.stage.encoder("primary", 0, clock=clock)
        self.stage.run(1)

    @property
    def over(self) -> bool:
        return self.stage.stream.closed

    def pick(self, which: int) -> Encoder:
        return self.stage.encoders[which % len(self.stage.encoders)]

    def connected(self, encoder: Encoder) -> bool:
        return encoder.feed in self.stage.stream.feeds

    @precondition(lambda self: not self.over and len(self.stage.encoders) < MOST)
    @rule(
        clock=st.integers(0, 2**32 - 1),
        phase=st.sampled_from([0, 400, 1000]),
        gop=st.sampled_from([1000, 2000, 6000]),
        other=st.booleans(),
        path=st.booleans(),
        delay=st.sampled_from([0.0, 0.2, 1.0]),
    )
    def join(self, clock: int, phase: int, gop: int, other: bool, path: bool, delay: float) -> None:
        """A backup comes: another encoder, or another path of the first one."""
        name = f"backup{len(self.stage.encoders)}"
        first = self.stage.encoders[0]
        if path:
            self.stage.encoder(name, 1, clock=clock, maker=first.maker, avc=first.avc, delay_s=delay)
        else:
            avc = OTHER_AVC if other else AVC_HEADER
            self.stage.encoder(name, 1, clock=clock, phase_ms=phase, gop_ms=gop, avc=avc, delay_s=delay)

    @precondition(lambda self: not self.over)
    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 2.5, 5.0]))
    def go_on(self, seconds: float) -> None:
        self.stage.run(seconds)

    @precondition(lambda self: not self.over)
    @rule(which=st.integers(0, 2), reason=st.sampled_from(["closed", "closed", "closed", "idle", "unpublished"]))
    def die(self, which: int, reason: str) -> None:
        encoder = self.pick(which)
        if self.connected(encoder):
            encoder.die(reason)

    @precondition(lambda self: not self.over)
    @rule(which=st.integers(0, 2), clock=st.integers(0, 2**32 - 1))
    def come_back(self, which: int, clock: int) -> None:
        """The encoder connects again; its old connection, if we still have it, is closed after that."""
        encoder = self.pick(which)
        old = encoder.feed if self.connected(encoder) else None
        encoder.clock = clock
        encoder.connect()
        encoder.sending = encoder.video = encoder.audio = True
        if old is not None:
            old.end("taken-over", self.stage.now)

    @precondition(lambda self: not self.over)
    @rule(which=st.integers(0, 2), what=st.sampled_from(["sending", "video", "audio"]))
    def toggle(self, which: int, what: str) -> None:
        encoder = self.pick(which)
        setattr(encoder, what, not getattr(encoder, what))

    @precondition(lambda self: not self.over)
    @rule(which=st.integers(0, 2), delay=st.sampled_from([0.0, 0.3, 0.9, 2.0, 6.0]))
    def slow_line(self, which: int, delay: float) -> None:
        self.pick(which).delay_s = delay

    @precondition(lambda self: not self.over)
    @rule(which=st.integers(0, 2), step=st.sampled_from([-2_000_000, -5000, -700, -1, 300, 9000, 50_000_000]))
    def bend_clock(self, which: int, step: int) -> None:
        self.pick(which).clock += step

    @precondition(lambda self: not self.over)
    @rule(which=st.integers(0, 2), skew=st.sampled_from([-2500, 0, 0, 2500]))
    def skew(self, which: int, skew: int) -> None:
        self.pick(which).skew_ms = skew

    @precondition(lambda self: not self.over)
    @rule(which=st.integers(0, 2), size=st.sampled_from([40, 600, 600]))
    def shrink(self, which: int, size: int) -> None:
        self.pick(which).size = size

    @precondition(lambda self: not self.over)
    @rule(which=st.integers(0, 2))
    def other_parameters(self, which: int) -> None:
        encoder = self.pick(which)
        if self.connected(encoder):
            encoder.avc = OTHER_AVC if encoder.avc == AVC_HEADER else AVC_HEADER
            encoder.begun = False
            encoder.line = []
            encoder.headers()

    @precondition(lambda self: not self.over)
    @rule(which=st.integers(0, 2))
    def switch_by_hand(self, which: int) -> None:
        encoder = self.pick(which)
        if self.connected(encoder):
            self.stage.stream.failover.switch(encoder.feed, self.stage.now)

    @precondition(lambda self: not self.over)
    @rule(seconds=st.sampled_from([3.0, 30.0]))
    def stop_our_process(self, seconds: float) -> None:
        """Nothing runs, encoders neither; afterwards nobody may be held to it."""
        levels = {feed: feed.judge.verdict.level for feed in self.stage.stream.feeds}
        self.stage.now += seconds
        for encoder in self.stage.encoders:
            encoder.line = [(at + seconds, packet) for at, packet in encoder.line]
        self.stage.stream.failover.tick(self.stage.now, 0.0)
        for feed, level in levels.items():
            assert feed.judge.verdict.level <= level, "stopped time was counted"

    @precondition(lambda self: self.over)
    @rule()
    def nothing_more(self) -> None:
        """The programme is over; what encoders still send goes nowhere."""
        calls = len(self.stage.sink.calls)
        for encoder in self.stage.encoders:
            encoder.feed.push(video(0, True), self.stage.now)
        assert len(self.stage.sink.calls) == calls

    # What must hold.

    @invariant()
    def what_came_out_is_one_programme(self) -> None:
        for _, value in self.stage.sink.calls[self.seen :]:
            if isinstance(value, Packet):
                self.look_at(value)
            elif value is not None:
                track = value.find(MediaKind.VIDEO)  # type: ignore[attr-defined]
                header = b"" if track is None or track.header is None else track.header.body
                self.need_keyframe = self.need_keyframe or header != self.header
                self.header = header
        self.seen = len(self.stage.sink.calls)

    def look_at(self, packet: Packet) -> None:
        assert packet.dts > self.last[packet.kind], "time must rise strictly in every track"
        self.last[packet.kind] = packet.dts
        if content_of(packet) is None:
            return
        maker = packet.body[packet.offset :].partition(b":")[0]
        if maker != self.maker:
            assert packet.keyframe, "another encoder's first frame is a keyframe"
            assert packet.dts >= max(self.last.values()), "after all that was seen before"
            self.maker = maker
            self.need_keyframe = False
        if packet.kind is MediaKind.VIDEO:
            assert packet.keyframe or not self.need_keyframe, "new parameters begin with a keyframe"
            self.need_keyframe = False

    @invariant()
    def who_is_on_air_is_clear(self) -> None:
        stream = self.stage.stream
        live = [feed for feed in stream.feeds if feed.state is FeedState.LIVE]
        assert live == ([] if stream.live_feed is None else [stream.live_feed])
        if stream.live_feed is None:
            assert not any(feed.state is FeedState.MERGED for feed in stream.feeds)
            assert all(feed.state is FeedState.ARMED for feed in stream.feeds), "nobody is on air: whoever can, goes"

    @invariant()
    def a_dead_feed_does_not_stay_when_another_is_ready(self) -> None:
        self.stage.stream.failover.tick(self.stage.now, 0.0)
        live = self.stage.stream.live_feed
        if live is None or live.judge.verdict.level is not Level.DEAD or live.judge.silent_s < 2.5:
            return
        feeds = [feed for feed in self.stage.stream.feeds if feed is not live]
        ready = [feed for feed in feeds if feed.can_start and feed.judge.verdict.level < Level.DEAD]
        assert not ready or any(feed.state is FeedState.ARMED for feed in ready), "a dead feed is always left"

    @invariant()
    def subscribers_are_kept_as_promised(self) -> None:
        stage = self.stage
        if stage.ended:
            assert stage.ended == ["hold-expired"] or stage.ended == ["unpublished"]
            assert stage.sink.closed == 1
        else:
            assert stage.sink.closed == 0

    @invariant()
    def locks_are_bounded(self) -> None:
        for report in self.stage.reports:
            if isinstance(report, Locked):
                assert 60 <= report.seconds <= MAX_LOCK_S

    @invariant()
    def numbers_of_every_switch_make_sense(self) -> None:
        for switch in self.stage.switches[-3:]:
            assert switch.cut_ms > switch.cut_from_ms
            assert min(switch.gap_ms, switch.replayed_ms, switch.missed_ms) >= 0


FailoverMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestFailoverMachine = FailoverMachine.TestCase
