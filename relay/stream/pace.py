"""How fast a destination that fell behind may be given what waits for it.

The rule it guards (reliability.md P14): it is never given a burst of old media. Two seconds of it may leave at once,
the group of pictures that platforms ask for, and which brings whoever stalled for less back to the programme. The rest
leaves exactly as fast as it is shown: who gets more than that from an encoder that should be live is thrown out by some
platforms. So a destination stays as far behind as it is, until the encoder pauses or the outbox leaves a GOP out.

How fast it is shown the clock says, and so does the programme: an encoder whose clock runs fast, or one that sends
after a pause what it held back, must not fill the queue. What either allows may leave, and both count all that left:
in no span of time does more leave than the slack and what the faster of the two went on by. A backlog that shrank
with every hesitation of the network before the next packet would be a burst in slow motion.
"""

from __future__ import annotations

SLACK_MS = 2000.0
"""Stream time that may leave at once."""


class Pace:
    """Allows stream time as the clock runs, or as the programme goes on."""

    __slots__ = ("_at", "_by_clock", "_by_programme", "_newest", "_position")

    def __init__(self) -> None:
        self._by_clock = SLACK_MS
        self._by_programme = SLACK_MS
        self._at: float | None = None
        self._newest = 0
        self._position: int | None = None

    def until(self, oldest: int, newest: int, now: float) -> int:
        """Return the stream time before which packets may leave, when *oldest* to *newest* wait."""
        if self._at is not None:
            self._by_clock = min(SLACK_MS, self._by_clock + (now - self._at) * 1000.0)
            self._by_programme = min(SLACK_MS, self._by_programme + max(newest - self._newest, 0))
        self._at = now
        self._newest = max(newest, self._newest)
        if self._position is None or oldest > self._position + SLACK_MS:
            self._position = oldest  # there is nothing between: what never was costs no time
        return self._position + int(max(self._by_clock, self._by_programme)) + 1

    def jump(self) -> None:
        """Note that something was left out: the time between what left and what comes next costs nothing."""
        self._position = None

    def sent(self, newest: int) -> None:
        """Note that everything up to *newest* left."""
        if self._position is None or newest > self._position:
            step = 0 if self._position is None else newest - self._position
            self._by_clock -= step
            self._by_programme -= step
            self._position = newest
