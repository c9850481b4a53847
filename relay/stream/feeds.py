"""One ingest of a stream: re-timed, counted, kept while it stands by, and forwarded while it is on air.

Imports the media floor. The rules it guards: every feed is parsed and timed whether it is live or not, so that it can
take over at once; one offset carries all its tracks from its own clock to the stream's, and changes only when it goes
on air; and what would fall before the cut is left out.

The only feed of a stream takes the short way through `push`. Everything else (standing by, catching up after a splice,
being compared or merged with another feed) goes through one bound method, `_take`, that changes with the state.

Health is counted in plain integers per packet; `relay.stream.judge` reads them a few times a second, and `Feed.sample`
turns them into rates when somebody asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from relay.media.packets import MediaKind, Packet, Role
from relay.media.timeline import Timeline
from relay.media.tracks import TrackTable
from relay.stream.gop import lead_video
from relay.stream.judge import Judge
from relay.stream.policy import FailoverOptions
from relay.stream.splice import Splice
from relay.stream.standby import Arrived, StandbyRing
from relay.stream.tracksets import only_adds

AUDIO = MediaKind.AUDIO
VIDEO = MediaKind.VIDEO
FRAME = Role.FRAME

WINDOW_S = 5.0
"""Rates are averages over this long: two GOPs of the usual 2 s, so that keyframes do not make them jump."""

VIDEO_STEP_MS = 33
"""Distance of pictures assumed while there was only one."""

AUDIO_STEP_MS = 23
"""Distance of audio frames assumed while there was only one: 1024 samples at 44.1 kHz."""

MAX_STEP_MS = 100
"""Largest distance to the newest frame at a cut. A longer step is a gap in the feed, not its frame interval."""

SAMPLE_S = 0.25
"""Closest spacing of the samples kept, so that an eager observer cannot make us keep many."""

STILL_BYTES = 200
"""A picture that is not a keyframe and no larger than this shows no change (reliability.md 3.3 rule 2)."""

SLOW_STEPS = 4096
"""Long frame intervals remembered for the judge."""


class FeedState(Enum):
    """Where a feed is in its life."""

    STANDBY = "standby"
    """Parsed and judged, not forwarded."""
    ARMED = "armed"
    """Goes live at its next keyframe."""
    LIVE = "live"
    """What subscribers see."""
    MERGED = "merged"
    """On air together with the live feed: of each frame, the first copy is taken."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedHealth:
    """How a feed does. Rates are averages of the last seconds, the rest is accumulated or the latest value."""

    bitrate_kbps: float
    fps: float
    keyframe_interval_ms: int | None
    last_packet_age_ms: int | None
    bytes_total: int
    packets_total: int
    video_frames_total: int
    audio_frames_total: int
    cut_packets_total: int
    """Packets left out because they lay before the cut."""
    timeline_resets: int
    timestamps_clamped: int


class FeedOwner(Protocol):
    """The stream as its feeds see it."""

    def publish(self, packet: Packet) -> None:
        """Take a packet of a feed on air, in stream time."""
        ...

    def start_found(self, feed: Feed, now: float) -> None:
        """Put the armed *feed* on air: it has a place to start."""
        ...

    def caught_up(self, feed: Feed) -> None:
        """*feed* was put on air behind its own time and is at its end now."""
        ...

    def feed_ended(self, feed: Feed, reason: str, now: float) -> None:
        """Forget *feed*."""
        ...


class Peers(Protocol):
    """Where feeds that may carry the same frames are compared; see `relay.stream.merge`."""

    @property
    def next_dts(self) -> int:
        """Stream time after all that was published."""
        ...

    @property
    def last_dts(self) -> int:
        """Stream time of the newest frame that was published."""
        ...

    def compare(self, feed: Feed, packet: Packet) -> None:
        """Look at a keyframe of *feed*, in the feed's own time."""
        ...

    def note(self, packet: Packet) -> None:
        """Remember a frame that was published, in stream time."""
        ...

    def admit(self, feed: Feed, packet: Packet) -> bool:
        """Whether a frame of a merged feed, in stream time, is the first copy."""
        ...

    def admit_other(self, feed: Feed, packet: Packet) -> bool:
        """The same for what is not a frame."""
        ...


class Feed:
    """One publisher of a stream.

    Attributes:
        name: ``primary``, ``backup``, ...
        priority: 0 is the primary, higher numbers are backups.
        state: see `FeedState`; changed by the stream only.
        table: the feed's own tracks and headers.
        judge: whether it is fit to be seen.
        opened_at: when it was opened.
        last_packet_at, last_video_at, last_audio_at, last_keyframe_at: when the newest arrived; None before the first.
        keyframe_interval_ms: distance of the last two keyframes of video track 0; None before there were two.
        longest_gop_ms: the longest such distance so far.
        moving_frames_total: pictures other than keyframes of more than `STILL_BYTES`.
        slow_steps: frame intervals that matter to the judge's threshold, with their arrival.
        offset: stream time minus the feed's own time, while it is on air.
        peers: where it is compared with other feeds; None while there is nothing to compare.
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
        self.name = name
        self.priority = priority
        self.state = FeedState.STANDBY
        self.table = TrackTable()
        self.opened_at = now
        self.last_packet_at: float | None = None
        self.last_video_at: float | None = None
        self.last_audio_at: float | None = None
        self.last_keyframe_at: float | None = None
        self.bytes_total = 0
        self.packets_total = 0
        self.video_frames_total = 0
        self.audio_frames_total = 0
        self.cut_packets_total = 0
        self.keyframes_total = 0
        self.moving_frames_total = 0
        self.keyframe_interval_ms: int | None = None
        self.longest_gop_ms = 0
        self.slow_steps: deque[tuple[float, int]] = deque(maxlen=SLOW_STEPS)
        self.offset = 0
        self.peers: Peers | None = None
        options = options or FailoverOptions()
        self.judge = Judge(self, options)
        self._slow_ms = max(options.video_stall_ms // 4, 1)
        self._owner = owner
        self._publish = owner.publish
        self._timeline = Timeline()
        self._settle_ms = settle_ms
        self._live = False
        self._merging = False
        self._over = False
        self._cut = 0
        # In the time of the feed itself: its first frame, its newest picture, sound and keyframe, and their last steps.
        self._first = self._video = self._audio = self._key = -1
        self._video_step = VIDEO_STEP_MS
        self._audio_step = AUDIO_STEP_MS
        self._ring = StandbyRing()
        self._splice: Splice | None = None
        self._aired: dict[MediaKind, int] = {}
        self._aired_at = now
        self._take: Callable[[Packet, float], None] = self._stand
        self._samples: deque[tuple[float, int, int]] = deque([(now, 0, 0)])

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

    # Where it is.

    @property
    def next_dts(self) -> int:
        """Stream time at which another feed may cut in: one frame after the newest picture and the newest sound."""
        if self._merging and self.peers is not None:
            return self.peers.next_dts
        return max(max(self._ends().values(), default=0) + self.offset, self._cut)

    @property
    def last_dts(self) -> int:
        """Stream time of the newest frame, as far as this feed is or was live."""
        if self._merging and self.peers is not None:
            return self.peers.last_dts
        return max(self._positions().values(), default=-1) + self.offset

    @property
    def content_at(self) -> float:
        """When the newest content that subscribers have arrived here: the place where another feed goes on."""
        if self._splice is not None:
            return self._aired_at
        ends = self._ends()
        if not ends:
            return self.opened_at
        last_at = self.last_video_at if max(ends, key=lambda kind: ends[kind]) is VIDEO else self.last_audio_at
        return self.opened_at if last_at is None else last_at

    @property
    def newest_ms(self) -> int:
        """The newest frame in the feed's own time."""
        return max(self._video, self._audio)

    @property
    def skew_ms(self) -> int:
        """How far sound is ahead of the picture."""
        return self._audio - self._video if self._audio >= 0 and self._video >= 0 else 0

    @property
    def resets(self) -> int:
        """How often its clock was replaced."""
        return self._timeline.resets

    @property
    def catching_up(self) -> bool:
        """Whether it is on air behind its own time."""
        return self._splice is not None

    @property
    def can_start(self) -> bool:
        """Whether it can be put on air at once."""
        return bool(self._ring) and self._settled

    @property
    def step_ms(self) -> int:
        """Its frame interval, or what is assumed."""
        return min(self._video_step, MAX_STEP_MS)

    @property
    def merging(self) -> bool:
        """Whether its frames pass only when no other feed has brought them."""
        return self._merging

    @property
    def on_air_until(self) -> dict[MediaKind, int]:
        """Stream time of its newest frame of each kind."""
        return {kind: at + self.offset for kind, at in self._positions().items()}

    def _positions(self) -> dict[MediaKind, int]:
        if self._splice is not None:
            return self._aired
        return {kind: at for kind, at in ((VIDEO, self._video), (AUDIO, self._audio)) if at >= 0}

    def _ends(self) -> dict[MediaKind, int]:
        steps = {VIDEO: self._video_step, AUDIO: self._audio_step}
        return {kind: at + min(steps[kind], MAX_STEP_MS) for kind, at in self._positions().items()}

    @property
    def _settled(self) -> bool:
        """Whether it may start without video: a video track was given the time to appear."""
        return self._ring.lead is not None or self.newest_ms - self._first >= self._settle_ms

    # On and off the air; called by the stream.

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
                self._owner.caught_up(self)

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

    def _note_keyframe(self, dts: int, now: float) -> None:
        if self._key >= 0:
            self.keyframe_interval_ms = dts - self._key
            self.longest_gop_ms = max(self.longest_gop_ms, self.keyframe_interval_ms)
        self._key = dts
        self.last_keyframe_at = now
        self.keyframes_total += 1

    # Health for people.

    def sample(self, now: float) -> FeedHealth:
        """Return how the feed does; meant to be called about once a second."""
        samples = self._samples
        while len(samples) > 1 and samples[1][0] <= now - WINDOW_S:
            samples.popleft()
        since, nbytes, frames = samples[0]
        span = now - since
        if now - samples[-1][0] >= SAMPLE_S:
            samples.append((now, self.bytes_total, self.video_frames_total))
        return FeedHealth(
            bitrate_kbps=(self.bytes_total - nbytes) * 8 / 1000 / span if span > 0 else 0.0,
            fps=(self.video_frames_total - frames) / span if span > 0 else 0.0,
            keyframe_interval_ms=self.keyframe_interval_ms,
            last_packet_age_ms=None if self.last_packet_at is None else round((now - self.last_packet_at) * 1000),
            bytes_total=self.bytes_total,
            packets_total=self.packets_total,
            video_frames_total=self.video_frames_total,
            audio_frames_total=self.audio_frames_total,
            cut_packets_total=self.cut_packets_total,
            timeline_resets=self._timeline.resets,
            timestamps_clamped=self._timeline.clamped,
        )


def _drop(packet: Packet, now: float) -> None:
    """Take what arrives after the end."""
