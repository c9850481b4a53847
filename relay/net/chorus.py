"""One piece of bytes to many sockets, as cheaply as Python can: the inner loop of the fan-out.

Sending costs a system call of several µs per socket; what Python adds must be small against it. So the loop over the
sockets runs in C (`map` over `operator.call`), on two flat lists that are rebuilt only when somebody joined or left.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from itertools import repeat
from typing import Generic, TypeVar

Send = Callable[[bytes], int]
MemberT = TypeVar("MemberT")


class Chorus(Generic[MemberT]):
    """Members that get the same bytes at the same time, each by its socket's own `send`."""

    __slots__ = ("_members", "_order", "_sends")

    def __init__(self) -> None:
        self._members: dict[MemberT, Send] = {}
        self._order: list[MemberT] = []
        self._sends: list[Send] | None = []

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: MemberT, send: Send) -> None:
        """Let *member* take part from the next `send_all` on."""
        self._members[member] = send
        self._sends = None

    def discard(self, member: MemberT) -> bool:
        """Let *member* take part no more; return whether it did."""
        if self._members.pop(member, None) is None:
            return False
        self._sends = None
        return True

    def send_all(self, data: bytes) -> list[tuple[MemberT, int]]:
        """Send *data* to everybody; return those who did not take all of it, with what they took. They are out now.

        A socket that is full or broken takes nothing; its transport reports a broken one by itself.
        """
        if self._sends is None:
            self._order = list(self._members)
            self._sends = list(self._members.values())
        taken: list[int] = []
        sending = map(operator.call, self._sends, repeat(data))
        while len(taken) < len(self._sends):
            try:
                taken.extend(sending)
            except OSError:  # BlockingIOError: full; others: broken. The iterator goes on with the next socket.
                taken.append(0)
        size = len(data)
        if taken.count(size) == len(taken):
            return []
        behind = [(member, sent) for member, sent in zip(self._order, taken, strict=True) if sent != size]
        for member, _ in behind:
            self.discard(member)
        return behind
