"""One ingest of a stream: re-timed, judged, and forwarded while it is live.

Imports the media floor. The rules it guards: every feed is parsed and timed whether it is live or not, so that it can
take over at its next keyframe; one offset carries all its tracks from its own clock to the stream's, and changes only
when it goes live; and what would fall before the cut is left out.

Health is counted in plain integers per packet and turned into rates only when somebody asks (`Feed.sample`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from relay.media.packets import MediaKind, Packet, Role
from relay.media.timeline import Timeline
from relay.media.tracks import TrackTable
from relay.stream.gop import lead_video

AUDIO = MediaKind.AUDIO
VIDEO = MediaKind.VIDEO
FRAME = Role.FRAME

STALE_S = 1.0
"""A feed that sent nothing for so long is chosen only when there is no other."""

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


class FeedState(Enum):
    """Where a feed is in its life."""

    STANDBY = "standby"
    """Parsed and judged, not forwarded."""
    ARMED = "armed"
    """Goes live at its next keyframe."""
    LIVE = "live"
    """What subscribers see."""
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
        """Take a packet of the live feed, in stream time."""
        ...

    def cut_in(self, feed: Feed, packet: Packet) -> None:
        """Make the armed *feed* live, beginning with *packet* (still in the feed's own time)."""
        ...

    def feed_ended(self, feed: Feed, reason: str, now: float) -> None:
        """Forget *feed*."""
        ...


class Feed:
    """One publisher of a stream.

    Attributes:
        name: ``primary``, ``backup``, ...
        priority: 0 is the primary, higher numbers are backups.
        state: see `FeedState`; changed by the stream only.
        table: the feed's own tracks and headers.
        opened_at: when it was opened.
        last_packet_at, last_video_at, last_audio_at: when the newest arrived; None before the first.
        keyframe_interval_ms: distance of the last two keyframes of video track 0; None before there were two.
    """

    def __init__(self, name: str, priority: int, owner: FeedOwner, now: float, *, settle_ms: int = 1000) -> None:
        self.name = name
        self.priority = priority
        self.state = FeedState.STANDBY
        self.table = TrackTable()
        self.opened_at = now
        self.last_packet_at: float | None = None
        self.last_video_at: float | None = None
        self.last_audio_at: float | None = None
        self.bytes_total = 0
        self.packets_total = 0
        self.video_frames_total = 0
        self.audio_frames_total = 0
        self.cut_packets_total = 0
        self.keyframe_interval_ms: int | None = None
        self._owner = owner
        self._publish = owner.publish
        self._timeline = Timeline()
        self._settle_ms = settle_ms
        self._live = False
        self._offset = 0
        self._cut = 0
        # In the time of the feed itself: its first frame, its newest picture, sound and keyframe, and their last steps.
        self._first = self._video = self._audio = self._key = -1
        self._video_step = VIDEO_STEP_MS
        self._audio_step = AUDIO_STEP_MS
        self._samples: deque[tuple[float, int, int]] = deque([(now, 0, 0)])

    def push(self, packet: Packet, now: float) -> None:
        """Take *packet* as the demuxer made it, wire timestamp included."""
        self.last_packet_at = now
        self.packets_total += 1
        self.bytes_total += len(packet.body)
        if packet.role is not FRAME:
            self._push_other(packet)
            return
        kind = packet.kind
        dts = self._timeline.place(kind, packet.track, packet.dts, False)
        if kind is VIDEO:
            self.last_video_at = now
            self.video_frames_total += 1
            last = self._video
            if dts > last:
                if last >= 0:
                    self._video_step = dts - last
                self._video = dts
            if packet.keyframe and not packet.track:
                self._note_keyframe(dts)
        else:
            self.last_audio_at = now
            self.audio_frames_total += 1
            last = self._audio
            if dts > last:
                if last >= 0:
                    self._audio_step = dts - last
                self._audio = dts
        if self._live:
            dts += self._offset
            if dts < self._cut:
                self.cut_packets_total += 1
                return
            packet.dts = dts
            self._publish(packet)
            return
        packet.dts = dts
        self._judge(packet)

    def end(self, reason: str, now: float) -> None:
        """The publisher is gone. *reason* as in `relay.events.FeedEnded`. A second call does nothing."""
        if self.state is not FeedState.ENDED:
            self.retire()
            self._owner.feed_ended(self, reason, now)

    def retire(self) -> None:
        """Called by the stream when it ends: what still arrives goes nowhere."""
        self.state = FeedState.ENDED
        self._live = False

    @property
    def next_dts(self) -> int:
        """Stream time at which another feed may cut in: one frame after the newest picture and the newest sound."""
        video = self._video + min(self._video_step, MAX_STEP_MS) if self._video >= 0 else 0
        audio = self._audio + min(self._audio_step, MAX_STEP_MS) if self._audio >= 0 else 0
        return max(max(video, audio) + self._offset, self._cut)

    @property
    def last_dts(self) -> int:
        """Stream time of the newest frame, as far as this feed is or was live."""
        return max(self._video, self._audio) + self._offset

    def arm(self) -> None:
        """Called by the stream: go live at the next keyframe."""
        if self.state is FeedState.STANDBY:
            self.state = FeedState.ARMED

    def stand_by(self) -> None:
        """Called by the stream: forward nothing, keep judging."""
        if self.state is not FeedState.ENDED:
            self.state = FeedState.STANDBY
            self._live = False

    def go_live(self, *, offset: int, cut: int) -> None:
        """Called by the stream: forward from now on, *offset* ms after the feed's own time, from *cut* on."""
        self.state = FeedState.LIVE
        self._live = True
        self._offset = offset
        self._cut = cut

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

    def _push_other(self, packet: Packet) -> None:
        if packet.role is Role.END:
            return  # The programme goes on, maybe from another feed; its end is the end of the stream.
        dts = packet.dts = self._timeline.place(packet.kind, packet.track, packet.dts, True)
        if not self._live:
            self.table.see(packet)
            return
        dts += self._offset
        if dts < self._cut:
            if packet.role is Role.OTHER:
                self.cut_packets_total += 1
                return
            dts = self._cut
        packet.dts = dts
        self._publish(packet)

    def _judge(self, packet: Packet) -> None:
        """Learn from a packet that is not forwarded; go live with it when the feed is armed and it may start."""
        if self._first < 0:
            self._first = packet.dts
        self.table.see(packet)
        if self.state is FeedState.ARMED and self._may_start(packet):
            self._owner.cut_in(self, packet)
            packet.dts += self._offset
            self._publish(packet)

    def _may_start(self, packet: Packet) -> bool:
        if not self.table.ready(packet):
            return False
        lead = lead_video(self.table.tracks)
        if lead is not None:
            return packet.keyframe and packet.track == lead
        # Without video every frame may start; but give a video track the time to appear.
        return packet.kind is AUDIO and packet.dts - self._first >= self._settle_ms

    def _note_keyframe(self, dts: int) -> None:
        if self._key >= 0:
            self.keyframe_interval_ms = dts - self._key
        self._key = dts


def best_feed(feeds: Sequence[Feed], now: float) -> Feed | None:
    """Return the feed that should be live: one that sends, of the best priority, the oldest among equals."""

    def rank(feed: Feed) -> tuple[bool, int]:
        return (feed.last_packet_at is None or now - feed.last_packet_at > STALE_S, feed.priority)

    return min(feeds, key=rank, default=None)
