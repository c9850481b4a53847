"""The bounded queue in front of one slow destination.

Imports packets and `lead_video`. The rule it guards: what comes out can be decoded. When the queue is full, the oldest
GOP is left out whole, with the audio and data of its span, so that picture and sound stay together; when that empties
the queue, nothing is taken until the next keyframe. Without video every audio packet is a random access point. Only
at the beginning of the programme sound may come before the first keyframe, as the encoder sent it.

Full in time means: more than `max_ms` waits, and with it a later start, to go on from (P15: > 2 s backlog -> drop to
IDR). While there is none, the GOP that has begun is kept, up to `BEGUN_GOP` times as long.

The use of one, by a sink:

    configure(tracks)  -> outbox.configure(tracks)
    write(packet)      -> outbox.append(packet)
    the transport can take more ->
        for packet in outbox.take(65536):       # ends before a change of configuration
            send(packet)
        if outbox.needs_opening:                # before the first packet, and where the configuration changes
            send all of outbox.take_opening().opening()
    connected again    -> outbox.restart()
"""

from __future__ import annotations

import sys
from collections import deque

from relay.media.packets import MediaKind, Packet, TrackSet
from relay.stream.gop import lead_video

MIB = 1024 * 1024

BEGUN_GOP = 2
"""A GOP that has begun may wait for this many times `max_ms`, 4 s by default. Platforms want a keyframe at least every
4 s: leaving it out sooner would cost an encoder that keeps to that its first pictures at every connect."""

AUDIO = MediaKind.AUDIO
VIDEO = MediaKind.VIDEO


class Outbox:
    """Packets that wait for one destination: at most *max_bytes* of bodies, and *max_ms* of stream time or one GOP.

    Attributes:
        queue_bytes: bodies waiting now.
        dropped_packets: packets the destination never got, accumulated.
        dropped_bytes: their bodies.
        dropped_gops: how often a GOP, or the rest of one, was left out, accumulated.
        waiting: nothing is taken until the next keyframe.
    """

    __slots__ = (
        "_beginning",
        "_floor",
        "_lead",
        "_marks",
        "_max_bytes",
        "_max_ms",
        "_newest",
        "_opening",
        "_queue",
        "_start",
        "_tracks",
        "dropped_bytes",
        "dropped_gops",
        "dropped_packets",
        "queue_bytes",
        "waiting",
    )

    def __init__(self, max_bytes: int = 8 * MIB, max_ms: int = 2000) -> None:
        self.queue_bytes = 0
        self.dropped_packets = 0
        self.dropped_bytes = 0
        self.dropped_gops = 0
        self.waiting = True
        self._max_bytes = max_bytes
        self._max_ms = max_ms
        # A TrackSet in the queue marks where the configuration changes. It never stays at the head: there it
        # becomes `_opening`.
        self._queue: deque[Packet | TrackSet] = deque()
        self._marks = 0
        self._opening: TrackSet | None = None
        self._tracks = TrackSet()
        self._lead: int | None = None
        self._start: Packet | None = None  # the newest one in the queue that may follow a gap
        self._newest = 0
        self._floor = 0
        self._beginning = True

    def __len__(self) -> int:
        return len(self._queue) - self._marks

    @property
    def queue_ms(self) -> int:
        """Stream time from the oldest to the newest waiting packet."""
        oldest = self.peek()
        return 0 if oldest is None else max(self._newest - oldest.dts, 0)

    @property
    def needs_opening(self) -> bool:
        """Whether metadata and sequence headers must be sent before the next packet."""
        return self._opening is not None

    def take_opening(self) -> TrackSet:
        """Return the tracks whose opening is sent now."""
        if self._opening is not None:
            self._tracks = self._opening
            self._opening = None
        return self._tracks

    def configure(self, tracks: TrackSet) -> None:
        """Note that packets appended from now on belong to *tracks*."""
        self._queue.append(tracks)
        self._marks += 1
        self._reach_mark()
        lead = lead_video(tracks)
        if lead != self._lead:
            self._lead = lead
            self._start = self._find_start()
            self.waiting = True

    def begin_at_keyframe(self) -> None:
        """Take nothing before the next keyframe: the programme is on already, this is not its beginning."""
        self._beginning = False

    def restart(self) -> None:
        """Begin again with an opening and a keyframe: the destination is a new one."""
        if self._opening is None:
            self._opening = self._tracks
        oldest = self.peek()
        if oldest is not None and not self._beginning:
            if not self._may_start(oldest):
                self._drop_gop()
            elif self._lead is not None:
                self._drop_before(oldest)
        if not self._queue:
            self.waiting = True

    def append(self, packet: Packet) -> bool:
        """Queue *packet*; return False when it was left out. Older packets may be left out to make room."""
        size = len(packet.body)
        if self.waiting:
            if size > self._max_bytes or not self._enter(packet):
                return self._refuse(packet)
        elif packet.dts < self._floor:
            return self._refuse(packet)
        elif size > self._max_bytes:
            self.waiting = packet.kind is VIDEO
            return self._refuse(packet)
        if not self._queue or packet.dts > self._newest:
            self._newest = packet.dts
        if self._too_much_with(packet):
            self._make_room(packet)
            if not self._fits_after_drop(packet):
                return self._refuse(packet)
        self._queue.append(packet)
        self.queue_bytes += size
        if self._may_start(packet):
            self._start = packet
        return True

    def peek(self) -> Packet | None:
        """Return the next packet without taking it."""
        head = self._queue[0] if self._queue else None
        return head if isinstance(head, Packet) else None

    def pop(self) -> Packet | None:
        """Take the next packet; None when there is none. Ask `needs_opening` before."""
        head = self.peek()
        if head is not None:
            self._queue.popleft()
            self._beginning = False
            self.queue_bytes -= len(head.body)
            if head is self._start:
                self._start = None
            self._reach_mark()
        return head

    def take(self, max_bytes: int, before: int = sys.maxsize) -> list[Packet]:
        """Take packets of at most *max_bytes* together, but at least one; nothing while an opening is due.

        Ends at the first packet of stream time *before*.
        """
        taken: list[Packet] = []
        room = max_bytes
        while self._opening is None and (head := self.peek()) is not None:
            room -= len(head.body)
            if (room < 0 and taken) or head.dts >= before:
                break
            taken.append(head)
            self.pop()
        return taken

    def _may_start(self, packet: Packet) -> bool:
        if self._lead is None:
            return packet.kind is AUDIO or packet.keyframe
        return packet.keyframe and packet.track == self._lead

    def _enter(self, packet: Packet) -> bool:
        """Return whether *packet* is taken while waiting: a keyframe, or the sound before the very first one."""
        if self._may_start(packet):
            self.waiting = False
            if not self._beginning:
                self._floor = packet.dts
            return True
        return self._beginning and packet.kind is AUDIO

    def _fits_after_drop(self, packet: Packet) -> bool:
        """Return whether *packet* may still be queued once a GOP was left out because of it."""
        if self._queue:
            return packet.dts >= self._floor  # if not, it is sound of the span that is gone
        self.waiting = not self._may_start(packet)
        self._floor = packet.dts
        return not self.waiting

    def _refuse(self, packet: Packet) -> bool:
        self.dropped_packets += 1
        self.dropped_bytes += len(packet.body)
        return False

    def _too_much_with(self, packet: Packet) -> bool:
        """Return whether something must be left out once *packet*, the newest, is there."""
        if self.queue_bytes + len(packet.body) > self._max_bytes:
            return True
        waits = self.queue_ms
        if waits <= self._max_ms:
            return False
        later = self._start is not None and self._start is not self._queue[0]
        return later or waits > BEGUN_GOP * self._max_ms or self._may_start(packet)

    def _make_room(self, packet: Packet) -> None:
        while self._queue and self._too_much_with(packet):
            self._drop_gop()

    def _find_start(self) -> Packet | None:
        for entry in reversed(self._queue):
            if isinstance(entry, Packet) and self._may_start(entry):
                return entry
        return None

    def _drop_gop(self) -> None:
        """Leave out the oldest packet and what cannot be shown without it: all before the next keyframe."""
        while (head := self.pop()) is not None:
            self._refuse(head)
            follower = self.peek()
            if follower is not None and self._may_start(follower):
                break
        if self._lead is not None:
            self.dropped_gops += 1
            self._drop_before(self.peek())

    def _drop_before(self, start: Packet | None) -> None:
        """Leave out sound of the span that is gone but that was sent after the keyframe *start*."""
        if start is None:
            return
        self._floor = start.dts
        kept: deque[Packet | TrackSet] = deque()
        for entry in self._queue:
            if isinstance(entry, Packet) and entry.dts < start.dts:
                self.queue_bytes -= len(entry.body)
                self._refuse(entry)
            else:
                kept.append(entry)
        self._queue = kept
        self._start = self._find_start()

    def _reach_mark(self) -> None:
        """Turn marks at the head into the opening that is due."""
        while self._queue:
            head = self._queue[0]
            if not isinstance(head, TrackSet):
                break
            self._opening = head
            self._queue.popleft()
            self._marks -= 1
