"""One attempt to push: from an address to the end of a publish, over as many connections as its way has.

`RtmpPush` decides when to begin one; an `Attempt` resolves, connects, logs in and follows redirects, and hands the link
that was accepted its outbox. It ends once, with a reason, and leaves nothing behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from relay.errors import ConfigError, DestinationError
from relay.events import Event
from relay.net.endpoints import endpoint_for
from relay.net.failures import bad_certificate, classify
from relay.net.lanes import Lanes
from relay.net.pushlink import PushLink
from relay.net.sockets import TcpFigures
from relay.net.spacing import HostSpacing
from relay.net.watch import Watch
from relay.net.way import PushPlace, Way
from relay.rtmp.client import FLASH_VER
from relay.rtmp.events import ConnectRejected, ReconnectRequested
from relay.stream.outbox import Outbox

CONNECT_S = 10.0
"""For DNS and TCP, over all addresses of the host."""

ASKED, ASKED_S = 4, 20.0
"""Requests to reconnect that are heard within so many seconds: each costs a line in the log, or a connection."""


@dataclass(slots=True, kw_only=True)
class PushTools:
    """What every push of one relay shares."""

    reactor: Any
    watch: Watch
    emit: Callable[[Event], None]
    uniform: Callable[[float, float], float]
    spacing: HostSpacing
    queue_bytes: int
    queue_ms: int
    name_for: Callable[[str], str] = lambda stream: FLASH_VER
    """What a push of this stream calls itself."""

    def outbox(self) -> Outbox:
        """Return a new outbox of the size that is configured."""
        return Outbox(self.queue_bytes, self.queue_ms)


class AttemptOwner(Protocol):
    """What an attempt tells its push."""

    def attempt_live(self, attempt: Attempt) -> None:
        """The destination accepted the publish."""
        ...

    def attempt_progress(self, attempt: Attempt) -> None:
        """The destination takes what we send, or no longer does."""
        ...

    def attempt_asked(self, attempt: Attempt, event: ReconnectRequested) -> None:
        """The destination asks to come again."""
        ...

    def attempt_over(self, attempt: Attempt, error: DestinationError, lived_s: float) -> None:
        """The attempt has ended, *lived_s* after the publish was accepted. Called once, and not after `close`."""
        ...

    def attempt_in_step(self, attempt: Attempt, yes: bool) -> None:
        """Tell whether packets come through a lane, or by the push's own `write`."""
        ...


class _LinkFactory(Factory):
    """Makes the link of one connection."""

    noisy = False

    def __init__(self, build: Callable[[], PushLink]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> PushLink:
        return self._build()


class Attempt:
    """One attempt of one push.

    Attributes:
        way: where it goes.
        outbox: what waits for it, when it is live.
        link: the connection, None while there is none.
        owner: who hears of it.
    """

    def __init__(
        self, tools: PushTools, owner: AttemptOwner, lanes: Lanes, place: PushPlace, way: Way, outbox: Outbox
    ) -> None:
        self.way = way
        self.outbox = outbox
        self.link: PushLink | None = None
        self.owner = owner
        self.tools = tools
        self._lanes = lanes
        self._place = place
        self._pending: Deferred[Any] | None = None
        self._certificate_error = 0
        self._live_since = 0.0
        self._bytes_before = 0
        self._over = False
        self._asked: deque[float] = deque(maxlen=ASKED)

    @property
    def live(self) -> bool:
        """Whether the destination accepted the publish and has not ended it."""
        return self.link is not None and self.link.live

    @property
    def connecting(self) -> bool:
        """Whether DNS or TCP is waited for."""
        return self._pending is not None

    @property
    def bytes_sent(self) -> int:
        """Bytes of media given to the kernel."""
        return self._bytes_before + (0 if self.link is None else self.link.bytes_sent)

    @property
    def bytes_acked(self) -> int:
        """Bytes the destination acknowledged on RTMP level; some never do."""
        return 0 if self.link is None else self.link.bytes_acked

    @property
    def tcp(self) -> TcpFigures | None:
        """What the kernel knows about the connection."""
        return None if self.link is None else self.link.tcp

    def start(self) -> None:
        """Open the next connection of the way."""
        self._certificate_error = 0
        try:
            endpoint = endpoint_of(self.tools, self._place, self.way, self._note_certificate)
        except ConfigError as error:
            self._end(DestinationError("tls", error.message))
            return
        self._pending = endpoint.connect(_LinkFactory(self._build_link))
        self._pending.addTimeout(CONNECT_S, self.tools.reactor, onTimeoutCancel=_timed_out)
        self._pending.addCallbacks(self._connected, self._not_connected)

    def give_up(self) -> None:
        """It took too long: end as such."""
        if self.link is not None:
            self.link.fail(DestinationError("handshake", f"no publish accepted in time, {self.link.phase}"))
        elif self._stop_connecting():
            self._end(DestinationError("unreachable", "no answer in time; the other address is tried"))

    def close(self, *, abrupt: bool = False, silent: bool = False) -> Deferred[None]:
        """Leave, as `PushLink.close` says; fires when the connection is gone. The owner hears nothing more."""
        self._over = True
        self._stop_connecting()
        link = self.link
        done = succeed(None) if link is None else link.close(abrupt=abrupt, silent=silent)
        return done.addCallback(lambda _: self._forget(link))

    def _stop_connecting(self) -> bool:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.cancel()
        return pending is not None

    # Connecting.

    def _note_certificate(self, number: int) -> None:
        self._certificate_error = number

    def _build_link(self) -> PushLink:
        tools = self.tools
        self.link = link = PushLink(
            self,
            self.way.connection(),
            self.outbox,
            self._lanes,
            seconds=tools.reactor.seconds,
            tls=self.way.url.tls,
        )
        tools.watch.add(link)
        return link

    def _connected(self, link: Any) -> None:
        self._pending = None

    def _not_connected(self, failure: Failure) -> None:
        if self._pending is None:
            return  # we gave it up
        self._pending = None
        if not self._over and self.link is None:
            self._end(classify(failure, phase="connect", tls=self.way.url.tls))

    # What the link says.

    def link_live(self, link: PushLink) -> None:
        """The destination accepted: the outbox starts again at a keyframe with its opening."""
        self._live_since = self.tools.reactor.seconds()
        self.outbox.restart()
        self.owner.attempt_live(self)

    def link_fell_in(self, link: PushLink) -> None:
        """Packets come through a lane."""
        self.owner.attempt_in_step(self, True)

    def link_fell_out(self, link: PushLink) -> None:
        """Packets come by `write`."""
        self.owner.attempt_in_step(self, False)

    def link_progress(self, link: PushLink) -> None:
        """The destination takes what we send, or no longer does."""
        if not self._over:
            self.owner.attempt_progress(self)

    def link_asked(self, link: PushLink, event: ReconnectRequested) -> None:
        """The destination asks us to come again; one that never stops asking is not heard every time."""
        now = self.tools.reactor.seconds()
        if not self._over and (len(self._asked) < ASKED or now - self._asked[0] >= ASKED_S):
            self._asked.append(now)
            self.owner.attempt_asked(self, event)

    def link_rejected(self, link: PushLink, event: ConnectRejected) -> None:
        """Log in, go where the server sends us, or end."""
        self._forget(link)
        if self._over:
            return
        try:
            self.way.rejected(event)
        except DestinationError as error:
            self._end(error)
        else:
            self.start()

    def link_lost(self, link: PushLink, error: DestinationError) -> None:
        """The connection is over, and with it the attempt."""
        lived_s = self.tools.reactor.seconds() - self._live_since if link.live else 0.0
        self._forget(link)
        self._end(error, lived_s)

    def _forget(self, link: PushLink | None) -> None:
        if link is not None and self.link is link:
            self.tools.watch.discard(link)
            self._bytes_before += link.bytes_sent
            self.link = None

    def _end(self, error: DestinationError, lived_s: float = 0.0) -> None:
        if self._over:
            return
        self._over = True
        if error.reason == "tls" and self._certificate_error:
            error = bad_certificate(self._certificate_error)
        self.owner.attempt_over(self, error, lived_s)


def endpoint_of(
    tools: PushTools, place: PushPlace, way: Way, on_bad_certificate: Callable[[int], None]
) -> IStreamClientEndpoint:
    """Return how to connect to the next server of *way*. Raises ConfigError."""
    return endpoint_for(
        tools.reactor,
        way.url,
        trust=place.trust,
        timeout_s=CONNECT_S,
        policy=way.policy,
        on_bad_certificate=on_bad_certificate,
    )


def _timed_out(result: object, _timeout: float) -> object:
    """What a connect that took too long is called: DNS has a name of its own for it."""
    if isinstance(result, Failure) and result.check(DNSLookupError):
        return result
    raise ConnectTimeout
