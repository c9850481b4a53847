"""When framed bytes go out: at the end of the reactor turn, or merged for a while, and by itself later under load.

One Flusher serves every audience of the relay. A flush costs one system call per player whatever its size, so merging
is what saves CPU (speed.md). After the first packet of a flush was written we wait

* `merge_ms` when the operator asked for it, and
* `LOAD_SHARE` times as long as flushes take at the moment, so that sound and picture of a moment leave together.

With a handful of players that is nothing and a flush leaves at the end of the reactor turn; with 500 it is some
milliseconds; near the limit of a core it bounds the share of time that flushing may take, so capacity grows with load
and latency stays within about three flush times. What came while a flush ran has waited for its end already: that time
counts. Nobody waits for nothing: when no stream expects a packet before the moment (`Cadence`), it is now. A keyframe
does not wait either: copying its bytes is what it costs, and one system call less would not show.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

LOAD_SHARE = 1.25
"""Waiting time as a multiple of the flush time under load: flushing takes at most four ninths of the time."""

PAIRING_SHARE, PAIRING_S = 2.8, 0.012
"""Below that load a flush may wait longer, up to half a frame of AAC: by then every picture has met a sound, which is
what saves a third of the system calls. Waiting longer would join nothing more until the next sound is due.
It matters only for a stream whose tracks have a clock each: there the 99th percentile of latency at 500 players is
1.0 to 1.5 times nginx-rtmp's for it, by the state of the machine. OBS and FFmpeg let sound and picture go together:
nothing waits (benchmarks/RESULTS.md)."""

BIG = 32 * 1024
"""Bytes that are sent without waiting for more: the kernel copies them in the time of some system calls. The keyframes
of a stream of 1.5 Mbit/s and more, and every picture from 8 Mbit/s on."""

NOTICEABLE_S = 0.001
"""A flush time below this costs nothing worth a delay, and what is read so soon after a flush came during it."""

PUNCTUAL_S = 0.003
"""A packet that is read so far from its time still came at its time."""

MAX_WAIT_S = 0.08
"""Load never delays a flush longer than this, so p99 latency stays bounded at the edge of capacity."""

SMOOTHING = 0.2
"""Weight of the newest flush in the flush time we reckon with."""

MOST_OF_USUAL = 2.0
"""A flush counts as at most this multiple of the flush time so far: a keyframe is no sign of load."""


class Flusher:
    """Runs each registered flush once per flush moment."""

    log = Logger(namespace="relay.flusher")

    def __init__(self, clock: IReactorTime, merge_ms: int = 0) -> None:
        self._clock = clock
        self._merge_s = merge_ms / 1000.0
        self._due: dict[Callable[[], None], bool] = {}  # whether more is expected
        self._expecting = 0
        self._scheduled: IDelayedCall | None = None
        self._flush_s = 0.0
        self._took_s = 0.0
        self._ended_at = 0.0
        self.due_at = 0.0
        """When the next flush leaves, on the clock; in the past when none waits."""
        self.flushes = 0
        self.busy_s = 0.0

    def now(self) -> float:
        """The time of the clock that `due_at` counts in."""
        return self._clock.seconds()

    @property
    def tolerance_s(self) -> float:
        """How far from its time a packet may be read though it came at its time: a flush holds up the reading."""
        return max(PUNCTUAL_S, self._flush_s)

    def deadline(self, now: float) -> float:
        """Return when what is added at *now* leaves at the latest."""
        return now + self._wait(now) if self._scheduled is None else self.due_at

    def add(self, flush: Callable[[], None], *, expecting: bool | None = None) -> None:
        """Have *flush* called at the next flush moment, once.

        With *expecting* everybody waits for what it has still to get, until it calls `settle` or the moment comes.
        Who knows that nothing comes says False and does not wait for load; who cannot know goes along with the others.
        """
        if flush in self._due and not expecting:
            if expecting is False:
                self.settle(flush)
            return
        if expecting and not self._due.get(flush):
            self._expecting += 1
        self._due[flush] = bool(expecting)
        if self._scheduled is None:
            now = self._clock.seconds()
            wait = self._merge_s if expecting is False else self._wait(now)
            self.due_at = now + wait
            self._scheduled = self._clock.callLater(wait, self._run)
        elif expecting is False and not self._expecting:
            self.hurry()

    def settle(self, flush: Callable[[], None]) -> None:
        """Nothing more is expected for *flush*. When all who expected something have it, the moment is now."""
        if self._due.get(flush):
            self._due[flush] = False
            self._expecting -= 1
            if not self._expecting:
                self.hurry()

    def hurry(self) -> None:
        """Wait no longer for what load would join: something big is to be sent. `merge_ms` still holds."""
        if self._scheduled is not None and not self._merge_s and self.due_at:
            self.due_at = 0.0
            self._scheduled.reset(0)

    def _wait(self, now: float) -> float:
        flush_s = self._flush_s
        if flush_s < NOTICEABLE_S:
            return self._merge_s
        waited_s = self._took_s if now - self._ended_at < NOTICEABLE_S else 0.0
        wait_s = min(flush_s * PAIRING_SHARE, max(PAIRING_S, flush_s * LOAD_SHARE), MAX_WAIT_S)
        return max(wait_s - waited_s, self._merge_s)

    def flush_now(self) -> None:
        """Run what is due at once (shutdown, tests)."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._run()

    def _run(self) -> None:
        self._scheduled = None
        due, self._due, self._expecting = self._due, {}, 0
        started = self._clock.seconds()
        for flush in due:
            try:
                flush()
            except Exception:  # one stream's flush must not cost the others theirs
                self.log.failure("a flush failed")
        self._ended_at = self._clock.seconds()
        self._took_s = took = self._ended_at - started
        usual_s = max(self._flush_s, NOTICEABLE_S)
        self._flush_s += (min(took, usual_s * MOST_OF_USUAL) - self._flush_s) * SMOOTHING
        self.flushes += 1
        self.busy_s += took
