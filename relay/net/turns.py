"""Which address of a target is tried next, and when. Arithmetic only: the caller gives `now`.

A target has one address or two. After two failed attempts in a row, or five seconds without an accepted publish, it is
the other one's turn (reliability.md P16). Each address keeps a back-off of its own, so two dead addresses are called
no more often than one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from relay.net.backoff import Backoff, Pace

ATTEMPTS = 2
"""Failed attempts in a row after which the other address is tried."""

PATIENCE_S = 5.0
"""Without an accepted publish for this long the other address is tried. Doubles while neither accepts."""

MAX_PATIENCE_S = 20.0
"""Enough for every phase of a slow server, and for one that never says that a publish has started."""

SHORT_S = 10.0
"""An accepted session that ends sooner was a failed attempt: some platforms refuse in this way (rtmp.md 5.10)."""


@dataclass(slots=True)
class _Address:
    backoff: Backoff
    due: float = 0.0


class Turns:
    """The addresses of one target.

    Attributes:
        current: index of the address that is tried or used now; 0 is the primary.
    """

    def __init__(self, count: int, uniform: Callable[[float, float], float], *, retry_s: float = 0.0) -> None:
        self.current = 0
        self._addresses = [_Address(Backoff(uniform)) for _ in range(count)]
        self._retry_s = retry_s
        self._failures = 0
        self._since: float | None = None
        self._switches = 0
        self._other_answers = False

    @property
    def _patience_s(self) -> float:
        return min(PATIENCE_S * 2.0 ** min(self._switches // 2, 8), MAX_PATIENCE_S)

    def begin(self, now: float) -> float | None:
        """An attempt begins. Return the seconds it may take, None when there is no other address."""
        if len(self._addresses) == 1:
            return None
        since = self._since
        if since is None or self._failures >= ATTEMPTS or now >= since + self._patience_s:
            self._since = since = now  # the other one was not due: a whole turn for this one
        return since + self._patience_s - now

    def accepted(self) -> None:
        """The publish was accepted."""
        self._since = None
        self._switches = 0
        self._other_answers = False

    def answers(self) -> None:
        """The other address was asked and answers: it is tried as soon as this one ends."""
        self._other_answers = True

    def failed(self, pace: Pace, now: float, *, lived_s: float = 0.0) -> float:
        """The attempt failed, or the session ended after *lived_s*. Choose the address; return the seconds to wait."""
        address = self._addresses[self.current]
        address.backoff.lived(lived_s)
        address.due = now + max(address.backoff.next_wait(pace), self._retry_s)
        self._failures = 0 if lived_s >= SHORT_S else self._failures + 1
        since = self._since = now if self._since is None else self._since
        if len(self._addresses) == 1:
            return address.due - now
        over = now if self._other_answers or self._failures >= ATTEMPTS else max(since + self._patience_s, now)
        other_due = over if self._other_answers else max(self._addresses[1 - self.current].due, over)
        if other_due > address.due:
            return address.due - now
        self._switch()
        return other_due - now

    def _switch(self) -> None:
        self.current = 1 - self.current
        self._failures = 0
        self._since = None
        self._switches += 1
        self._other_answers = False
