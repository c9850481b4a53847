"""What every connection shares: clocks, limits, counts, the way to the plugins and to the streams.

One Door per relay, built by `relay.service`. It holds no connection logic; it is what the connection classes lean on
instead of on each other.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from relay.config_limits import Limits
from relay.decisions import Decision, PlayRequest, PublishRequest
from relay.events import ConnectionRefused, Event
from relay.log import RateLimited
from relay.net.admission import Admission
from relay.net.audiences import Audiences
from relay.net.hops import Hops
from relay.net.moderation import Moderation
from relay.net.turnstile import Turnstile
from relay.net.watch import Watch
from relay.stream.feeds import Feed
from relay.stream.registry import Registry

if TYPE_CHECKING:
    from relay.net.ingest import IngestProtocol
    from relay.net.publisher import Publisher


class Deciders(Protocol):
    """What the door needs of the plugin host."""

    def authorize_publish(self, request: PublishRequest) -> Awaitable[Decision]:
        """Ask the plugins; never raises, denies instead."""
        ...

    def authorize_play(self, request: PlayRequest) -> Awaitable[Decision]:
        """Ask the plugins; never raises, denies instead."""
        ...

    def emit(self, event: Event) -> None:
        """Tell the plugins what happened; never raises."""
        ...


@dataclass(slots=True, kw_only=True)
class Door:
    """Shared by all connections of one relay."""

    clock: IReactorTime
    limits: Limits
    apps: tuple[str, ...]
    deciders: Deciders
    registry: Registry
    audiences: Audiences
    admission: Admission
    watch: Watch
    moderation: Moderation
    spawn: Callable[[str, Awaitable[None]], None]
    """Runs a coroutine in the background under a name; failures are logged."""
    log: Logger = field(default_factory=lambda: Logger(namespace="relay.ingest"))
    lines: RateLimited = field(default_factory=RateLimited)
    refused: Counter[str] = field(default_factory=Counter)
    """Connections closed for a protocol error or a limit, by code."""
    answers: Counter[str] = field(default_factory=Counter)
    """publish-allowed, publish-denied, play-allowed, play-denied."""
    publishers: dict[Feed, Publisher] = field(default_factory=dict)
    """Who sends each feed."""
    connections: set[IngestProtocol] = field(default_factory=set)
    """Every open connection."""
    hops: Hops = field(default_factory=lambda: Hops(os.urandom(16)))
    turnstile: Turnstile = field(default_factory=Turnstile)
    accepted: int = 0
    draining: bool = False
    """The relay is shutting down: no new connection, publisher or player."""
    _numbers: int = 0

    async def hold_back(self, peer: str) -> None:
        """Let who was refused too often wait for the answer."""
        delay = self.admission.refusal_delay(peer, self.clock.seconds())
        if delay:
            await deferLater(self.clock, delay)

    def report_refusal(
        self, connection_id: str, peer: str, phase: str, code: str, text: str, *, bytes_in: int = 0
    ) -> None:
        """Tell of a connection that is closed for a protocol error, a limit or a denial: a count, an event, a line."""
        self.refused[code] += 1
        self.deciders.emit(ConnectionRefused(connection_id=connection_id, peer=peer, phase=phase, code=code))
        if self.lines.allow((peer, code), self.clock.seconds()):
            self.log.warn(
                "connection {connection_id} from {peer} closed in phase {phase} after {bytes_in} bytes: {code}: {text}",
                connection_id=connection_id,
                peer=peer,
                phase=phase,
                bytes_in=bytes_in,
                code=code,
                text=text,
            )

    def push_name(self, stream: str) -> str:
        """Return what a push of *stream* calls itself, so that the stream is known when it comes back."""
        encoders = (one.connection.flash_ver for one in self.publishers.values() if one.streams(stream))
        return self.hops.name_for(stream, encoders)

    def next_connection_id(self) -> str:
        """Return an id for a new connection, unique in this process."""
        self._numbers += 1
        return f"c{self._numbers}"
