"""What an operator may set about failover, and the small rules that need no packets: ranks and the flap lock.

Imports nothing of ours. The rule it guards: a decision depends on numbers that can
be shown, never on the order of calls.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

FLAP_SWITCHES = 3
"""So many automatic switches within `FLAP_WINDOW_S` are a fault of their own (P10)."""

FLAP_WINDOW_S = 60.0

LOCK_S = 60.0
"""First lock; every further one is twice as long."""

MAX_LOCK_S = 300.0

CALM_S = 600.0
"""After so long without a lock the next one begins at `LOCK_S` again."""

Mode = Literal["auto", "switch", "merge"]
Splice = Literal["fast", "clean"]
Failback = Literal["stay", "prefer-primary", "manual"]
CleanEnd = Literal["failover", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverOptions:
    """``[streams.S.failover]``; `relay.config.Failover` says what each is for. A limit of 0 is no limit."""

    mode: Mode = "auto"
    splice: Splice = "fast"
    video_stall_ms: int = 1000
    audio_stall_ms: int = 3000
    bitrate_percent: int = 30
    skew_ms: int = 2000
    keyframe_intervals: int = 3
    frozen_picture_s: float = 5.0
    failback: Failback = "stay"
    clear_s: float = 10.0
    dwell_s: float = 30.0
    hold_s: float = 60.0
    slate: str = "auto"
    """``auto``, ``none``, or the path of a picture or clip."""
    on_clean_end: CleanEnd = "failover"


class FlapLock:
    """Counts automatic switches; three in a minute lock the stream to the feed it has, longer each time.

    Attributes:
        until: when the lock opens again; in the past while there is none.
        locks: how often it closed.
    """

    def __init__(self) -> None:
        self.until = float("-inf")
        self.locks = 0
        self._length = LOCK_S
        self._switches: deque[float] = deque(maxlen=FLAP_SWITCHES)

    def locked(self, now: float) -> bool:
        """Whether only a dead feed is left at *now*."""
        return now < self.until

    def switched(self, now: float) -> float | None:
        """Count a switch; return for how many seconds the lock has closed, None when it has not."""
        self._switches.append(now)
        if len(self._switches) < FLAP_SWITCHES or now - self._switches[0] > FLAP_WINDOW_S:
            return None
        if now - self.until > CALM_S:
            self._length = LOCK_S
        length, self._length = self._length, min(self._length * 2, MAX_LOCK_S)
        self.until = now + length
        self.locks += 1
        self._switches.clear()
        return length
