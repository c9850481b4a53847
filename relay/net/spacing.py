"""Keeps fifty targets that lost the same host from coming back in the same instant (reliability.md rule 10, F17).

Arithmetic only. Each host has a row of its own, so one host never makes another wait. The rule it guards: a lone
target is never held back, and a crowd is spread over `CROWD_S` and no more.
"""

from __future__ import annotations

from collections.abc import Callable

GAP_S = 0.05
"""Between two attempts at one host: twenty a second is no attack, and fifty streams are back within 2.5 s."""

CROWD_S = 5.0
"""A crowd that is longer than this row is spread over it at random."""

MAX_HOSTS = 1_000
"""Rows after which those that are over are forgotten."""


class HostSpacing:
    """The rows of all hosts."""

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self._free: dict[str, float] = {}

    def wait(self, host: str, now: float) -> float:
        """Return the seconds that an attempt at *host* has to wait from *now*, when it is due; 0 for the first."""
        free = max(self._free.get(host, 0.0), now)
        if free > now + CROWD_S:
            return self._uniform(0.0, CROWD_S)
        if len(self._free) >= MAX_HOSTS:
            self._free = {known: moment for known, moment in self._free.items() if moment > now}
        self._free[host] = free + GAP_S
        return free - now
