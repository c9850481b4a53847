"""A number of places, and a queue before them.

What `DeferredSemaphore` does, but a place that is given back at once is not handed on from within: when the service is
found gone, a thousand who wait are refused one after the other and not a thousand calls deep.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred


class Turns:
    """``async with turns:`` waits for a place, first come, first served."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._queue: deque[Deferred[None]] = deque()
        self._handing_out = False

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._queue)

    async def __aenter__(self) -> None:
        if self._free and not self._queue:
            self._free -= 1
            return
        turn: Deferred[None] = Deferred(self._queue.remove)
        self._queue.append(turn)
        await turn

    async def __aexit__(self, *_: object) -> None:
        self._free += 1
        self._hand_out()

    def _hand_out(self) -> None:
        if self._handing_out:
            return
        self._handing_out = True
        try:
            while self._free and self._queue:
                self._free -= 1
                self._queue.popleft().callback(None)
        finally:
            self._handing_out = False
