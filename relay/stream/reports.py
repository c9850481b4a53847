"""What a stream says about its feeds: plain data for events, log lines and counters. Imports the judge's words."""

from __future__ import annotations

from dataclasses import dataclass

from relay.stream.judge import Fault, Level


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a feed goes on air."""

    reason: str
    fault: Fault | None = None
    automatic: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """Another feed is on air.

    Attributes:
        previous, feed: names of the feeds; *previous* is the last one that was on air, even when it is long gone.
        reason: why: a trigger of the judge, how the previous feed ended, ``manual``, ``failback`` or ``returned``.
        fault: the trigger with its numbers, None when nothing was wrong.
        how: ``fast``, ``clean`` or ``merged``.
        cut_from_ms, cut_ms: stream time of the last frame before the cut, and of the first one behind it.
        gap_ms: time without any frame of a feed.
        replayed_ms: content that was shown again, because the keyframe lies so far before the cut.
        missed_ms: content that was not shown at all.
        fit: ``same``, ``headers`` or ``class``, see `relay.stream.fit.Compatibility`.
    """

    previous: str
    feed: str
    reason: str
    fault: Fault | None = None
    how: str = "clean"
    cut_from_ms: int = 0
    cut_ms: int = 0
    gap_ms: int = 0
    replayed_ms: int = 0
    missed_ms: int = 0
    fit: str = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthChanged:
    """A feed became better or worse."""

    feed: str
    level: Level
    fault: Fault | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """No feed is left; subscribers are kept for *hold_s*. *slate*: they see the last picture and hear nothing, or, with
    *own*, what the operator chose instead."""

    reason: str
    hold_s: float
    slate: bool
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """Too many switches: only a dead feed is left for *seconds*."""

    feed: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeChanged:
    """*feed* carries the same frames as the live one, and is merged with it; or it is not any more."""

    feed: str
    merged: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlateMade:
    """The operator's own slate is ready, or *problem* says why the last picture will be shown instead."""

    problem: str = ""
    nbytes: int = 0
    seconds: float = 0.0


Report = Switched | HealthChanged | Held | Locked | MergeChanged | SlateMade
