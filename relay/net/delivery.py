"""What is known about delivery, and how far that goes.

``connected``: the destination accepted the publish. ``accepted``: its machine takes what we send, by its own
acknowledgements or its kernel's. ``confirmed`` or ``denied``: a plugin asked the platform. The rule it guards: what was
known once is not claimed for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime

LOOK_S = 1.0
"""Between two looks at the counters."""

FRESH_S = 5.0
"""Without progress for so long the destination is no longer said to take anything."""

STALL_S = 10.0
"""Without progress for this long while bytes wait, the attempt is over (P15)."""

CRAWL_BYTES = 4096
"""Who takes less than this in `STALL_S` takes nothing: not even a telephone's sound would fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """What a platform says of a programme, by a plugin that asked it."""

    plugin: str
    confirmed: bool
    detail: str = ""


class Progress:
    """Whether one connection's counters of taken bytes move.

    Attributes:
        moves: they did within the last `FRESH_S`.
    """

    __slots__ = ("_since_look", "_still_s", "_taken", "moves")

    def __init__(self) -> None:
        self.moves = False
        self._taken: int | None = None
        self._since_look = 0.0
        self._still_s = 0.0

    def tick(self, seconds: float, taken: Callable[[], int]) -> bool:
        """Count *seconds*; look when it is time. True when `moves` changed."""
        self._since_look += seconds
        if self._since_look < LOOK_S:
            return False
        passed, self._since_look = self._since_look, 0.0
        before, self._taken = self._taken, taken()
        if before is not None and self._taken > before:
            self._still_s = 0.0
            moves = True
        else:
            self._still_s += passed
            moves = self.moves and self._still_s < FRESH_S
        changed, self.moves = moves is not self.moves, moves
        return changed


class Stall:
    """Whether a destination that we wait for takes anything at all.

    Its socket says only rarely that it takes more: a slow one is heard of by what its kernel acknowledges.
    """

    __slots__ = ("_seconds", "_taken")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._taken = 0

    def moved(self) -> None:
        """It took something."""
        self._seconds = 0.0

    def tick(self, seconds: float, waiting: bool, taken: Callable[[], int]) -> bool:
        """Count *seconds* while we are *waiting*; True when it took nothing for `STALL_S`."""
        self._seconds += seconds
        if waiting:
            now = taken()
            if now - self._taken < CRAWL_BYTES:
                return self._seconds >= STALL_S
            self._taken = now
        self._seconds = 0.0
        return False


class Delivery:
    """What is known about one target's delivery.

    Attributes:
        confirmation: what the platform says, while that holds.
    """

    def __init__(self, clock: IReactorTime, look: Callable[[], str], tell: Callable[[], None]) -> None:
        """*look* says what we see ourselves: ``connected``, ``accepted``, or nothing while not live."""
        self.confirmation: Confirmation | None = None
        self._clock = clock
        self._look = look
        self._tell = tell
        self._told = ""
        self._forget: IDelayedCall | None = None

    @property
    def word(self) -> str:
        """How far delivery is known: ``connected``, ``accepted``, ``confirmed`` or ``denied``; empty while not live."""
        seen = self._look()
        if self.confirmation is None or not seen:
            return seen
        return "confirmed" if self.confirmation.confirmed else "denied"

    def confirm(self, confirmation: Confirmation | None, valid_s: float = 0.0) -> bool:
        """Note for *valid_s* what the platform says; None: forget it. False when the target is not live."""
        forget, self._forget = self._forget, None
        if forget is not None:
            forget.cancel()
        live = bool(self._look())
        self.confirmation = confirmation if live else None
        if self.confirmation is not None:
            self._forget = self._clock.callLater(valid_s, self._run_out)
        self.update()
        return live

    def _run_out(self) -> None:
        self._forget = None
        self.confirm(None)

    def update(self) -> None:
        """Tell what changed."""
        word = self.word
        if word != self._told:
            self._told = word
            self._tell()
