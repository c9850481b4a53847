"""The feeds of a stream that turn out to be paths of one encoder: put together, taken apart, and back to one.

Imports feeds and the merge. The rule it guards: whoever watches notices nothing, neither when feeds are merged nor when
one of them is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.media.packets import Role
from relay.stream.feeds import Feed, FeedState
from relay.stream.merge import Merge
from relay.stream.policy import Mode
from relay.stream.reports import Cause, MergeChanged
from relay.stream.tracksets import configuration

if TYPE_CHECKING:
    from relay.stream.failover import Failover

PROOFS = {"auto": 2, "merge": 1}
"""Pairs of equal keyframes that are proof enough, by mode."""


class Paths:
    """Which feeds of a stream are merged."""

    def __init__(self, failover: Failover, mode: Mode) -> None:
        self._failover = failover
        self._mode = mode
        self._merge: Merge | None = None
        self._past_copies = 0

    @property
    def copies_total(self) -> int:
        """Frames left out because another path had brought them already."""
        return self._past_copies + (0 if self._merge is None else self._merge.copies_total)

    @property
    def peers(self) -> list[Feed]:
        """The feeds on air together with the live one."""
        return [feed for feed in self._failover.feeds if feed.state is FeedState.MERGED]

    def watch(self) -> None:
        """Compare feeds as long as there are several; alone, a feed goes the short way."""
        if self._mode == "switch":
            return
        failover = self._failover
        live, feeds = failover.live_feed, failover.feeds
        if len(feeds) > 1 and self._merge is None:
            self._merge = Merge(
                floor=failover.last_dts, confirm=PROOFS[self._mode], matched=self._matched, strayed=self._strayed
            )
        if len(feeds) < 2 and not (live is not None and live.merging):
            self._past_copies = self.copies_total
            self._merge = None
        for feed in feeds:
            if feed.peers is not self._merge:
                feed.peers = self._merge
                if feed is live and not feed.catching_up:
                    feed.go_straight()

    def forget(self, feed: Feed) -> None:
        """*feed* is gone, or on air no more."""
        if self._merge is not None:
            self._merge.forget(feed)

    def settle(self, live: Feed) -> None:
        """Go the short way again when a merged feed is alone and has brought all that the others had."""
        merge = self._merge
        if merge is not None and live.merging and not self.peers and merge.passed_by(live.on_air_until):
            live.go_straight()
            self.watch()

    def _matched(self, one: Feed, other: Feed, delta: int) -> None:
        """Both carry the same frames; *one*'s clock is *delta* ahead."""
        live = self._failover.live_feed
        if one is not live and not one.merging:
            one, other, delta = other, one, -delta
        on_air = one is live or one.merging
        if not on_air or one.catching_up or other.merging or other is live or self._merge is None:
            return
        offset = one.offset + delta
        same = configuration(other.table.tracks) == configuration(self._failover.air.tracks)
        if same and self._merge.covers(other.kept(), offset):
            self._join(self._merge, one, other, offset)

    def _join(self, merge: Merge, one: Feed, other: Feed, offset: int) -> None:
        """Let *other* be on air together with *one*, and bring what it is ahead."""
        ahead = [packet for packet in other.kept() if packet.role is Role.FRAME]
        if not one.merging:
            one.merge(one.offset, FeedState.LIVE)
        other.merge(offset, FeedState.MERGED)
        for packet in ahead:
            packet.dts += offset
            if merge.admit(other, packet):
                self._failover.publish(packet)
        self._failover.report(MergeChanged(feed=other.name, merged=True, reason="equal-frames"))

    def _strayed(self, feed: Feed) -> None:
        """The frames of a merged feed are no copies any more."""
        failover, peers = self._failover, self.peers
        if feed is failover.live_feed:
            if not peers:
                return
            failover.promote(failover.first_of(peers), Cause("copies-differ"))
        self.forget(feed)
        feed.stand_by()
        failover.report(MergeChanged(feed=feed.name, merged=False, reason="copies-differ"))
