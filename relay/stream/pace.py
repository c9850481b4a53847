"""How fast a destination that fell behind may be given what waits for it.

The rule it guards (reliability.md P14): it is never given a burst of old media. Two seconds of it may leave at once,
the group of pictures that platforms ask for; the rest leaves a tenth faster than it is shown, so that nothing is lost
and four seconds are caught up in twenty. Whoever is not behind never notices.

Why not exactly as fast as it is shown: a backlog would stay for the rest of the show, with a framing of its own for a
destination that has long been well, and an encoder whose clock is a little fast would fill the queue until a group of
pictures is dropped. Leaving out up to the newest keyframe instead would lose seconds that nothing forbids to send. A
tenth more is less than an encoder's rate varies by itself.
"""

from __future__ import annotations

SLACK_MS = 2000.0
"""Stream time that may leave at once."""

SPEED = 1.1
"""Stream time per time of the clock, while there is a backlog."""


class Pace:
    """Allows stream time as the clock runs."""

    __slots__ = ("_at", "_credit_ms", "_position")

    def __init__(self) -> None:
        self._credit_ms = SLACK_MS
        self._at: float | None = None
        self._position: int | None = None

    def until(self, oldest: int, now: float) -> int:
        """Return the stream time before which packets may leave, when *oldest* is the first one that waits."""
        if self._at is not None:
            self._credit_ms = min(SLACK_MS, self._credit_ms + (now - self._at) * 1000.0 * SPEED)
        self._at = now
        if self._position is None or oldest > self._position + SLACK_MS:
            self._position = oldest  # there is nothing between: what was left out costs no time
        return self._position + int(self._credit_ms) + 1

    def sent(self, newest: int) -> None:
        """Note that everything up to *newest* left."""
        if self._position is None or newest > self._position:
            self._credit_ms -= 0 if self._position is None else newest - self._position
            self._position = newest
