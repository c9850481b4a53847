"""What a case of the bad-input catalogue is: bytes to send, and what must become of the connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from fnmatch import fnmatchcase


class Phase(IntEnum):
    """How far the conversation has come, by ordinary means, before the case's bytes are sent."""

    NOTHING = 0
    """TCP is up."""
    HANDSHAKE = 1
    """C0, C1 and C2 are exchanged."""
    CONNECT = 2
    """`connect` was accepted."""
    PUBLISH = 3
    """`publish` on stream id 1 was granted, no media yet."""
    LIVE = 4
    """Metadata, sequence headers, a keyframe and a sound were sent at 0 ms."""
    PLAY = 5
    """`play` on stream id 1 was granted."""


@dataclass(frozen=True)
class Wait:
    """A pause between two pieces of a case."""

    seconds: float


Piece = bytes | Wait


@dataclass(frozen=True, kw_only=True)
class Expect:
    """Acceptable ends; any one of them will do. Join with ``|``.

    Attributes:
        closed: patterns of reason codes with which the server may close.
        refused: patterns of RTMP status codes (level error) that may be sent, followed by a close.
        continues: the connection may stay, and then a valid publish with two frames on it works.
        statuses: RTMP status codes that must be seen in any case.
    """

    closed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    continues: bool = False
    statuses: tuple[str, ...] = ()

    def __or__(self, other: Expect) -> Expect:
        return Expect(
            closed=self.closed + other.closed,
            refused=self.refused + other.refused,
            continues=self.continues or other.continues,
            statuses=self.statuses + other.statuses,
        )


def closed(*codes: str) -> Expect:
    """The server closes, its reason code matches one of *codes*."""
    return Expect(closed=codes)


def refused(*statuses: str) -> Expect:
    """The server answers an error whose RTMP code matches one of *statuses*, then closes."""
    return Expect(refused=statuses or ("Net*",))


def continues(*, statuses: tuple[str, ...] = ()) -> Expect:
    """The server tolerates it."""
    return Expect(continues=True, statuses=statuses)


ANY_PROTOCOL_ERROR = (
    "hs.*",
    "chunk.*",
    "ctl.*",
    "msg.*",
    "amf.*",
    "cmd.*",
    "connect.*",
    "name.*",
    "limit.*",
    "media.*",
)

WHOLE, BYTES, SEVENS = 0, 1, 7
"""Deliveries: in one piece, or in pieces of so many bytes."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One conversation that must end as *expect* says.

    Attributes:
        number: row of the catalogue.
        name: which variant of the row, as a slug.
        title: what is wrong with it, in words.
        after: how far to come first.
        send: the pieces; a callable when they are big.
        leaves: where the conversation stands afterwards if it continues (as *after* unless said).
        chunk_size: our own chunk size afterwards.
        deliveries: ways to cut the bytes.
        delivers: (type, timestamp or None, body) that must come out of it, in this order, when it continues.
        never: bodies that must not come out.
        never_played: bodies that no player may see; the protocol core alone passes them on.
        once: bodies that may come out once at most.
        answers: byte strings that the server must say, in this order, if it continues.
        max_reply: most bytes the server may say in answer to *send*.
        seconds: the server must have decided by then.
        memory: bytes the process may grow meanwhile.
        sansio, socket: where it makes sense.
        max_step: the largest step between video timestamps that a player may see, in ms; None when not checked.
        most_data: data messages that a player may see at most; None when not checked.
    """

    number: int
    name: str
    title: str
    after: Phase
    send: Piece | Sequence[Piece] | Callable[[], Piece | Sequence[Piece]]
    expect: Expect
    leaves: Phase | None = None
    chunk_size: int = 128
    deliveries: tuple[int, ...] = (WHOLE, BYTES, SEVENS)
    delivers: tuple[tuple[int, int | None, bytes], ...] = ()
    never: tuple[bytes, ...] = ()
    never_played: tuple[bytes, ...] = ()
    once: tuple[bytes, ...] = ()
    answers: tuple[bytes, ...] = ()
    max_reply: int = 64 * 1024
    seconds: float = 2.0
    memory: int = 32 * 1024 * 1024
    sansio: bool = True
    socket: bool = True
    max_step: int | None = None
    most_data: int | None = None

    @property
    def id(self) -> str:
        """For humans and for pytest."""
        return f"{self.number:03}-{self.after.name.lower()}-{self.name}"

    def pieces(self) -> list[Piece]:
        """What to send, built now."""
        sent = self.send() if callable(self.send) else self.send
        return [sent] if isinstance(sent, bytes | Wait) else list(sent)

    def but(self, **changes: object) -> Case:
        """A copy with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass
class Outcome:
    """What a server did with a case."""

    closed: bool
    code: str = ""
    errors: tuple[str, ...] = ()
    """RTMP status codes of level error."""
    problem: str = ""
    """Why a connection that stayed open is not in order."""

    def __str__(self) -> str:
        if self.closed:
            return f"closed with code {self.code or '(none)'} after statuses {list(self.errors)}"
        return f"open, {self.problem or 'and in order'}, statuses {list(self.errors)}"


def verdict(expect: Expect, outcome: Outcome, *, codes_known: bool = True) -> str:
    """Return what is wrong with *outcome*, or nothing."""
    missing = [status for status in expect.statuses if status not in outcome.errors]
    if missing:
        return f"never said {missing}; {outcome}"
    if outcome.closed:
        if any(fnmatchcase(status, pattern) for status in outcome.errors for pattern in expect.refused):
            return ""
        if expect.closed and (not codes_known or any(fnmatchcase(outcome.code, code) for code in expect.closed)):
            return ""
    elif expect.continues and not outcome.problem:
        return ""
    return f"expected {expect}, got: {outcome}"
