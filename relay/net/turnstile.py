"""How often one feed may be taken: an encoder that reconnects without end is slowed down, not its destinations.

A few quick returns are free, because people press the button again; after that one publish a second goes through and
the others wait their turn. Who was kicked is kept out for as long as was said. Arithmetic on `now`; the caller does the
waiting.
"""

from __future__ import annotations

from collections import OrderedDict

FREE = 5
"""Publishes of one feed that need not wait (reliability.md case 126)."""

PER_S = 1.0
"""Publishes a second after that."""

LONGEST_WAIT_S = 8.0
"""Who would have to wait longer is refused: the command deadline would cut it off anyway."""

REMEMBERED = 4096
"""Feeds whose publishes are remembered; the oldest is forgotten first."""


class Turnstile:
    """Token buckets by stream and feed, and who is kept out."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        self._barred: dict[tuple[str, str], float] = {}

    def bar(self, stream: str, feed: str, seconds: float, now: float) -> None:
        """Keep a feed out for so long. Those whose time is over are forgotten."""
        self._barred = {key: until for key, until in self._barred.items() if until > now}
        self._barred[stream, feed] = now + seconds

    def barred_s(self, stream: str, feed: str, now: float) -> float:
        """Return for how many seconds more a feed is kept out; 0 when it may come."""
        return max(self._barred.get((stream, feed), now) - now, 0.0)

    def wait_s(self, stream: str, feed: str, now: float) -> float | None:
        """Count one publish; return the seconds it has to wait, or None when it must be refused."""
        key = (stream, feed)
        tokens, at = self._buckets.get(key, (float(FREE), now))
        tokens = min(float(FREE), tokens + (now - at) * PER_S) - 1.0
        wait = max(0.0, -tokens / PER_S)
        if wait > LONGEST_WAIT_S:
            return None
        self._buckets[key] = (tokens, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return wait
