"""What viewers have of the disk: a file is read whole, and held until its viewer has taken it.

The rule it guards: viewers who do not read hold a bounded part of memory, however many they are and whatever they ask.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from .options import MIB

MAX_LENT = 256 * MIB
"""Bytes of files that are on their way to viewers: 80 segments of 4 s at 6 Mbit/s at one moment, each of which takes a
tenth of a second or so. Whoever comes then is told to come again."""


class Lending:
    """Counts what is held for viewers."""

    def __init__(self) -> None:
        self.held = 0

    @property
    def is_full(self) -> bool:
        """Whether nobody can be given more."""
        return self.held >= MAX_LENT

    def lend(self, size: int, finished: Deferred[None]) -> None:
        """Count *size* bytes until *finished* fires, however it does."""
        self.held += size

        def back(_: object) -> None:
            self.held -= size

        finished.addBoth(back)
