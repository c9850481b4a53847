"""One ingest of a stream: re-timed, counted, kept while it stands by, and forwarded while it is on air.

Imports the media floor. The rules it guards: every feed is parsed and timed whether it is live or not, so that it can
take over at once; one offset carries all its tracks from its own clock to the stream's, and changes only when it goes
on air; and what would fall before the cut is left out.

The only feed of a stream takes the short way through `push`, which stays in one piece because counting in methods of
their own costs 5 % (benchmarks/micro.py). Everything else (standing by, catching up after a splice,
being compared or merged with another feed) goes through one bound method, `_take`, that changes with the state.

Health is counted in plain integers per packet; `relay.stream.judge` reads them a few times a second, and `Feed.sample`
turns them into rates when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from relay.media.packets import MediaKind, Packet, Role
from relay.media.tracks import TrackTable
from relay.stream.counters import STILL_BYTES
from relay.stream.gop import lead_video
from relay.stream.judge import Judge
from relay.stream.owners import FeedOwner
from relay.stream.place import FeedPlace, FeedState
from relay.stream.policy import FailoverOptions
from relay.stream.splice import Splice
from relay.stream.standby import Arrived, StandbyRing
from relay.stream.tracksets import only_adds

__all__ = ["Feed", "FeedState"]

VIDEO = MediaKind.VIDEO
FRAME = Role.FRAME


class Feed(FeedPlace):
    """One publisher of a stream; what it counts, and where it is, is in its bases.

    Attributes:
        name: ``primary``, ``backup``, ...
        priority: 0 is the primary, higher numbers are backups.
        state: see `FeedState`; changed by the stream only.
        table: the feed's own tracks and headers.
        judge: whether it is fit to be seen.
    """

    def __init__(
        self,
        name: str,
        priority: int,
        owner: FeedOwner,
        now: float,
        *,
        settle_ms: int = 1000,
        options: FailoverOptions | None = None,
    ) -> None:
        options = options or FailoverOptions()
        super().__init__(now, slow_ms=max(options.video_stall_ms // 10, 1))
        self.name = name
        self.priority = priority
        self.state = FeedState.STANDBY
        self.table = TrackTable()
        self.judge = Judge(self, options)
        self._owner = owner
        self._publish = owner.publish
        self._settle_ms = settle_ms
        self._live = False
        self._over = False
        self._ring = StandbyRing()
        self._take: Callable[[Packet, float], None] = self._stand

    def push(self, packet: Packet, now: float) -> None:
        """Take *packet* as the demuxer made it, wire timestamp included."""
        self.last_packet_at = now
        self.packets_total += 1
        size = len(packet.body)
        self.bytes_total += size
        if packet.role is not FRAME:
            self._push_other(packet, now)
            return
        kind = packet.kind
        dts = self._timeline.place(kind, packet.track, packet.dts, False)
        if kind is VIDEO:
            self.last_video_at = now
            self.video_frames_total += 1
            last = self._video
            if dts > last:
                if last >= 0:
                    self._video_step = step = dts - last
                    if step >= self._slow_ms:
                        self.slow_steps.append((now, step))
                self._video = dts
            if packet.keyframe:
                if not packet.track:
                    self._note_keyframe(dts, now)
            elif size > STILL_BYTES:
                self.moving_frames_total += 1
        else:
            self.last_audio_at = now
            self.audio_frames_total += 1
            last = self._audio
            if dts > last:
                if last >= 0:
                    self._audio_step = dts - last
                self._audio = dts
        if self._live:
            dts += self.offset
            if dts < self._cut:
                self.cut_packets_total += 1
                return
            packet.dts = dts
            self._publish(packet)
            return
        packet.dts = dts
        self._take(packet, now)

    def end(self, reason: str, now: float) -> None:
        """The publisher is gone. *reason* as in `relay.events.FeedEnded`. A second call does nothing."""
        if not self._over:
            self._over = True
            self._owner.feed_ended(self, reason, now)
            self.retire()

    def retire(self) -> None:
        """Called by the stream when it ends: what still arrives goes nowhere."""
        self._over = True
        self.state = FeedState.ENDED
        self._leave_air()
        self._take = _drop

    # On and off the air; called by the stream.

    @property
    def can_start(self) -> bool:
        """Whether it can be put on air at once."""
        return bool(self._ring) and self._settled

    @property
    def _settled(self) -> bool:
        """Whether it may start without video: a video track was given the time to appear."""
        return self._ring.lead is not None or self.newest_ms - self._first >= self._settle_ms

    def arm(self) -> None:
        """Go on air as soon as there is a new place to start."""
        if self.state is FeedState.STANDBY:
            self.state = FeedState.ARMED

    def disarm(self) -> None:
        """Do not."""
        if self.state is FeedState.ARMED:
            self.state = FeedState.STANDBY

    def stand_by(self) -> None:
        """Forward nothing, keep what comes from the next keyframe on."""
        if self.state is not FeedState.ENDED:
            self.state = FeedState.STANDBY
            self._leave_air()
            self._ring = StandbyRing(lead_video(self.table.tracks))
            self._take = self._stand

    def go_live(self, *, offset: int, cut: int) -> None:
        """Forward from now on, *offset* ms after the feed's own time, from *cut* on."""
        self.state = FeedState.LIVE
        self.offset = offset
        self._cut = cut
        self._ring.clear()
        self.go_straight()

    def go_straight(self) -> None:
        """Forward what comes; on the short way when there is nobody to compare it with."""
        self._merging = False
        self._splice = None
        self._live = self.peers is None
        self._take = self._forward_compared

    def replay_from(self, at: float) -> list[Arrived]:
        """Return what to replay when the programme so far ends with what arrived at *at*; see `StandbyRing.begin`."""
        return self._ring.begin(at)

    def kept(self) -> Iterator[Packet]:
        """Return all that is kept of a feed that stands by."""
        return self._ring.packets()

    def go_live_with(self, packets: list[Arrived], *, offset: int, cut: int, now: float) -> None:
        """Replay *packets*, then forward; call `release` when the sinks know the tracks."""
        self.state = FeedState.LIVE
        self.offset = offset
        self._cut = cut
        self._ring.clear()
        self._live = self._merging = False
        self._splice = Splice(packets, now)
        self._aired = {}
        self._take = self._queue

    def release(self, now: float) -> None:
        """Publish what may go out by now."""
        splice = self._splice
        if splice is not None:
            self._replay(splice.due(now))
            if not splice and self._splice is splice:
                self.go_straight()

    def flush(self) -> None:
        """Publish all that waits: nothing will follow it."""
        splice = self._splice
        if splice is not None:
            self._replay(splice.rest())

    def merge(self, offset: int, state: FeedState) -> None:
        """Be on air together with others: the first copy of each frame is published."""
        self.state = state
        self.offset = offset
        self._ring.clear()
        self._live = False
        self._merging = True
        self._cut = 0
        self._take = self._merge_in

    def _leave_air(self) -> None:
        self._live = self._merging = False
        self._splice = None
        self._ring.clear()

    # What becomes of a packet, by state.

    def _push_other(self, packet: Packet, now: float) -> None:
        if packet.role is Role.END:
            return  # The programme goes on, maybe from another feed; its end is the end of the stream.
        if packet.role is Role.METADATA and not self._metadata_is_due(now):
            return
        packet.dts = self._timeline.place(packet.kind, packet.track, packet.dts, True)
        if self._splice is not None:
            self._splice.append(packet, now)
        elif self._merging:
            self._merge_other(packet)
        elif self.state is FeedState.LIVE:
            self._forward_other(packet)
        elif self.state is not FeedState.ENDED:
            self._learn(packet)
            if packet.role is Role.OTHER:
                self._ring.add(packet, now)

    def _forward_other(self, packet: Packet) -> None:
        dts = packet.dts + self.offset
        if dts < self._cut:
            if packet.role is Role.OTHER:
                self.cut_packets_total += 1
                return
            dts = self._cut
        packet.dts = dts
        self._publish(packet)

    def _forward_compared(self, packet: Packet, now: float) -> None:
        peers = self.peers
        if peers is not None and packet.keyframe:
            peers.compare(self, packet)
            if self._merging:  # the comparison found a copy of this feed
                self._merge_in(packet, now)
                return
        packet.dts += self.offset
        if packet.dts < self._cut:
            self.cut_packets_total += 1
            return
        if peers is not None:
            peers.note(packet)
        self._publish(packet)

    def _queue(self, packet: Packet, now: float) -> None:
        splice = self._splice
        assert splice is not None  # noqa: S101 - this is the way of a packet only while there is one
        if self.peers is not None and packet.keyframe:
            self.peers.compare(self, packet)
        splice.append(packet, now)
        self.release(now)

    def _replay(self, packets: list[Arrived]) -> None:
        for arrived, packet in packets:
            if self.state is not FeedState.LIVE:
                return  # a sink ended the stream
            if packet.role is not FRAME:
                self._forward_other(packet)
                continue
            self._aired_at = arrived
            self._aired[packet.kind] = max(packet.dts, self._aired.get(packet.kind, -1))
            packet.dts += self.offset
            if packet.dts < self._cut:
                self.cut_packets_total += 1
                continue
            if self.peers is not None:
                self.peers.note(packet)
            self._publish(packet)

    def _merge_in(self, packet: Packet, now: float) -> None:
        peers = self.peers
        assert peers is not None  # noqa: S101 - merged feeds have them
        if packet.keyframe:
            peers.compare(self, packet)  # a third feed may carry the same
        packet.dts += self.offset
        if peers.admit(self, packet):
            self._publish(packet)

    def _merge_other(self, packet: Packet) -> None:
        packet.dts += self.offset
        if self.peers is not None and self.peers.admit_other(self, packet):
            self._publish(packet)
        self.table.see(packet)

    def _stand(self, packet: Packet, now: float) -> None:
        if self._first < 0:
            self._first = packet.dts
        self._learn(packet)
        if not self.table.ready(packet):
            return
        ring = self._ring
        opened = ring.add(packet, now)
        if opened and self.peers is not None and packet.keyframe:
            self.peers.compare(self, packet)
        if self.state is FeedState.ARMED and (opened or ring.lead is None) and self.can_start:
            self._owner.start_found(self, now)

    def _learn(self, packet: Packet) -> None:
        """Note tracks and headers; what is kept must be decodable with them."""
        before = self.table.tracks
        if self.table.see(packet):
            after = self.table.tracks
            if not only_adds(before, after):
                self._ring.clear()
            self._ring.follow(lead_video(after))


def _drop(packet: Packet, now: float) -> None:
    """Take what arrives after the end."""
