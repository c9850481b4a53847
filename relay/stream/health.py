"""How a feed does, in numbers for people: rates of the last seconds, made when somebody asks.

Imports nothing of ours. The rule it guards: asking often changes nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

WINDOW_S = 5.0
"""Rates are averages over this long: two GOPs of the usual 2 s, so that keyframes do not make them jump."""

SAMPLE_S = 0.25
"""Closest spacing of the samples kept, so that an eager observer cannot make us keep many."""


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


class Counted(Protocol):
    """The counters of a feed."""

    keyframe_interval_ms: int | None
    last_packet_at: float | None
    bytes_total: int
    packets_total: int
    video_frames_total: int
    audio_frames_total: int
    cut_packets_total: int

    @property
    def resets(self) -> int:
        """How often its clock was replaced."""
        ...


class Rates:
    """Samples of the counters of one feed."""

    def __init__(self, now: float) -> None:
        self._samples: deque[tuple[float, int, int]] = deque([(now, 0, 0)])

    def health(self, feed: Counted, now: float, *, clamped: int) -> FeedHealth:
        """Return the health of *feed*, of whose timestamps *clamped* were moved."""
        samples = self._samples
        while len(samples) > 1 and samples[1][0] <= now - WINDOW_S:
            samples.popleft()
        since, nbytes, frames = samples[0]
        span = now - since
        if now - samples[-1][0] >= SAMPLE_S:
            samples.append((now, feed.bytes_total, feed.video_frames_total))
        return FeedHealth(
            bitrate_kbps=(feed.bytes_total - nbytes) * 8 / 1000 / span if span > 0 else 0.0,
            fps=(feed.video_frames_total - frames) / span if span > 0 else 0.0,
            keyframe_interval_ms=feed.keyframe_interval_ms,
            last_packet_age_ms=None if feed.last_packet_at is None else round((now - feed.last_packet_at) * 1000),
            bytes_total=feed.bytes_total,
            packets_total=feed.packets_total,
            video_frames_total=feed.video_frames_total,
            audio_frames_total=feed.audio_frames_total,
            cut_packets_total=feed.cut_packets_total,
            timeline_resets=feed.resets,
            timestamps_clamped=clamped,
        )
