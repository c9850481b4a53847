"""Blocking reload: what a player asks a playlist to hold back for (RFC 8216bis 6.2.5), and the list of those who wait.

The rule it guards: a request is held only for what comes next; whoever asks for more, or for nonsense, is told at once,
and nobody waits longer than three target durations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

BATCH = 64
"""Answers in one turn of the reactor: a thousand viewers who wait for one part must not hold up the encoder's bytes."""

_MOST_DIGITS = 18


class BadDirectiveError(Exception):
    """The query cannot be answered; the message is for its sender."""


@dataclass(frozen=True, slots=True)
class Directives:
    """What `_HLS_msn`, `_HLS_part` and `_HLS_skip` ask for."""

    msn: int | None = None
    part: int | None = None
    skip: bool = False


class Growing(Protocol):
    """A playlist as those who wait for it see it."""

    @property
    def last_number(self) -> int:
        """Number of the last complete segment; one less than the first if there is none yet."""
        ...

    @property
    def over(self) -> bool:
        """Nothing will be added."""
        ...

    def has(self, number: int, part: int | None) -> bool:
        """Whether it holds this segment, or this part of it, or anything later."""
        ...


def read_directives(query: Mapping[bytes, list[bytes]]) -> Directives:
    """Read a query; parameters that are not ours are ignored, unknown ``_HLS_`` ones too.

    Raises:
        BadDirectiveError: a number that is none, or a part without its segment.
    """
    msn, part = _number(query, b"_HLS_msn"), _number(query, b"_HLS_part")
    if part is not None and msn is None:
        raise BadDirectiveError("_HLS_part needs _HLS_msn")
    return Directives(msn=msn, part=part, skip=query.get(b"_HLS_skip", [b""])[0] in (b"YES", b"v2"))


def _number(query: Mapping[bytes, list[bytes]], name: bytes) -> int | None:
    values = query.get(name)
    if values is None:
        return None
    if len(values) != 1 or not values[0].isdigit() or len(values[0]) > _MOST_DIGITS:
        raise BadDirectiveError(f"{name.decode()} must be one number")
    return int(values[0])


def must_wait(playlist: Growing, asked: Directives) -> bool:
    """Whether *asked* is for what does not exist yet.

    Raises:
        BadDirectiveError: it is further ahead than the next segment but one.
    """
    if asked.msn is None or playlist.over:
        return False
    if asked.msn > playlist.last_number + 2:
        raise BadDirectiveError("_HLS_msn is too far ahead")
    return not playlist.has(asked.msn, asked.part)


class Waiters:
    """Requests that wait for one playlist.

    Each has a test of whether it may go, and is called with True when it may, with False when its time is over.
    """

    def __init__(self, clock: IReactorTime, limit: int) -> None:
        self._clock = clock
        self._limit = limit
        self._waiting: dict[object, tuple[Callable[[], bool], Callable[[bool], None], float]] = {}
        self._ready: dict[object, tuple[Callable[[bool], None], bool]] = {}
        self._draining = False

    def __len__(self) -> int:
        return len(self._waiting) + len(self._ready)

    def add(self, test: Callable[[], bool], go: Callable[[bool], None], seconds: float) -> object | None:
        """Call *go* when *test* is true, after *seconds* at the latest; None when too many wait already."""
        if len(self) >= self._limit:
            return None
        ticket = object()
        self._waiting[ticket] = (test, go, self._clock.seconds() + seconds)
        return ticket

    def forget(self, ticket: object) -> None:
        """The one who waited is gone."""
        self._waiting.pop(ticket, None)
        self._ready.pop(ticket, None)

    def changed(self) -> None:
        """Let go whoever can be answered now."""
        for ticket, (test, go, _) in tuple(self._waiting.items()):
            if test():
                del self._waiting[ticket]
                self._ready[ticket] = (go, True)
        self._drain_soon()

    def tick(self) -> None:
        """Let go whoever has waited long enough."""
        now = self._clock.seconds()
        for ticket, (_, go, deadline) in tuple(self._waiting.items()):
            if now >= deadline:
                del self._waiting[ticket]
                self._ready[ticket] = (go, False)
        self._drain_soon()

    def _drain_soon(self) -> None:
        if self._ready and not self._draining:
            self._draining = True
            self._clock.callLater(0, self._drain)

    def _drain(self) -> None:
        self._draining = False
        for ticket in tuple(self._ready)[:BATCH]:
            go, good = self._ready.pop(ticket)
            go(good)
        self._drain_soon()
