"""When framed bytes go out: at the end of the reactor turn, or merged for a while, and by itself later under load.

One Flusher serves every audience and destination of the relay. Each flush costs one system call per player, whatever
its size, so merging is what saves CPU (speed.md). Two rules decide the moment of the next flush after something was
written:

* not before `merge_ms` (0: the end of this reactor turn);
* not before as much time has passed since the last flush as that flush took. An idle relay flushes at once; a busy
  one spends at most half its time flushing and merges what arrives meanwhile, so capacity grows with load and
  latency stays within about two flush times.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

MAX_REST_S = 0.2
"""The load rule never delays a flush longer than this, so p99 latency stays bounded at the edge of capacity."""


class Flusher:
    """Runs each registered flush once per flush moment."""

    log = Logger(namespace="relay.flusher")

    def __init__(self, clock: IReactorTime, merge_ms: int = 0) -> None:
        self._clock = clock
        self._merge_s = merge_ms / 1000.0
        self._due: list[Callable[[], None]] = []
        self._scheduled: IDelayedCall | None = None
        self._not_before = 0.0
        self.flushes = 0
        self.busy_s = 0.0

    def add(self, flush: Callable[[], None]) -> None:
        """Have *flush* called at the next flush moment. The caller registers once until it is called."""
        self._due.append(flush)
        if self._scheduled is None:
            rest = self._not_before - self._clock.seconds()
            self._scheduled = self._clock.callLater(max(self._merge_s, rest, 0.0), self._run)

    def flush_now(self) -> None:
        """Run what is due at once (shutdown, tests)."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._run()

    def _run(self) -> None:
        self._scheduled = None
        due, self._due = self._due, []
        started = self._clock.seconds()
        for flush in due:
            try:
                flush()
            except Exception:  # one stream's flush must not cost the others theirs
                self.log.failure("a flush failed")
        ended = self._clock.seconds()
        took = ended - started
        self._not_before = ended + min(took, MAX_REST_S)
        self.flushes += 1
        self.busy_s += took
