"""Moves a running push to another server, because its destination asks for that (E-RTMP v2 §Reconnect Request).

Make before break: while the new connection goes as far as an accepted publish, the old one gets everything. At the next
keyframe the programme changes over: the old one gets what comes before, the new one begins with its opening and that
picture; no frame is left out and none is sent twice. The rule it guards: a new server that does not work costs nothing.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall

from relay.errors import DestinationError
from relay.media.packets import MediaKind, Packet, TrackSet
from relay.net.attempt import Attempt, AttemptOwner
from relay.rtmp.events import ReconnectRequested

JITTER_S = 1.0
"""A server that is about to restart asks everybody at once."""

PREPARE_S = 15.0
"""For the new connection, from DNS to the accepted publish; then we stay where we are."""

LINGER_MS = 500
"""Stream time after the keyframe for which sound that belongs before it may still come."""


class _Stage(Enum):
    WAITING = "waiting"
    PREPARING = "preparing"
    READY = "ready"
    CHANGED = "changed"
    OVER = "over"


class HandoverOwner(AttemptOwner, Protocol):
    """The push that moves."""

    def handover_changed(self, handover: Handover) -> None:
        """The programme goes to the new attempt from now on; it is the push's own."""
        ...

    def handover_failed(self, handover: Handover, error: DestinationError) -> None:
        """The new server does not work; everything is as before."""
        ...

    def handover_over(self, handover: Handover) -> None:
        """The old connection is being closed."""
        ...


class Handover:
    """One move of one push.

    Attributes:
        old: the attempt that is left.
        new: the attempt that is moved to; of this handover until the programme changes over.
    """

    def __init__(self, owner: HandoverOwner, old: Attempt, new: Attempt, tracks: TrackSet) -> None:
        self.old = old
        self.new = new
        self._owner = owner
        self._stage = _Stage.WAITING
        self._timer: IDelayedCall | None = None
        self._start = 0
        new.owner = self
        new.outbox.begin_at_keyframe()
        new.outbox.configure(tracks)

    @property
    def changed(self) -> bool:
        """Whether the new connection has the programme."""
        return self._stage in (_Stage.CHANGED, _Stage.OVER)

    @property
    def ready(self) -> bool:
        """Whether the new connection waits for a keyframe."""
        return self._stage is _Stage.READY

    def begin(self, wait_s: float) -> None:
        """Connect after *wait_s*."""
        self._timer = self.new.tools.reactor.callLater(wait_s, self._prepare)

    def _prepare(self) -> None:
        self._stage = _Stage.PREPARING
        self._timer = self.new.tools.reactor.callLater(PREPARE_S, self._took_too_long)
        self.new.start()

    def _took_too_long(self) -> None:
        self._timer = None
        self.new.give_up()

    def stop(self) -> None:
        """Wait for nothing any more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def configure(self, tracks: TrackSet) -> None:
        """Take new tracks before the programme changes over; after that the new attempt is the push's own."""
        if not self.changed:
            self.new.outbox.configure(tracks)

    def takes(self, packet: Packet) -> bool:
        """Take *packet* if it is not the push's own business."""
        if self._stage is _Stage.READY:
            return self._change_over(packet)
        if self._stage is not _Stage.CHANGED:
            return False
        if packet.dts < self._start and packet.kind is not MediaKind.VIDEO:
            if self.old.outbox.append(packet) and self.old.link is not None:
                self.old.link.pump_later()
            return True
        if packet.kind is MediaKind.AUDIO or packet.dts > self._start + LINGER_MS:
            self.finish()
        return False

    def _change_over(self, packet: Packet) -> bool:
        if self.new.link is None or not self.new.outbox.append(packet):
            return False
        self._start = packet.dts
        self._adopt()
        self.new.link.pump_later()
        return True

    def _adopt(self) -> None:
        self._stage = _Stage.CHANGED
        self.new.owner = self._owner
        self._owner.handover_changed(self)

    def jump(self) -> None:
        """The old connection is gone: the new one begins at the next keyframe all the same."""
        self._adopt()
        self.finish()

    def finish(self) -> None:
        """Everything that belongs to the old connection is on its way: close it without a word."""
        if self._stage is not _Stage.CHANGED:
            return
        self._stage = _Stage.OVER
        if self.new.link is not None:
            self.new.link.apart = False
            self.new.link.pump_later()
        self._owner.handover_over(self)

    # What the new attempt says before it is the push's own.

    def attempt_live(self, attempt: Attempt) -> None:
        """Wait for a keyframe; until then the old one gets its packets one by one."""
        self.stop()
        self._stage = _Stage.READY
        for one in (attempt, self.old):
            if one.link is not None:
                one.link.apart = True
                one.link.fall_out()

    def attempt_progress(self, attempt: Attempt) -> None:
        """It has no packets yet."""

    def attempt_asked(self, attempt: Attempt, event: ReconnectRequested) -> None:
        """One move at a time."""

    def attempt_in_step(self, attempt: Attempt, yes: bool) -> None:
        """It has no packets yet."""

    def attempt_over(self, attempt: Attempt, error: DestinationError, lived_s: float) -> None:
        """The new server does not work: everything stays as it is."""
        self.stop()
        self._stage = _Stage.OVER
        if self.old.link is not None:
            self.old.link.apart = False
            self.old.link.pump_later()
        self._owner.handover_failed(self, error)
