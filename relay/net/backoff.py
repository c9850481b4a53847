"""When to try a destination again. Arithmetic only: the caller gives `now` and a source of randomness.

`min(cap, first * 2^n) * uniform(0.5, 1.0)`: the jitter keeps fifty streams that lost the same network from coming
back in the same instant (reliability.md P13, rule 10); who was refused never comes back before `least`. It never gives
up; it only slows down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds before the first retry and the longest wait; and the shortest, whatever the jitter says."""

    first_s: float
    cap_s: float
    least_s: float = 0.0


QUICK = Pace(first_s=0.5, cap_s=30.0)
"""The network failed or the destination fell over: be back as soon as it is."""

SLOW = Pace(first_s=15.0, cap_s=300.0, least_s=15.0)
"""The destination said no (wrong key, name taken, event not started): a person has to do something first."""

EARLY = Pace(first_s=15.0, cap_s=60.0, least_s=15.0)
"""Accepted and closed at once, again and again: that is a wrong key on some platforms, a broken server on others."""

STABLE_S = 60.0
"""A session this long was good: the next failure starts from the beginning again."""


class Backoff:
    """The waits of one destination."""

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self.failures = 0
        self._pace = QUICK

    def lived(self, seconds: float) -> None:
        """A session that was accepted has ended after *seconds*."""
        if seconds >= STABLE_S:
            self.failures = 0

    def next_wait(self, pace: Pace) -> float:
        """Count one failure and return the seconds to wait. Changing the pace starts that pace from its beginning."""
        if pace is not self._pace:
            self._pace = pace
            self.failures = 0
        wait = min(pace.cap_s, pace.first_s * 2.0 ** min(self.failures, 16))
        self.failures += 1
        return max(wait * self._uniform(0.5, 1.0), pace.least_s)
