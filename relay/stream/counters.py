"""What a feed counts: plain numbers, kept per packet by `Feed.push`, read by the judge and by people.

Imports the media floor. The rule it guards: nothing here is worked out per packet that can be worked out when asked.
"""

from __future__ import annotations

from collections import deque

from relay.media.timeline import Timeline
from relay.stream.health import FeedHealth, Rates

VIDEO_STEP_MS = 33
"""Distance of pictures assumed while there was only one."""

AUDIO_STEP_MS = 23
"""Distance of audio frames assumed while there was only one: 1024 samples at 44.1 kHz."""

MAX_STEP_MS = 100
"""Largest distance to the newest frame at a cut. A longer step is a gap in the feed, not its frame interval."""

STILL_BYTES = 200
"""A picture that is not a keyframe and no larger than this shows no change (reliability.md 3.3 rule 2)."""

SLOW_STEPS = 4096
"""Long frame intervals remembered for the judge."""


METADATA_PER_S = 10
"""onMetaData passed on a second: each goes to every player and destination, and nobody honest changes it so often."""


class FeedCounters:
    """The numbers of one feed.

    Attributes:
        opened_at: when it was opened.
        last_packet_at, last_video_at, last_audio_at, last_keyframe_at: when the newest arrived; None before the first.
        keyframe_interval_ms: distance of the last two keyframes of video track 0; None before there were two.
        longest_gop_ms: the longest such distance so far.
        moving_frames_total: pictures other than keyframes of more than `STILL_BYTES`.
        slow_steps: frame intervals that matter to the judge's threshold, with their arrival.
    """

    def __init__(self, now: float, *, slow_ms: int) -> None:
        """Start counting at *now*; frame intervals of *slow_ms* and more are remembered."""
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
        self.metadata_dropped_total = 0
        self.keyframes_total = 0
        self.moving_frames_total = 0
        self.keyframe_interval_ms: int | None = None
        self.longest_gop_ms = 0
        self.slow_steps: deque[tuple[float, int]] = deque(maxlen=SLOW_STEPS)
        self._slow_ms = slow_ms
        self._timeline = Timeline()
        # In the time of the feed itself: its first frame, its newest picture, sound and keyframe, and their last steps.
        self._first = self._video = self._audio = self._key = -1
        self._video_step = VIDEO_STEP_MS
        self._audio_step = AUDIO_STEP_MS
        self._rates = Rates(now)
        self._metadata_room = float(METADATA_PER_S)
        self._metadata_at = now

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
    def step_ms(self) -> int:
        """Its frame interval, or what is assumed."""
        return min(self._video_step, MAX_STEP_MS)

    def sample(self, now: float) -> FeedHealth:
        """Return how the feed does; meant to be called about once a second."""
        return self._rates.health(self, now, clamped=self._timeline.clamped)

    def _metadata_is_due(self, now: float) -> bool:
        """Whether one more onMetaData may pass (reliability.md case 59); counts it either way."""
        room = self._metadata_room + (now - self._metadata_at) * METADATA_PER_S
        room = min(room, float(METADATA_PER_S))
        self._metadata_at = now
        due = room >= 1.0
        self._metadata_room = room - due
        self.metadata_dropped_total += not due
        return due

    def _note_keyframe(self, dts: int, now: float) -> None:
        if self._key >= 0:
            self.keyframe_interval_ms = dts - self._key
            self.longest_gop_ms = max(self.longest_gop_ms, self.keyframe_interval_ms)
        self._key = dts
        self.last_keyframe_at = now
        self.keyframes_total += 1
