"""A push target: one stream to one destination, for as long as the stream lives.

It is a sink with a state. It connects, and when an attempt ends it waits and tries again, never giving up; what ended
the attempt decides how long it waits. A destination that is slow, full or gone costs its own outbox and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IAddress, IDelayedCall, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.context import CloseStyle
from relay.errors import ConfigError, DestinationError
from relay.events import Event, TargetStateChanged
from relay.log import clean_line
from relay.media.packets import Packet, TrackSet
from relay.net.addresses import AddressPolicy
from relay.net.backoff import QUICK, SLOW
from relay.net.endpoints import ADDRESS_REFUSED, RtmpUrl, endpoint_for
from relay.net.failures import bad_certificate, classify
from relay.net.lanes import Lanes
from relay.net.probe import ProbeLink, ReturnProbe
from relay.net.pushlink import PushLink
from relay.net.sockets import TcpFigures
from relay.net.turns import Turns
from relay.net.watch import Watch
from relay.rtmp.client import FLASH_VER, ClientConnection
from relay.secret import Redactor, Secret, redact_urls
from relay.stream.outbox import Outbox

CONNECT_S = 10.0
"""For DNS and TCP, over all addresses of the host."""

MAX_DETAIL = 300
"""Characters of what a destination said that a person wants to read."""

PERSON_NEEDED = frozenset({"connect-rejected", "publish-refused", ADDRESS_REFUSED})
"""Reasons that time alone does not cure: retried slowly, shown as `refused`."""


class TargetState(Enum):
    """Where a target is (design: the contract, target states)."""

    WAITING = "waiting"
    CONNECTING = "connecting"
    LIVE = "live"
    BACKING_OFF = "backing-off"
    REFUSED = "refused"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class PushPlace:
    """Where to push: an address, a key, and whom to trust."""

    url: RtmpUrl
    key: Secret
    backup: RtmpUrl | None = None
    """Where to push instead while *url* does not work."""
    ca_file: Path | None = None
    fingerprint: bytes | None = None
    """SHA-256 of the certificate that the destination must show, instead of one that a CA signed."""
    policy: AddressPolicy | None = None
    """Which addresses the host may have; None when the operator wrote it into the configuration file."""
    retry_s: float = 0.0
    """Least seconds between two attempts."""
    close: CloseStyle = "clean"
    close_on_fault: CloseStyle = "clean"


@dataclass(slots=True, kw_only=True)
class PushTools:
    """What every push of one relay shares."""

    reactor: Any
    watch: Watch
    emit: Callable[[Event], None]
    uniform: Callable[[float, float], float]
    queue_bytes: int
    queue_ms: int
    name_for: Callable[[str], str] = lambda stream: FLASH_VER
    """What a push of this stream calls itself."""


class LinkFactory(Factory):
    """Makes the link of one attempt."""

    noisy = False

    def __init__(self, build: Callable[[], PushLink]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> PushLink:
        return self._build()


class PushOwner(Protocol):
    """The group that a target belongs to."""

    def in_step(self, push: RtmpPush, yes: bool) -> None:
        """Tell whether *push* gets its packets through a lane, or by `RtmpPush.write`."""
        ...


class RtmpPush:
    """One destination over RTMP or RTMPS. It gets packets by `write` while it is not in step with others."""

    log = Logger(namespace="relay.push")

    def __init__(
        self, tools: PushTools, owner: PushOwner, lanes: Lanes, *, stream: str, name: str, place: PushPlace
    ) -> None:
        self.stream = stream
        self.name = name
        self.place = place
        self.state = TargetState.WAITING
        self.since = tools.reactor.seconds()
        self.reason = ""
        self.detail = ""
        self.attempts = 0
        self.outbox = Outbox(tools.queue_bytes, tools.queue_ms)
        self._tools = tools
        self._owner = owner
        self._lanes = lanes
        self._bytes_before = 0
        self._link: PushLink | None = None
        self._pending: Deferred[Any] | None = None
        self._retry: IDelayedCall | None = None
        self._limit: IDelayedCall | None = None
        self._urls = (place.url,) if place.backup is None else (place.url, place.backup)
        self._turns = Turns(len(self._urls), tools.uniform, retry_s=place.retry_s)
        self._probe = ReturnProbe(tools.reactor, self._prepare_probe, self._primary_answers)
        self._certificate_error = 0
        self._secrets = Redactor([place.key, *(secret for url in self._urls for secret in url.secrets)])
        self._live_since = 0.0
        self._closed = False

    @property
    def url(self) -> RtmpUrl:
        """The address that is tried or used now."""
        return self._urls[self._turns.current]

    @property
    def bytes_sent(self) -> int:
        """Bytes given to the kernel over all attempts."""
        return self._bytes_before + (0 if self._link is None else self._link.bytes_sent)

    @property
    def bytes_acked(self) -> int:
        """Bytes the destination of the current attempt acknowledged."""
        return 0 if self._link is None else self._link.bytes_acked

    @property
    def tcp(self) -> TcpFigures | None:
        """What the kernel knows about the current connection."""
        return None if self._link is None else self._link.tcp

    # The stream.

    def configure(self, tracks: TrackSet) -> None:
        """Take new tracks: their headers go out of the outbox, in front of what follows."""
        if self._link is not None:
            self._link.fall_out()
        self.outbox.configure(tracks)
        if self.state is TargetState.WAITING:
            self._connect()

    def write(self, packet: Packet) -> None:
        """Queue one packet; called while this target is not in step."""
        if self.outbox.append(packet) and self._link is not None:
            self._link.pump_later()

    def close(self, *, fault: bool = False) -> Deferred[None]:
        """Leave as the destination wants it after a planned end or after a *fault*; fires when the link is gone."""
        self._closed = True
        self._probe.stop()
        self._unlimit()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.cancel()
        link = self._link
        style = self.place.close_on_fault if fault else self.place.close
        done = succeed(None) if link is None else link.close(abrupt=style == "abrupt")
        return done.addCallback(lambda _: self._gone())

    def _gone(self) -> None:
        if self._link is not None:
            self._tools.watch.discard(self._link)
            self._bytes_before += self._link.bytes_sent
            self._link = None
        self._set(TargetState.STOPPED, "ended", "")

    # Attempts.

    def _connect(self) -> None:
        self._retry = None
        self.attempts += 1
        self._certificate_error = 0
        self._set(TargetState.CONNECTING, "", "")
        limit = self._turns.begin(self._tools.reactor.seconds())
        if limit is not None:
            self._limit = self._tools.reactor.callLater(limit, self._took_too_long)
        try:
            endpoint = self._endpoint(self.url, self._note_certificate)
        except ConfigError as error:
            self._failed(DestinationError("tls", error.message))
            return
        self._pending = endpoint.connect(LinkFactory(self._build_link))
        self._pending.addTimeout(CONNECT_S, self._tools.reactor, onTimeoutCancel=_timed_out)
        self._pending.addCallbacks(self._connected, self._not_connected)

    def _endpoint(self, url: RtmpUrl, on_bad_certificate: Callable[[int], None]) -> IStreamClientEndpoint:
        """Return how to connect to *url*. Raises ConfigError."""
        return endpoint_for(
            self._tools.reactor,
            url,
            ca_file=self.place.ca_file,
            timeout_s=CONNECT_S,
            policy=self.place.policy,
            fingerprint=self.place.fingerprint,
            on_bad_certificate=on_bad_certificate,
        )

    def _rtmp(self, url: RtmpUrl) -> ClientConnection:
        return ClientConnection(
            role="publish",
            app=url.app.reveal(),
            tc_url=url.tc_url,
            name=self.place.key,
            random=PushLink.random,
            flash_ver=self._tools.name_for(self.stream),
        )

    def _note_certificate(self, number: int) -> None:
        self._certificate_error = number

    def _build_link(self) -> PushLink:
        tools = self._tools
        self._link = link = PushLink(
            self,
            self._rtmp(self.url),
            self.outbox,
            self._lanes,
            seconds=tools.reactor.seconds,
            tls=self.url.tls,
        )
        tools.watch.add(link)
        return link

    def _connected(self, link: Any) -> None:
        self._pending = None

    def _not_connected(self, failure: Failure) -> None:
        if self._pending is None:
            return  # we gave it up
        self._pending = None
        if not self._closed and self._link is None:
            self._failed(classify(failure, phase="connect", tls=self.url.tls))

    def _took_too_long(self) -> None:
        """It is the other address's turn."""
        self._limit = None
        pending, self._pending = self._pending, None
        if self._link is not None:
            self._link.fail(DestinationError("handshake", f"no publish accepted in time, {self._link.phase}"))
        elif pending is not None:
            pending.cancel()
            self._failed(DestinationError("unreachable", "no answer in time; the other address is tried"))

    def _unlimit(self) -> None:
        limit, self._limit = self._limit, None
        if limit is not None:
            limit.cancel()

    def link_live(self, link: PushLink) -> None:
        """The destination accepted: the outbox starts again at a keyframe with its opening."""
        self._live_since = self._tools.reactor.seconds()
        self._unlimit()
        self._turns.accepted()
        self.outbox.restart()
        if self._turns.current == 0:
            self._set(TargetState.LIVE, "", "")
        else:
            self._set(TargetState.LIVE, "backup", "on the backup address")
            self._probe.start()

    def link_fell_in(self, link: PushLink) -> None:
        """Packets come through a lane."""
        self._owner.in_step(self, True)

    def link_fell_out(self, link: PushLink) -> None:
        """Packets come by `write`."""
        self._owner.in_step(self, False)

    def link_lost(self, link: PushLink, error: DestinationError) -> None:
        """The attempt is over; try again."""
        self._tools.watch.discard(link)
        self._bytes_before += link.bytes_sent
        self._owner.in_step(self, False)
        if self._link is link:
            self._link = None
        if not self._closed:
            self._failed(error, lived_s=self._tools.reactor.seconds() - self._live_since if link.live else 0.0)

    def _failed(self, error: DestinationError, *, lived_s: float = 0.0) -> None:
        self._probe.stop()
        self._unlimit()
        if error.reason == "tls" and self._certificate_error:
            error = bad_certificate(self._certificate_error)
        refused = error.reason in PERSON_NEEDED
        now = self._tools.reactor.seconds()
        wait = self._turns.failed(SLOW if refused else QUICK, now, lived_s=lived_s)
        self._set(TargetState.REFUSED if refused else TargetState.BACKING_OFF, error.reason, self._safe(error.detail))
        self._retry = self._tools.reactor.callLater(wait, self._connect)

    # The primary address while the backup is used.

    def _prepare_probe(self) -> tuple[IStreamClientEndpoint, ProbeLink]:
        url = self.place.url
        return self._endpoint(url, lambda _: None), ProbeLink(self._rtmp(url), self._tools.reactor.seconds, tls=url.tls)

    def _primary_answers(self) -> None:
        """Stay: going back would be a break that nobody asked for. When the backup ends, the primary is next."""
        self._turns.answers()
        self.detail = "on the backup address; the primary answers again and is next"

    def _safe(self, detail: str) -> str:
        """Return what may be shown of *detail*: a server may repeat the key. Cut last, or half a key would stay."""
        return clean_line(redact_urls(self._secrets.redact(detail)))[:MAX_DETAIL]

    def _set(self, state: TargetState, reason: str, detail: str) -> None:
        if state is self.state and reason == self.reason:
            return
        self.state, self.reason, self.detail = state, reason, detail
        self.since = self._tools.reactor.seconds()
        self._tools.emit(
            TargetStateChanged(stream=self.stream, target=self.name, state=state.value, reason=reason, detail=detail)
        )
        log = self.log.warn if reason not in ("", "ended") else self.log.info
        log(
            "target {target} of stream {stream} is {state}{why}; destination {destination}",
            target=self.name,
            stream=self.stream,
            destination=self.url.display,
            state=state.value,
            reason=reason,
            why=f": {reason}, {detail}" if detail else "",
        )


def _timed_out(result: object, _timeout: float) -> object:
    """What a connect that took too long is called: DNS has a name of its own for it."""
    if isinstance(result, Failure) and result.check(DNSLookupError):
        return result
    raise ConnectTimeout
