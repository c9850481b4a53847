"""Nobody is on air: how far the programme has come, how long it is held, and what is shown meanwhile.

Imports the slate. The rule it guards: the place where the next feed goes on is fixed when the last one leaves; it
moves only with what the slate shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relay.media.packets import Packet, TrackSet
from relay.stream.slate import Slate

SLATE_DELAY_S = 0.5
"""The slate waits so long for the feed to come back: a repeated picture is seen."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the programme has come: stream times, and when the newest content that was shown had arrived."""

    next_dts: int
    last_dts: int
    content_at: float


class Hold:
    """One time without a feed.

    Attributes:
        reason: why there is none.
        held_s: running seconds so far.
    """

    def __init__(self, mark: Mark, reason: str = "") -> None:
        self.reason = reason
        self.held_s = 0.0
        self._mark = mark
        self._slate: Slate | None = None

    @property
    def mark(self) -> Mark:
        """Where the programme stands."""
        slate, mark = self._slate, self._mark
        return mark if slate is None else Mark(slate.next_dts, slate.last_dts, mark.content_at)

    @property
    def pacing(self) -> bool:
        """Whether the slate is shown."""
        return self._slate is not None

    def count(self, seconds: float) -> bool:
        """Count running time; return whether it is time for the slate now."""
        before, self.held_s = self.held_s, self.held_s + seconds
        return before < SLATE_DELAY_S <= self.held_s

    def show(self, tracks: TrackSet, recent: Iterable[Packet], now: float) -> None:
        """Begin the slate."""
        self._slate = Slate(tracks, recent, start=self._mark.next_dts, now=now)

    def due(self, now: float) -> list[Packet]:
        """Return what the slate shows by *now*."""
        return [] if self._slate is None else self._slate.due(now)
