"""Which feed is on air: the choice, the cut, the hold when nobody is left.

Imports the feeds and the rooms around them. The rules it guards: one output clock, continued at every cut; the feed
that leaves says nothing after the cut; a dead feed is always left, a doubtful one only for a better one and not too
often; and as long as there is hope, whoever watches stays connected.

No timers: `tick` is called a few times a second with the running time that passed, `pace` more often while `pacing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from relay.media.packets import Packet, Role, TrackSet
from relay.media.tracks import TrackTable
from relay.stream.feeds import Feed, FeedState
from relay.stream.fit import Compatibility, compatibility
from relay.stream.judge import Fault, Level, Trigger
from relay.stream.merge import Merge
from relay.stream.policy import FailoverOptions, FlapLock
from relay.stream.reports import HealthChanged, Held, Locked, MergeChanged, Report, Switched
from relay.stream.slate import Slate
from relay.stream.tracksets import configuration

CLEAN_ENDS = frozenset({"unpublished"})
"""How an encoder leaves that was told to stop. A closed socket is none: a killed process looks the same."""

SLATE_DELAY_S = 0.5
"""The slate waits so long for the feed to come back: a repeated picture is seen."""

SILENT_S = 3.0
"""A feed that is all there is may be silent so long before the slate takes its place: it comes back without a loss if
the line was only slow, but behind the slate it needs a keyframe."""

PROVEN_S = 2.0
"""A feed that is doubtful is left only for one that was without fault for so long."""


class Air(Protocol):
    """What goes out: the stream as failover sees it."""

    started: bool
    tracks: TrackSet

    def publish(self, packet: Packet) -> None:
        """Send *packet* to everybody."""
        ...

    def adopt(self, table: TrackTable, cut: int) -> None:
        """Describe the programme by *table* from stream time *cut* on; sinks learn what is new to them."""
        ...

    def recent(self) -> Iterable[Packet]:
        """The newest packets, from a keyframe on."""
        ...

    def close(self, reason: str) -> None:
        """End the programme."""
        ...


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far the programme has come."""

    next_dts: int
    last_dts: int
    content_at: float


@dataclass(frozen=True, slots=True)
class _Cause:
    """Why a feed goes on air."""

    reason: str
    fault: Fault | None = None
    automatic: bool = True


class Failover:
    """The feeds of one stream.

    Attributes:
        feeds: those that publish now, in order of arrival.
        live_feed: the one that subscribers see; None while they see the slate, or nothing.
        switches: how often another feed went on air.
        past_bytes, past_video_frames, past_audio_frames: what feeds sent that are gone.
        lock: closed after too many switches.
    """

    def __init__(self, air: Air, options: FailoverOptions, *, settle_ms: int, report: Callable[[Report], None]) -> None:
        self.feeds: tuple[Feed, ...] = ()
        self.live_feed: Feed | None = None
        self.switches = 0
        self.past_bytes = self.past_video_frames = self.past_audio_frames = 0
        self.lock = FlapLock()
        self.publish = air.publish
        self._air = air
        self._options = options
        self._settle_ms = settle_ms
        self._report = report
        self._mark: _Mark | None = None
        self._last_name = ""
        self._slate: Slate | None = None
        self._merge: Merge | None = None
        self._cause = _Cause("")
        self._pinned: Feed | None = None
        self._live_s = 0.0
        self._held_s = 0.0
        self._hold_reason = ""
        self._past_copies = 0

    # Feeds come and go.

    def open(self, name: str, priority: int, now: float) -> Feed:
        """Add a publisher. The first feed is live at once, a later one stands by."""
        feed = Feed(name, priority, self, now, settle_ms=self._settle_ms, options=self._options)
        first = not self.feeds and self._mark is None
        self.feeds = (*self.feeds, feed)
        if first:
            feed.go_live(offset=0, cut=0)
            self._air.adopt(feed.table, 0)
            self._on_air(feed)
        elif self.live_feed is None:
            if len(self.feeds) == 1:
                self._cause = _Cause("returned", automatic=False)
            feed.arm()
        self._watch()
        return feed

    def feed_ended(self, feed: Feed, reason: str, now: float) -> None:
        """Forget *feed*; when it was live another takes over, or the programme is held, or it ends."""
        self.feeds = tuple(other for other in self.feeds if other is not feed)
        self.past_bytes += feed.bytes_total
        self.past_video_frames += feed.video_frames_total
        self.past_audio_frames += feed.audio_frames_total
        if feed is self.live_feed:
            self._live_ended(feed, reason, now)
        elif self.live_feed is None and not self.feeds and not self._may_hold:
            self._air.close(reason)
        if self._merge is not None:
            self._merge.forget(feed)
        self._watch()

    def _live_ended(self, feed: Feed, reason: str, now: float) -> None:
        fault = Fault(Trigger.GONE.value, Level.DEAD, round((now - feed.content_at) * 1000), 0)
        peers = self._merged_peers()
        if peers:
            self._promote(min(peers, key=self._rank), _Cause(reason, fault))
            return
        clean = reason in CLEAN_ENDS
        if clean and self._options.on_clean_end == "end":
            self._go_dark(feed)
            self._air.close(reason)
            return
        best = self._best(Level.DEAD) if self._options.splice == "fast" else None
        self._cause = _Cause(reason, fault)
        if best is not None:
            self._cut_to(best, now, "fast")
            return
        feed.flush()
        self._go_dark(feed)
        if clean and all(other.judge.verdict.level is Level.DEAD for other in self.feeds):
            self._air.close(reason)
        else:
            self._hold(reason)

    def retire(self) -> None:
        """The stream is over: what feeds still send goes nowhere."""
        feeds, self.feeds = self.feeds, ()
        self._mark = self._position()
        self.live_feed = self._slate = self._merge = None
        for feed in feeds:
            feed.retire()

    # Time.

    @property
    def last_dts(self) -> int:
        """Stream time of the newest packet, 0 before the first."""
        return max(self._position().last_dts, 0)

    @property
    def holding(self) -> bool:
        """Whether subscribers are kept without a feed."""
        return self.live_feed is None and self._mark is not None

    @property
    def pacing(self) -> bool:
        """Whether `pace` should be called every few milliseconds."""
        return self._slate is not None or (self.live_feed is not None and self.live_feed.catching_up)

    @property
    def copies_total(self) -> int:
        """Frames left out because another path had brought them already."""
        return self._past_copies + (0 if self._merge is None else self._merge.copies_total)

    def pace(self, now: float) -> None:
        """Send what is due by now: of the slate, or of a feed that catches up."""
        if self._slate is not None:
            for packet in self._slate.due(now):
                self.publish(packet)
        elif self.live_feed is not None:
            self.live_feed.release(now)

    def tick(self, now: float, seconds: float) -> None:
        """Judge all feeds and act, after *seconds* of running time."""
        for feed in self.feeds:
            before = feed.judge.verdict.worst
            worst = feed.judge.tick(now, seconds).worst
            if (worst and worst.trigger) != (before and before.trigger):
                level = Level.GOOD if worst is None else worst.level
                self._report(HealthChanged(feed=feed.name, level=level, fault=worst))
        self.pace(now)
        live = self.live_feed
        if live is not None:
            self._live_s += seconds
            self._settle_merge(live)
            self._reconsider(live, now)
        elif self.holding:
            self._keep_holding(now, seconds)

    # The choice.

    def _reconsider(self, live: Feed, now: float) -> None:
        verdict = live.judge.verdict
        if verdict.level is Level.GOOD:
            self._consider_failback(live, now)
            return
        cause = _Cause(verdict.worst.trigger if verdict.worst else "", verdict.worst)
        peers = [peer for peer in self._merged_peers() if peer.judge.verdict.level < verdict.level]
        if peers:
            self._promote(min(peers, key=self._rank), cause)
            return
        best = self._best(verdict.level)
        if best is not None and self._may_leave(live, best, verdict.level, now):
            self._cause = cause
            if self._options.splice == "fast":
                self._cut_to(best, now, "fast")
            else:
                self._arm(best)
        elif verdict.level is Level.DEAD and live.judge.silent_s >= SILENT_S and self._may_hold and best is None:
            self._go_dark(live)
            live.stand_by()
            self._cause = cause
            self._hold(cause.reason)

    def _may_leave(self, live: Feed, best: Feed, level: Level, now: float) -> bool:
        if level is Level.DEAD:
            return True
        if self._options.failback == "manual" and best.priority < live.priority:
            return False
        return best.judge.clean_s >= PROVEN_S and not self.lock.locked(now)

    def _consider_failback(self, live: Feed, now: float) -> None:
        armed = next((feed for feed in self.feeds if feed.state is FeedState.ARMED), None)
        if armed is not None:
            failback = self._cause.reason == "failback"
            if self._cause.automatic and (not failback or armed.judge.verdict.level is not Level.GOOD):
                armed.disarm()  # the live feed is well again, or the better one is not
            return
        if self._options.failback != "prefer-primary" or live is self._pinned or self.lock.locked(now):
            return
        better = [
            feed
            for feed in self.feeds
            if feed.priority < live.priority and feed.can_start and feed.judge.clean_s >= self._options.clear_s
        ]
        if better and self._live_s >= self._options.dwell_s:
            self._cause = _Cause("failback")
            self._arm(min(better, key=self._rank))

    def _best(self, below: Level) -> Feed | None:
        """Return the best feed that can go on air at once and is better than *below*."""
        standing = [
            feed
            for feed in self.feeds
            if feed.state in (FeedState.STANDBY, FeedState.ARMED)
            and feed.can_start
            and feed.judge.verdict.level < below
        ]
        return min(standing, key=self._rank, default=None)

    def _rank(self, feed: Feed) -> tuple[int, bool, int]:
        fit = compatibility(self._air.tracks, feed.table.tracks)
        return (feed.judge.verdict.level, fit is Compatibility.CLASS, feed.priority)

    # The cut.

    def switch(self, feed: Feed, now: float, reason: str = "manual") -> None:
        """Put *feed* on air by hand: at its next keyframe, or at once when nothing better is on air."""
        live = self.live_feed
        if live is not None:
            for other in self.feeds:
                other.disarm()
        if feed is live or feed not in self.feeds:
            return
        self._cause = _Cause(reason, automatic=False)
        self._pinned = feed
        if feed.merging:
            self._promote(feed, self._cause)
        elif (live is None or live.judge.verdict.level is Level.DEAD) and feed.can_start:
            self._cut_to(feed, now, self._options.splice)
        else:
            feed.arm()

    def start_found(self, feed: Feed, now: float) -> None:
        """Put the armed *feed* on air: it has a new place to start."""
        self._cut_to(feed, now, "clean")

    def caught_up(self, feed: Feed) -> None:
        """The feed on air is at its end now; nothing has to be decided."""

    def _cut_to(self, feed: Feed, now: float, how: str) -> None:
        mark = self._position()
        content_at = mark.content_at
        step = feed.step_ms / 1000
        packets = feed.replay_from(now if how == "clean" or self.live_feed is None else content_at + step)
        began = packets[0][0]
        fit = compatibility(self._air.tracks, feed.table.tracks)
        self._leave()
        feed.go_live_with(packets, offset=mark.next_dts - packets[0][1].dts, cut=mark.next_dts, now=now)
        previous = self._last_name
        self._on_air(feed)
        self._air.adopt(feed.table, mark.next_dts)
        feed.release(now)
        self.switches += 1
        self._report(
            Switched(
                previous=previous,
                feed=feed.name,
                reason=self._cause.reason,
                fault=self._cause.fault,
                how=how,
                cut_from_ms=mark.last_dts,
                cut_ms=mark.next_dts,
                gap_ms=max(round((now - content_at) * 1000), 0),
                replayed_ms=max(round((content_at - began) * 1000), 0),
                missed_ms=max(round((began - content_at - step) * 1000), 0),
                fit=fit.name.lower(),
            )
        )
        self._count_switch(feed, now)

    def _count_switch(self, feed: Feed, now: float) -> None:
        if self._cause.automatic:
            seconds = self.lock.switched(now)
            if seconds is not None:
                self._report(Locked(feed=feed.name, seconds=seconds))

    def _leave(self) -> None:
        """Take everybody off the air; those still connected stand by."""
        self._slate = None
        for feed in self.feeds:
            if feed.state in (FeedState.LIVE, FeedState.MERGED):
                if feed.merging and self._merge is not None:
                    self._merge.forget(feed)
                feed.stand_by()

    def _on_air(self, feed: Feed) -> None:
        self.live_feed = feed
        self._last_name = feed.name
        self._mark = None
        self._live_s = 0.0
        for other in self.feeds:
            other.disarm()

    def _arm(self, feed: Feed) -> None:
        for other in self.feeds:
            if other is not feed:
                other.disarm()
        feed.arm()

    def _position(self) -> _Mark:
        live, mark = self.live_feed, self._mark
        if live is not None:
            return _Mark(live.next_dts, live.last_dts, live.content_at)
        if mark is None:
            return _Mark(0, -1, 0.0)
        if self._slate is not None:
            return _Mark(self._slate.next_dts, self._slate.last_dts, mark.content_at)
        return mark

    # Nothing left.

    @property
    def _may_hold(self) -> bool:
        return self._options.hold_s > self._held_s and self._air.started

    def _go_dark(self, feed: Feed) -> None:
        """*feed* leaves the air and nobody follows yet."""
        self._mark = self._position()
        self.live_feed = None
        self._held_s = 0.0

    def _hold(self, reason: str) -> None:
        self._hold_reason = reason
        if not self.feeds and not self._may_hold:
            self._air.close(reason)
            return
        for feed in self.feeds:
            feed.arm()

    def _keep_holding(self, now: float, seconds: float) -> None:
        """Show the slate; end the programme when nobody came in time."""
        before, self._held_s = self._held_s, self._held_s + seconds
        hold_s = self._options.hold_s
        if not hold_s or not self._air.started:
            return
        if before < SLATE_DELAY_S <= self._held_s:
            slate = self._options.slate == "auto"
            if slate:
                tracks, recent = self._air.tracks, self._air.recent()
                self._slate = Slate(tracks, recent, start=self._position().next_dts, now=now)
            self._report(Held(reason=self._hold_reason, hold_s=hold_s, slate=slate))
            self.pace(now)
        if self._held_s >= hold_s and not self.feeds:
            self._air.close("hold-expired")

    # Two paths of one encoder.

    def _watch(self) -> None:
        """Compare feeds as long as there are several; alone, a feed goes the short way."""
        if self._options.mode == "switch":
            return
        if len(self.feeds) > 1 and self._merge is None:
            confirm = 1 if self._options.mode == "merge" else 2
            floor = self.last_dts
            self._merge = Merge(floor=floor, confirm=confirm, matched=self._matched, strayed=self._strayed)
        live = self.live_feed
        if len(self.feeds) < 2 and not (live is not None and live.merging):
            self._past_copies = self.copies_total
            self._merge = None
        for feed in self.feeds:
            if feed.peers is not self._merge:
                feed.peers = self._merge
                if feed is live and not feed.catching_up:
                    feed.go_straight()

    def _matched(self, one: Feed, other: Feed, delta: int) -> None:
        """Both carry the same frames; *one*'s clock is *delta* ahead."""
        if one is not self.live_feed and not one.merging:
            one, other, delta = other, one, -delta
        on_air = one is self.live_feed or one.merging
        if not on_air or one.catching_up or other.merging or other is self.live_feed:
            return
        offset = one.offset + delta
        same = configuration(other.table.tracks) == configuration(self._air.tracks)
        if same and self._merge is not None and self._merge.covers(other.kept(), offset):
            self._join(one, other, offset)

    def _join(self, one: Feed, other: Feed, offset: int) -> None:
        """Let *other* be on air together with *one*, and bring what it is ahead."""
        ahead = [packet for packet in other.kept() if packet.role is Role.FRAME]
        if not one.merging:
            one.merge(one.offset, FeedState.LIVE)
        other.merge(offset, FeedState.MERGED)
        merge = self._merge
        for packet in ahead:
            packet.dts += offset
            if merge is not None and merge.admit(other, packet):
                self.publish(packet)
        self._report(MergeChanged(feed=other.name, merged=True, reason="equal-frames"))

    def _strayed(self, feed: Feed) -> None:
        """The frames of a merged feed are no copies any more."""
        peers = self._merged_peers()
        if feed is self.live_feed:
            if not peers:
                return
            self._promote(min(peers, key=self._rank), _Cause("copies-differ"))
        if self._merge is not None:
            self._merge.forget(feed)
        feed.stand_by()
        self._report(MergeChanged(feed=feed.name, merged=False, reason="copies-differ"))

    def _merged_peers(self) -> list[Feed]:
        return [feed for feed in self.feeds if feed.state is FeedState.MERGED]

    def _promote(self, feed: Feed, cause: _Cause) -> None:
        """Call another merged feed the live one. Subscribers notice nothing: its frames pass already."""
        mark = self._position()
        if self.live_feed in self.feeds and self.live_feed is not None:
            self.live_feed.state = FeedState.MERGED
        previous = self._last_name
        feed.state = FeedState.LIVE
        self._on_air(feed)
        self._air.adopt(feed.table, mark.next_dts)
        self.switches += 1
        self._report(
            Switched(
                previous=previous,
                feed=feed.name,
                reason=cause.reason,
                fault=cause.fault,
                how="merged",
                cut_from_ms=mark.last_dts,
                cut_ms=mark.next_dts,
            )
        )

    def _settle_merge(self, live: Feed) -> None:
        """Go the short way again when a merged feed is alone and has brought all that the others had."""
        merge = self._merge
        if merge is not None and live.merging and not self._merged_peers() and merge.passed_by(live.on_air_until):
            live.go_straight()
            self._watch()
