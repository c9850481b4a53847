"""Nobody is on air: how far the programme has come, how long it is held, and what is shown meanwhile.

Imports the slate. The rule it guards: the place where the next feed goes on is fixed when the last one leaves; it
moves only with what the slate shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from relay.media.packets import MediaKind, Packet, TrackSet
from relay.stream.clip import Clip
from relay.stream.slate import Slate

SLATE_DELAY_S = 0.5
"""The slate waits so long for the feed to come back: a repeated picture is seen."""


MAX_REORDER_MS = 500
"""Pictures that are shown later than they are decoded move a cut by no more than this."""


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

    def show(self, tracks: TrackSet, recent: Iterable[Packet], now: float, clip: Clip | None = None) -> None:
        """Begin the slate: the *clip* if it fits, else the last keyframe."""
        recent = tuple(recent)
        keyframe = next((packet for packet in recent if packet.keyframe), None)
        if keyframe is not None and clip is not None and clip.fits(tracks):
            keyframe = replace(keyframe, cts=0)
        start = self._mark.next_dts if keyframe is None else after_all_shown(self._mark.next_dts, keyframe, recent)
        self._slate = Slate(tracks, recent, start=start, now=now, clip=clip)

    def due(self, now: float) -> list[Packet]:
        """Return what the slate shows by *now*."""
        return [] if self._slate is None else self._slate.due(now)


def after_all_shown(cut: int, first: Packet, recent: Iterable[Packet]) -> int:
    """Return *cut*, or so much later that the picture *first* is shown after all pictures of *recent*, too.

    With B-frames the last picture that came may be meant for some frames after it is decoded; without this it would be
    shown at the same time as the first one behind the cut, or after it.
    """
    if first.kind is not MediaKind.VIDEO:
        return cut
    shown = max((packet.pts for packet in recent if packet.kind is MediaKind.VIDEO), default=-1)
    return cut if shown < cut + first.cts else min(shown + 1 - first.cts, cut + MAX_REORDER_MS)
