"""Which feed is the better one. Functions of what is known about feeds, no state.

Imports feeds and fit. The rule it guards: health first, then fit, then the operator's order, then age.
"""

from __future__ import annotations

from collections.abc import Iterable

from relay.media.packets import TrackSet
from relay.stream.feeds import Feed, FeedState
from relay.stream.fit import Compatibility, compatibility
from relay.stream.judge import Level
from relay.stream.policy import FailoverOptions

PROVEN_S = 2.0
"""A feed that is doubtful is left only for one that was without fault for so long."""

STANDING = (FeedState.STANDBY, FeedState.ARMED)


def rank(feed: Feed, tracks: TrackSet) -> tuple[int, bool, int]:
    """Return the place of *feed* in a programme of *tracks*; the lowest is the best."""
    fit = compatibility(tracks, feed.table.tracks)
    return (feed.judge.verdict.level, fit is Compatibility.CLASS, feed.priority)


def best_of(feeds: Iterable[Feed], tracks: TrackSet, below: Level) -> Feed | None:
    """Return the best of those that can go on air at once and are better than *below*."""
    standing = [
        feed for feed in feeds if feed.state in STANDING and feed.can_start and feed.judge.verdict.level < below
    ]
    return min(standing, key=lambda feed: rank(feed, tracks), default=None)


def may_leave(live: Feed, best: Feed, options: FailoverOptions, *, locked: bool) -> bool:
    """Whether *live* is bad enough, and *best* good enough, for a switch."""
    if live.judge.verdict.level is Level.DEAD:
        return True
    if options.failback == "manual" and best.priority < live.priority:
        return False
    return best.judge.clean_s >= PROVEN_S and not locked


def preferred(feeds: Iterable[Feed], live: Feed, tracks: TrackSet, clear_s: float) -> Feed | None:
    """Return the best feed of a better priority than *live* that is clean for long enough."""
    better = [
        feed for feed in feeds if feed.priority < live.priority and feed.can_start and feed.judge.clean_s >= clear_s
    ]
    return min(better, key=lambda feed: rank(feed, tracks), default=None)
