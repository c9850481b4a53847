"""A push target: one stream to one destination, for as long as the stream lives.

It is a sink with a state. It connects, and when an attempt ends it waits and tries again, never giving up; what ended
the attempt decides how long it waits. A destination that is slow, full or gone costs its own outbox and nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint

from relay.errors import DestinationError
from relay.media.packets import Packet, TrackSet
from relay.net.attempt import Attempt, PushTools, endpoint_of
from relay.net.backoff import EARLY, QUICK, SLOW
from relay.net.bulletin import Bulletin, TargetState
from relay.net.delivery import Confirmation, Delivery
from relay.net.endpoints import ADDRESS_REFUSED, RtmpUrl
from relay.net.handover import JITTER_S, Handover
from relay.net.lanes import Lanes
from relay.net.probe import ProbeLink, ReturnProbe
from relay.net.pushlink import PushLink
from relay.net.sockets import TcpFigures
from relay.net.turns import Turns
from relay.net.way import AUTH_NEEDED, REDIRECT_REFUSED, PushPlace, Way
from relay.rtmp.events import ReconnectRequested
from relay.stream.outbox import Outbox

MAKE_ROOM = frozenset({"connect-rejected", "publish-refused"})
"""How a server says that it takes no second publisher of a key."""

PERSON_NEEDED = MAKE_ROOM | {"auth-failed", AUTH_NEEDED, ADDRESS_REFUSED, REDIRECT_REFUSED}
"""Reasons that time alone does not cure: retried slowly, shown as `refused`."""

EARLY_LIMIT = 3
"""Publishes in a row that are accepted and closed at once: then it is the key rather than the network."""


class PushOwner(Protocol):
    """The group that a target belongs to."""

    def in_step(self, push: RtmpPush, yes: bool) -> None:
        """Tell whether *push* gets its packets through a lane, or by `RtmpPush.write`."""
        ...


class RtmpPush:
    """One destination over RTMP or RTMPS. It gets packets by `write` while it is not in step with others."""

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
        self.outbox = tools.outbox()
        self._tools = tools
        self._bulletin = Bulletin(tools.emit, stream=stream, target=name, place=place)
        self._owner = owner
        self._lanes = lanes
        self._bytes_before = 0
        self._dropped_before = 0
        self._early = 0
        self.delivery = Delivery(tools.reactor, self._look, lambda: self._bulletin.delivers(self.delivery))
        self._tracks = TrackSet()
        self._attempt: Attempt | None = None
        self._handover: Handover | None = None
        self._detour: Way | None = None
        self._parting: dict[Attempt, Deferred[None]] = {}
        self._retry: IDelayedCall | None = None
        self._limit: IDelayedCall | None = None
        self._urls = (place.url,) if place.backup is None else (place.url, place.backup)
        self._turns = Turns(len(self._urls), tools.uniform, retry_s=place.retry_s)
        self._probe = ReturnProbe(tools.reactor, self._prepare_probe, self._primary_answers)
        self._address = self._turns.current
        self._way = self._next_way()

    @property
    def url(self) -> RtmpUrl:
        """The address that is tried or used now."""
        return self._way.url

    @property
    def bytes_sent(self) -> int:
        """Bytes given to the kernel over all attempts."""
        return self._bytes_before + sum(attempt.bytes_sent for attempt in self._attempts())

    @property
    def bytes_acked(self) -> int:
        """Bytes the destination of the current attempt acknowledged."""
        return 0 if self._attempt is None else self._attempt.bytes_acked

    @property
    def dropped_gops(self) -> int:
        """GOPs, or rests of them, that the destination never got."""
        outboxes = {self.outbox, *(attempt.outbox for attempt in self._attempts())}
        return self._dropped_before + sum(outbox.dropped_gops for outbox in outboxes)

    @property
    def tcp(self) -> TcpFigures | None:
        """What the kernel knows about the current connection."""
        return None if self._attempt is None else self._attempt.tcp

    @property
    def link(self) -> PushLink | None:
        """The current connection."""
        return None if self._attempt is None else self._attempt.link

    # The stream.

    def configure(self, tracks: TrackSet) -> None:
        """Take new tracks: their headers go out of the outbox, in front of what follows."""
        self._tracks = tracks
        if self.link is not None:
            self.link.fall_out()
        self.outbox.configure(tracks)
        if self._handover is not None:
            self._handover.configure(tracks)
        if self.state is TargetState.WAITING:
            self._connect()

    def write(self, packet: Packet) -> None:
        """Queue one packet; called while this target is not in step."""
        if self._handover is not None and self._handover.takes(packet):
            return
        if self.outbox.append(packet) and self.link is not None:
            self.link.pump_later()

    def close(self, *, fault: bool = False) -> Deferred[None]:
        """Leave as the destination wants it after a planned end or after a *fault*; fires when the link is gone."""
        self._probe.stop()
        self._unlimit()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._handover is not None:
            self.handover_over(self._handover)
        style = self.place.close_on_fault if fault else self.place.close
        attempt = self._attempt
        done = succeed(None) if attempt is None else attempt.close(abrupt=style == "abrupt")
        return DeferredList([done, *self._parting.values()]).addCallback(lambda _: self._gone())

    def _gone(self) -> None:
        if self._attempt is not None:
            self._settle(self._attempt)
            self._attempt = None
        self._set(TargetState.STOPPED, "ended", "")

    # Attempts.

    def _due(self) -> None:
        """The wait is over; others may want the same host in this moment."""
        self._retry = None
        now = self._tools.reactor.seconds()
        wait = self._tools.spacing.wait(self._next_way().url.host, now)
        if wait > 0:
            self._retry = self._tools.reactor.callLater(wait, self._connect)
        else:
            self._connect()

    def _next_way(self) -> Way:
        if self._detour is not None:
            return self._detour
        return self._way_to(self._urls[self._turns.current])

    def _way_to(self, url: RtmpUrl) -> Way:
        return Way(self.place, url, PushLink.random, lambda: self._tools.name_for(self.stream))

    def _connect(self) -> None:
        self._retry = None
        self.attempts += 1
        self._address = self._turns.current
        self._way, self._detour = self._next_way(), None
        self._set(TargetState.CONNECTING, "", "")
        limit = self._turns.begin(self._tools.reactor.seconds())
        if limit is not None:
            self._limit = self._tools.reactor.callLater(limit, self._took_too_long)
        self._attempt = self._new_attempt(self._way, self.outbox)
        self._attempt.start()

    def _new_attempt(self, way: Way, outbox: Outbox) -> Attempt:
        return Attempt(self._tools, self, self._lanes, self.place, way, outbox)

    def _took_too_long(self) -> None:
        """It is the other address's turn."""
        self._limit = None
        if self._attempt is not None:
            self._attempt.give_up()

    def _unlimit(self) -> None:
        limit, self._limit = self._limit, None
        if limit is not None:
            limit.cancel()

    def attempt_live(self, attempt: Attempt) -> None:
        """The destination accepted."""
        self._unlimit()
        self._turns.accepted()
        if self._turns.current == 0:
            self._set(TargetState.LIVE, "", "")
        else:
            self._set(TargetState.LIVE, "backup", "on the backup address")
            self._probe.start()

    def attempt_in_step(self, attempt: Attempt, yes: bool) -> None:
        """Tell the group how packets come."""
        if attempt is self._attempt:
            self._owner.in_step(self, yes)

    def attempt_over(self, attempt: Attempt, error: DestinationError, lived_s: float) -> None:
        """The attempt is over; try again."""
        handover = self._handover
        if attempt is not self._attempt:
            if handover is not None:
                handover.finish()
            return
        self._owner.in_step(self, False)
        if handover is not None and handover.ready:
            handover.jump()
            return
        if handover is not None:
            self.handover_over(handover)
        self._settle(attempt)
        self._attempt = None
        self._failed(error, lived_s=lived_s)

    def _attempts(self) -> list[Attempt]:
        """Those whose counts are not kept yet: the current one, and those that the programme has left."""
        leaving = [*self._parting]
        if self._handover is not None and self._handover.changed:
            leaving.append(self._handover.old)
        return leaving if self._attempt is None else [self._attempt, *leaving]

    def _settle(self, attempt: Attempt) -> None:
        """Keep the counts of an attempt that is over."""
        self._bytes_before += attempt.bytes_sent
        if attempt.outbox is not self.outbox:
            self._dropped_before += attempt.outbox.dropped_gops

    def _failed(self, error: DestinationError, *, lived_s: float) -> None:
        self._probe.stop()
        self._unlimit()
        self._bulletin.lived(lived_s)
        self._early = self._early + 1 if error.reason == "closed-early" else 0
        now = self._tools.reactor.seconds()
        refused = error.reason in PERSON_NEEDED or self._early >= EARLY_LIMIT
        pace = SLOW if error.reason in PERSON_NEEDED else EARLY if refused else QUICK
        wait = self._turns.failed(pace, now, lived_s=lived_s)
        self._set(TargetState.REFUSED if refused else TargetState.BACKING_OFF, error.reason, self._safe(error.detail))
        self._retry = self._tools.reactor.callLater(wait, self._due)

    # What is known about delivery.

    def attempt_progress(self, attempt: Attempt) -> None:
        """The destination takes what we send, or no longer does."""
        if attempt is self._attempt:
            self.delivery.update()

    def confirm(self, word: Confirmation, valid_s: float) -> bool:
        """Note what the platform says of us; False when the target is not live."""
        return self.delivery.confirm(replace(word, detail=self._safe(word.detail)), valid_s)

    def _look(self) -> str:
        if self.state is not TargetState.LIVE:
            return ""
        return "accepted" if self.link is not None and self.link.accepted else "connected"

    # Moving to another server because the destination asks for it.

    def attempt_asked(self, attempt: Attempt, event: ReconnectRequested) -> None:
        """Go where the destination wants us, if we may go there."""
        if attempt is not self._attempt or not attempt.live or self._handover is not None:
            return
        way = attempt.way.again()
        try:
            way.follow(event.tc_url)
        except DestinationError as error:
            self._stay(error)
            return
        new = self._new_attempt(way, self._tools.outbox())
        self._handover = Handover(self, attempt, new, self._tracks)
        self._handover.begin(self._tools.uniform(0.0, JITTER_S))

    def handover_changed(self, handover: Handover) -> None:
        """The new server has the programme."""
        self._attempt, self._way, self.outbox = handover.new, handover.new.way, handover.new.outbox
        self._owner.in_step(self, False)
        self._set(TargetState.LIVE, "moved", f"the destination asked for it; now at {self.url.display}")

    def handover_failed(self, handover: Handover, error: DestinationError) -> None:
        """Stay; but a server that takes one publisher of a key only wants the old connection to go first."""
        self._handover = None
        self._stay(error)
        link = handover.old.link
        if error.reason in MAKE_ROOM and link is not None:
            self._detour = handover.new.way.again()
            link.fail(DestinationError("reconnect", "the destination asked to reconnect and takes one connection only"))

    def handover_over(self, handover: Handover) -> None:
        """Close the connection that is not the programme's: the old one, or the new one when it is given up."""
        self._handover = None
        handover.stop()
        if handover.changed:
            self._part(handover.old, silent=True)
        else:
            self._detour = handover.new.way.again()
            self._part(handover.new, silent=False)

    def _part(self, attempt: Attempt, *, silent: bool) -> None:
        """Close a connection that is not the programme's any more."""
        closing = self._parting[attempt] = attempt.close(silent=silent, abrupt=not silent)
        closing.addBoth(self._parted, attempt)

    def _parted(self, _: object, attempt: Attempt) -> None:
        del self._parting[attempt]
        self._settle(attempt)

    def _stay(self, error: DestinationError) -> None:
        self.detail = self._safe(f"the destination asked to reconnect, which failed: {error.detail}")
        self._bulletin.stays(error, self._safe(error.detail))

    # The primary address while the backup is used.

    def _prepare_probe(self) -> tuple[IStreamClientEndpoint, ProbeLink]:
        way = self._way_to(self.place.url)
        link = ProbeLink(way.connection(), self._tools.reactor.seconds, tls=way.url.tls, login=self.place.login)
        return endpoint_of(self._tools, self.place, way, lambda _: None), link

    def _primary_answers(self) -> None:
        """Stay: going back would be a break that nobody asked for. When the backup ends, the primary is next."""
        self._turns.answers()
        self.detail = "on the backup address; the primary answers again and is next"

    def _safe(self, detail: str) -> str:
        return self._bulletin.safe(detail, self._way.url)

    def _set(self, state: TargetState, reason: str, detail: str) -> None:
        if (state, reason, detail) == (self.state, self.reason, self.detail):
            return
        self.state, self.reason, self.detail = state, reason, detail
        self.since = self._tools.reactor.seconds()
        self._bulletin.changed(state, reason, detail, self.url, address=self._address, attempt=self.attempts)
        if state is not TargetState.LIVE:
            self.delivery.confirm(None)
        self.delivery.update()
