"""How late the reactor runs its timers: the one number that says whether anything blocks it, and where it stood then.

A probe asks to be called every `interval_s` and measures how much later it was. A hook that blocks for 50 ms shows as
a probe that came 50 ms late. What it was doing meanwhile an `Onlooker` says, a thread that is not held up with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from relay.net.onlooker import Onlooker, Stack, brief

log = Logger()

INTERVAL_S = 0.25
"""Between two probes."""
WARN_MS = 250.0
"""Encoders and players notice from here on; reliability wants somebody to look."""
WARN_EVERY_S = 10.0
"""One line in this time, with the worst of it: a blocked loop must not also flood the log."""
STUCK_S = 5.0
"""Players stall and platforms are about to give up: whoever looks at the log now needs the whole stack."""


class LagMonitor(Service):
    """Measures while it runs. Reading costs a sort of the window; the probe itself about 3 µs."""

    name = "lag"

    def __init__(
        self,
        clock: IReactorTime,
        *,
        interval_s: float = INTERVAL_S,
        window_s: float = 60.0,
        onlooker: Onlooker | None = None,
    ) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._late: deque[float] = deque(maxlen=round(window_s / interval_s))
        self._due = 0.0
        self._probe: IDelayedCall | None = None
        self._worst_unreported = 0.0
        self._worst_stack: Stack = ()
        self._may_warn_at = 0.0
        self._onlooker = onlooker

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
        if self._onlooker is not None:
            self._onlooker.start()

    def stopService(self) -> None:
        """Stop probing."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._onlooker is not None:
            self._onlooker.stop()
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
        if late_ms > self._worst_unreported:
            self._worst_unreported = late_ms
            self._worst_stack = () if self._onlooker is None else self._onlooker.stack
        if self._worst_unreported > WARN_MS and now >= self._may_warn_at:
            self._warn()
            self._may_warn_at = now + WARN_EVERY_S
        if self._onlooker is not None:
            self._onlooker.beat()
        self._schedule()

    def _warn(self) -> None:
        late_ms, stack = round(self._worst_unreported), self._worst_stack
        self._worst_unreported, self._worst_stack = 0.0, ()
        if stack:
            log.warn("the reactor was blocked for {late_ms} ms in {where}", late_ms=late_ms, where=brief(stack))
        else:
            log.warn("the reactor was blocked for {late_ms} ms", late_ms=late_ms)


def make_lag_monitor(clock: IReactorTime, plugin_of: Callable[[str], str]) -> LagMonitor:
    """Return a monitor with an onlooker, which finds the plugin by *plugin_of* the module."""
    onlooker = Onlooker(
        clock.seconds,
        interval_s=INTERVAL_S,
        late_s=WARN_MS / 1000,
        stuck_s=STUCK_S,
        on_stuck=_tell_stuck,
        plugin_of=plugin_of,
    )
    return LagMonitor(clock, onlooker=onlooker)


def _tell_stuck(late_s: float, stack: Stack) -> None:
    log.error(
        "the reactor has been blocked for {late_s} s in {where}; innermost first: {stack}",
        late_s=round(late_s, 1),
        where=brief(stack) or "?",
        stack=[str(place) for place in stack],
    )
