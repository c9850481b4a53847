"""How late the reactor runs its timers: the one number that says whether anything blocks it.

A probe asks to be called every `interval_s` and measures how much later it was. A hook that blocks for 50 ms shows as
a probe that came 50 ms late.
"""

from __future__ import annotations

from collections import deque

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

log = Logger()

WARN_MS = 250.0
"""Encoders and players notice from here on; reliability wants somebody to look."""
WARN_EVERY_S = 10.0
"""One line in this time, with the worst of it: a blocked loop must not also flood the log."""


class LagMonitor(Service):
    """Measures while it runs. Reading costs a sort of the window; the probe itself about 3 µs."""

    name = "lag"

    def __init__(self, clock: IReactorTime, *, interval_s: float = 0.25, window_s: float = 60.0) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._late: deque[float] = deque(maxlen=round(window_s / interval_s))
        self._due = 0.0
        self._probe: IDelayedCall | None = None
        self._worst_unreported = 0.0
        self._may_warn_at = 0.0

    @property
    def p99_ms(self) -> float:
        """99 of 100 probes in the window were at most this late."""
        if not self._late:
            return 0.0
        late = sorted(self._late)
        return late[min(len(late) - 1, int(len(late) * 0.99))]

    @property
    def max_ms(self) -> float:
        """The latest probe in the window."""
        return max(self._late, default=0.0)

    def startService(self) -> None:
        """Begin probing."""
        super().startService()  # type: ignore[no-untyped-call]
        self._schedule()

    def stopService(self) -> None:
        """Stop probing."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None

    def _schedule(self) -> None:
        self._due = self._clock.seconds() + self._interval_s
        self._probe = self._clock.callLater(self._interval_s, self._measure)

    def _measure(self) -> None:
        now = self._clock.seconds()
        late_ms = max(0.0, (now - self._due) * 1000)
        self._late.append(late_ms)
        self._worst_unreported = max(self._worst_unreported, late_ms)
        if self._worst_unreported > WARN_MS and now >= self._may_warn_at:
            log.warn("the reactor was blocked for {late_ms} ms", late_ms=round(self._worst_unreported))
            self._worst_unreported = 0.0
            self._may_warn_at = now + WARN_EVERY_S
        self._schedule()
