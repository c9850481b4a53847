"""Which feed is on air: the choice, the cut, the hold when nobody is left.

Imports the feeds and the rooms around them. The rules it guards: one output clock, continued at every cut; the feed
that leaves says nothing after the cut; a dead feed is always left, a doubtful one only for a better one and not too
often; and as long as there is hope, whoever watches stays connected.

No timers: `tick` is called a few times a second with the running time that passed, `pace` more often while `pacing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from relay.stream.choice import best_of, may_leave, preferred, rank
from relay.stream.clip import Clip
from relay.stream.feeds import Feed, FeedState
from relay.stream.fit import Compatibility, compatibility, parameter_sets, strays
from relay.stream.hold import Hold, Mark, after_all_shown
from relay.stream.judge import Fault, Level, Trigger
from relay.stream.owners import Air
from relay.stream.paths import Paths
from relay.stream.policy import FailoverOptions, FlapLock
from relay.stream.reports import Cause, HealthChanged, Held, Locked, Report, Switched

CLEAN_ENDS = frozenset({"unpublished"})
"""How an encoder leaves that was told to stop. A closed socket is none: a killed process looks the same."""

SILENT_S = 3.0
"""A feed that is all there is may be silent so long before the slate takes its place: it comes back without a loss if
the line was only slow, but behind the slate it needs a keyframe."""


class Failover:
    """The feeds of one stream.

    Attributes:
        feeds: those that publish now, in order of arrival.
        live_feed: the one that subscribers see; None while they see the slate, or nothing.
        switches: how often another feed went on air.
        past_bytes, past_video_frames, past_audio_frames: what feeds sent that are gone.
        lock: closed after too many switches.
        air: the stream.
        clip: the operator's own slate, once it is made; shown only while it fits what is on air.
        report: called with everything that happens.
    """

    def __init__(self, air: Air, options: FailoverOptions, *, settle_ms: int, report: Callable[[Report], None]) -> None:
        self.feeds: tuple[Feed, ...] = ()
        self.live_feed: Feed | None = None
        self.switches = 0
        self.past_bytes = self.past_video_frames = self.past_audio_frames = 0
        self.lock = FlapLock()
        self.clip: Clip | None = None
        self.air = air
        self.publish = air.publish
        self.report = report
        self._options = options
        self._settle_ms = settle_ms
        self._hold: Hold | None = None
        self._last_name = ""
        self._paths = Paths(self, options.mode)
        self._cause = Cause("")
        self._pinned: Feed | None = None
        self._live_s = 0.0

    # Feeds come and go.

    def open(self, name: str, priority: int, now: float) -> Feed:
        """Add a publisher. The first feed is live at once, a later one stands by."""
        feed = Feed(name, priority, self, now, settle_ms=self._settle_ms, options=self._options)
        first = not self.feeds and self._hold is None
        self.feeds = (*self.feeds, feed)
        if first:
            feed.go_live(offset=0, cut=0)
            self.air.adopt(feed.table, 0)
            self._on_air(feed)
        elif self.live_feed is None:
            if len(self.feeds) == 1:
                self._cause = Cause("returned", automatic=False)
            feed.arm()
        self._paths.watch()
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
            self.air.close(reason)
        self._paths.forget(feed)
        self._paths.watch()

    def _live_ended(self, feed: Feed, reason: str, now: float) -> None:
        fault = Fault(Trigger.GONE.value, Level.DEAD, round((now - feed.content_at) * 1000), 0)
        clean = reason in CLEAN_ENDS
        if clean and self._options.on_clean_end == "end":
            self._go_dark(reason)
            self.air.close(reason)
            return
        peers = self._paths.peers
        if peers:
            self.promote(self.first_of(peers), Cause(reason, fault))
            return
        best = best_of(self.feeds, self.air.tracks, Level.DEAD) if self._options.splice == "fast" else None
        self._cause = Cause(reason, fault)
        if best is not None:
            self._cut_to(best, now, "fast")
            return
        feed.flush()
        self._go_dark(reason)
        if clean and all(other.judge.verdict.level is Level.DEAD for other in self.feeds):
            self.air.close(reason)
        else:
            self._keep(reason)

    def retire(self) -> None:
        """The stream is over: what feeds still send goes nowhere."""
        feeds, self.feeds = self.feeds, ()
        self._hold = Hold(self._position())
        self.live_feed = None
        for feed in feeds:
            feed.retire()

    # Time.

    @property
    def last_dts(self) -> int:
        """Stream time of the newest packet, 0 before the first."""
        return max(self._position().last_dts, 0)

    @property
    def slate(self) -> str:
        """What is shown when nobody is left: ``auto``, ``none``, or a file as it is configured."""
        return self._options.slate

    @property
    def holding(self) -> bool:
        """Whether subscribers are kept without a feed."""
        return self._hold is not None

    @property
    def pacing(self) -> bool:
        """Whether `pace` should be called every few milliseconds."""
        live, hold = self.live_feed, self._hold
        return (live is not None and live.catching_up) or (hold is not None and hold.pacing)

    @property
    def copies_total(self) -> int:
        """Frames left out because another path had brought them already."""
        return self._paths.copies_total

    def pace(self, now: float) -> None:
        """Send what is due by now: of the slate, or of a feed that catches up."""
        if self._hold is not None:
            for packet in self._hold.due(now):
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
                self.report(HealthChanged(feed=feed.name, level=level, fault=worst))
        self.pace(now)
        live = self.live_feed
        if live is not None:
            self._live_s += seconds
            self._paths.settle(live)
            self._reconsider(live, now)
        elif self._hold is not None:
            self._keep_holding(self._hold, now, seconds)

    # The choice.

    def _reconsider(self, live: Feed, now: float) -> None:
        verdict = live.judge.verdict
        if verdict.level is Level.GOOD:
            self._consider_failback(live, now)
            return
        cause = Cause(verdict.worst.trigger if verdict.worst else "", verdict.worst)
        peers = [peer for peer in self._paths.peers if peer.judge.verdict.level < verdict.level]
        if peers:
            self.promote(self.first_of(peers), cause)
            return
        best = best_of(self.feeds, self.air.tracks, verdict.level)
        if best is not None and may_leave(live, best, self._options, locked=self.lock.locked(now)):
            self._cause = cause
            if self._options.splice == "fast":
                self._cut_to(best, now, "fast")
            else:
                self._arm(best)
        elif verdict.level is Level.DEAD and live.judge.silent_s >= SILENT_S and self._may_hold and best is None:
            self._go_dark(cause.reason)
            live.stand_by()
            self._cause = cause
            self._keep(cause.reason)

    def _consider_failback(self, live: Feed, now: float) -> None:
        armed = next((feed for feed in self.feeds if feed.state is FeedState.ARMED), None)
        if armed is not None:
            failback = self._cause.reason == "failback"
            if self._cause.automatic and (not failback or armed.judge.verdict.level is not Level.GOOD):
                armed.disarm()  # the live feed is well again, or the better one is not
            return
        if self._options.failback != "prefer-primary" or live is self._pinned or self.lock.locked(now):
            return
        better = preferred(self.feeds, live, self.air.tracks, self._options.clear_s)
        if better is not None and self._live_s >= self._options.dwell_s:
            self._cause = Cause("failback")
            self._arm(better)

    def first_of(self, feeds: Iterable[Feed]) -> Feed:
        """Return the best of *feeds*."""
        return min(feeds, key=lambda feed: rank(feed, self.air.tracks))

    # The cut.

    def switch(self, feed: Feed, now: float, reason: str = "manual") -> None:
        """Put *feed* on air by hand: at its next keyframe, or at once when nothing better is on air."""
        live = self.live_feed
        if live is not None:
            for other in self.feeds:
                other.disarm()
        if feed is live or feed not in self.feeds:
            return
        self._cause = Cause(reason, automatic=False)
        self._pinned = feed
        if feed.merging:
            self.promote(feed, self._cause)
        elif (live is None or live.judge.verdict.level is Level.DEAD) and feed.can_start:
            self._cut_to(feed, now, self._options.splice)
        else:
            feed.arm()

    def start_found(self, feed: Feed, now: float) -> None:
        """Put the armed *feed* on air: it has a new place to start."""
        self._cut_to(feed, now, "clean")

    def _cut_to(self, feed: Feed, now: float, how: str) -> None:
        mark = self._position()
        content_at = mark.content_at
        step = feed.step_ms / 1000
        packets = feed.replay_from(now if how == "clean" or self.live_feed is None else content_at + step)
        began = packets[0][0]
        fit = compatibility(self.air.tracks, feed.table.tracks)
        first = packets[0][1]
        renew = strays(self.air.recent(), self.air.tracks) and not parameter_sets(first)
        if renew:
            fit = max(fit, Compatibility.HEADERS)
        cut = after_all_shown(mark.next_dts, first, self.air.recent())
        self._leave()
        feed.go_live_with(packets, offset=cut - first.dts, cut=cut, now=now)
        previous = self._last_name
        self._on_air(feed)
        self.air.adopt(feed.table, cut, renew=renew)
        self.switches += 1
        self.report(  # before the first packet, so that who writes files or playlists knows what it begins
            Switched(
                previous=previous,
                feed=feed.name,
                reason=self._cause.reason,
                fault=self._cause.fault,
                how=how,
                cut_from_ms=mark.last_dts,
                cut_ms=cut,
                gap_ms=max(round((now - content_at) * 1000), 0),
                replayed_ms=max(round((content_at - began) * 1000), 0),
                missed_ms=max(round((began - content_at - step) * 1000), 0),
                fit=fit.name.lower(),
            )
        )
        feed.release(now)
        self._count_switch(feed, now)

    def _count_switch(self, feed: Feed, now: float) -> None:
        if self._cause.automatic:
            seconds = self.lock.switched(now)
            if seconds is not None:
                self.report(Locked(feed=feed.name, seconds=seconds))

    def _leave(self) -> None:
        """Take everybody off the air; those still connected stand by."""
        for feed in self.feeds:
            if feed.state in (FeedState.LIVE, FeedState.MERGED):
                if feed.merging:
                    self._paths.forget(feed)
                feed.stand_by()

    def _on_air(self, feed: Feed) -> None:
        self.live_feed = feed
        self._last_name = feed.name
        self._hold = None
        self._live_s = 0.0
        for other in self.feeds:
            other.disarm()

    def _arm(self, feed: Feed) -> None:
        for other in self.feeds:
            if other is not feed:
                other.disarm()
        feed.arm()

    def _position(self) -> Mark:
        if self.live_feed is not None:
            live = self.live_feed
            return Mark(live.next_dts, live.last_dts, live.content_at)
        return Mark(0, -1, 0.0) if self._hold is None else self._hold.mark

    # Nothing left.

    @property
    def _may_hold(self) -> bool:
        held_s = 0.0 if self._hold is None else self._hold.held_s
        return self._options.hold_s > held_s and self.air.started

    def _go_dark(self, reason: str) -> None:
        """The live feed leaves the air and nobody follows yet."""
        self._hold = Hold(self._position(), reason)
        self.live_feed = None

    def _keep(self, reason: str) -> None:
        """Keep subscribers if that is wanted; whoever can start first goes on air."""
        if not self.feeds and not self._may_hold:
            self.air.close(reason)
            return
        for feed in self.feeds:
            feed.arm()

    def _keep_holding(self, hold: Hold, now: float, seconds: float) -> None:
        """Show the slate; end the programme when nobody came in time."""
        begins = hold.count(seconds)
        hold_s = self._options.hold_s
        if not hold_s or not self.air.started:
            return
        if begins:
            slate, own = self._options.slate != "none", False
            if slate:
                clip = None if strays(self.air.recent(), self.air.tracks) else self.clip
                hold.show(self.air.tracks, self.air.recent(), now, clip)
                own = clip is not None and clip.fits(self.air.tracks)
            self.report(Held(reason=hold.reason, hold_s=hold_s, slate=slate, own=own))
            self.pace(now)
        if hold.held_s >= hold_s and not self.feeds:
            self.air.close("hold-expired")

    # Two paths of one encoder.

    def promote(self, feed: Feed, cause: Cause) -> None:
        """Call another merged feed the live one. Subscribers notice nothing: its frames pass already."""
        mark = self._position()
        if self.live_feed in self.feeds and self.live_feed is not None:
            self.live_feed.state = FeedState.MERGED
        previous = self._last_name
        feed.state = FeedState.LIVE
        self._on_air(feed)
        self.air.adopt(feed.table, mark.next_dts)
        self.switches += 1
        self.report(
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
