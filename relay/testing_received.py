"""What a fake platform received, in a form that checkers compare. Use it from `relay.testing`.

Nothing here holds media: bodies are kept as digests, so an hour of a stream costs little. Keys are `Secret`, so a
failing comparison prints none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.media.packets import MediaKind, Packet, Role
from relay.rtmp.commands import Command
from relay.secret import Secret

UNPUBLISHES = ("FCUnpublish", "deleteStream", "closeStream")
"""Commands that end a publish on purpose."""


def digest(body: bytes) -> bytes:
    """Return the digest under which a message body is recorded."""
    return hashlib.blake2b(body, digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class Received:
    """One media message as it arrived.

    Attributes:
        kind: audio, video or data.
        timestamp: of the message, 32 bit, as sent.
        keyframe: random-access picture.
        role: frame, sequence header, metadata...
        size: bytes of the body.
        digest: of the body; see `digest`.
        at: when it arrived, seconds of the reactor's clock.
    """

    kind: MediaKind
    timestamp: int
    keyframe: bool
    role: Role
    size: int
    digest: bytes
    at: float

    @property
    def header(self) -> bool:
        """Whether it is a sequence header."""
        return self.role is Role.HEADER

    @classmethod
    def of(cls, packet: Packet, timestamp: int, at: float) -> Received:
        """Return the record of *packet*."""
        body = packet.body
        return cls(packet.kind, timestamp, packet.keyframe, packet.role, len(body), digest(body), at)


@dataclass(slots=True, eq=False, kw_only=True)
class Session:
    """One connection to a fake platform, from its first byte to its last.

    Attributes:
        opened_at: when TCP was accepted, seconds of the reactor's clock; so are the other times.
        secure: the TLS handshake succeeded.
        bytes_in: RTMP bytes received, after TLS.
        connect: the command object of `connect`, as sent.
        name: first argument of `publish`, as sent, with its query; empty until then.
        publish_type: second argument of `publish`.
        key: *name* without its query.
        backup: the app's query said ``backup=1`` (YouTube's second address).
        test: the name's query said ``bandwidthtest=true`` (Twitch).
        live_at: when the publish was granted, None if it never was.
        closed_at: None while the connection is open.
        commands: names of the commands that came, in order.
        media: what came while the publish was granted.
        close: how it ended; see `Session.clean`. Empty while the connection is open.
    """

    number: int
    opened_at: float
    secure: bool = False
    bytes_in: int = 0
    connect: Mapping[str, Any] = field(default_factory=dict, repr=False)
    name: Secret = field(default_factory=lambda: Secret(""))
    publish_type: str = ""
    key: Secret = field(default_factory=lambda: Secret(""))
    backup: bool = False
    test: bool = False
    live_at: float | None = None
    closed_at: float | None = None
    commands: list[str] = field(default_factory=list)
    media: list[Received] = field(default_factory=list, repr=False)
    close: str = ""
    """``clean`` (unpublished, then closed), ``fin`` (closed without a word), ``reset`` or ``platform`` (we did it)."""

    @property
    def clean(self) -> bool:
        """Whether the publisher ended the publish on purpose."""
        return any(name in UNPUBLISHES for name in self.commands)

    @property
    def frames(self) -> list[Received]:
        """Pictures and sound, without headers and metadata."""
        return [one for one in self.media if one.role is Role.FRAME]

    def of(self, kind: MediaKind) -> list[Received]:
        """Frames of one kind."""
        return [one for one in self.media if one.kind is kind and one.role is Role.FRAME]

    def note(self, command: Command) -> None:
        """Record a command."""
        self.commands.append(command.name)
        if command.name == "connect" and isinstance(command.object, dict):
            self.connect = command.object
        elif command.name == "publish":
            self.name = Secret(_text(command.argument(0)))
            self.publish_type = _text(command.argument(1))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


@dataclass(slots=True, eq=False, kw_only=True)
class Broadcast:
    """What an audience sees: a publish and, on platforms that wait for a publisher to come back, its continuations."""

    key: Secret
    backup: bool = False
    test: bool = False
    sessions: list[Session] = field(default_factory=list)
    ended: str = ""
    """Why it is over: ``unpublished`` or ``lost``. Empty while it goes on, or is held for the publisher's return."""
