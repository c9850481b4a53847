"""Says less while a stream flaps: one message a minute, with the newest of what there is to say (reliability.md P10).

Arithmetic only: the caller gives `now` and asks again when something is due. The rule it guards: less is said, but the
last word on each feed is never lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from relay.api import (
    Event,
    FailoverLocked,
    FeedEnded,
    FeedHealthChanged,
    FeedMerged,
    FeedStarted,
    FeedSwitched,
    StreamEnded,
    StreamHeld,
)

EVERY_S = 60.0
MAX_WITHHELD = 50
"""Events of one stream; it has a few feeds with a few kinds of event."""

FLAPPING = FailoverLocked | FeedEnded | FeedHealthChanged | FeedMerged | FeedStarted | FeedSwitched | StreamHeld
"""Events that come in a storm when an encoder comes and goes."""

Told = tuple[Event, int]
"""An event, and how many of its kind were left out before it."""


@dataclass(slots=True)
class _Locked:
    """A stream whose failover is locked."""

    until: float
    next_at: float
    withheld: dict[tuple[type[Event], str], Told] = field(default_factory=dict)


class Flapping:
    """Withholds events of streams that flap. *left_out* counts those that nobody was told."""

    def __init__(self) -> None:
        self.left_out = 0
        self._streams: dict[str, _Locked] = {}

    def take(self, event: Event, now: float) -> list[Told]:
        """Return what to tell now that *event* happened: itself, nothing, or what was withheld and itself."""
        if isinstance(event, StreamEnded):
            return [*self._release(event.stream), (event, 0)]
        if not isinstance(event, FLAPPING):
            return [(event, 0)]
        locked = self._streams.get(event.stream)
        if locked is not None and now < locked.until:
            if isinstance(event, FailoverLocked):
                locked.until = max(locked.until, now + event.seconds)
            self._withhold(locked, event)
            return []
        before = self._release(event.stream)
        if isinstance(event, FailoverLocked):
            self._streams[event.stream] = _Locked(until=now + event.seconds, next_at=now + EVERY_S)
        return [*before, (event, 0)]

    def _withhold(self, locked: _Locked, event: FLAPPING) -> None:
        place = (type(event), "" if isinstance(event, FeedSwitched | StreamHeld) else event.feed)
        old = locked.withheld.pop(place, None)
        if old is None and len(locked.withheld) >= MAX_WITHHELD:
            old = locked.withheld.pop(next(iter(locked.withheld)))
        self.left_out += old is not None
        locked.withheld[place] = (event, 0 if old is None else old[1] + 1)

    def _release(self, stream: str) -> list[Told]:
        locked = self._streams.pop(stream, None)
        return [] if locked is None else list(locked.withheld.values())

    def due(self, now: float) -> Iterator[Told]:
        """Yield what was withheld for a minute, and forget streams whose lock is over."""
        for stream, locked in tuple(self._streams.items()):
            if now < locked.next_at:
                continue
            yield from locked.withheld.values()
            locked.withheld.clear()
            locked.next_at += EVERY_S
            if now >= locked.until:
                del self._streams[stream]

    def next_due(self) -> float | None:
        """Return when `due` has something to do; None: not before the next event."""
        return min((locked.next_at for locked in self._streams.values()), default=None)
