"""Is this feed fit to be seen? Every trigger with its threshold, its hold and its numbers.

Imports the policy's options. The rules it guards: a verdict is made of counters that the feed keeps anyway, read a few
times a second; thresholds follow the feed's own frame rate and GOP; and time in which our own process was stopped does
not count, because all ages are sums of the running seconds that `Judge.tick` is given.

It judges what can be seen without a decoder. Black pictures and silence are for a plugin to say (`Judge.opine`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from heapq import nlargest
from itertools import islice
from statistics import median
from typing import Protocol

from relay.stream.policy import FailoverOptions

WINDOW_S = 60.0
"""What the median bit rate and the 99th percentile of the frame interval look back on."""

FRAMES_PER_THRESHOLD = 4
"""A stall is at least so many frame intervals, so that a feed of one frame a second does not flap."""

UNKNOWN_INTERVAL_MS = 1000
"""Frame interval assumed until two frames were seen."""

MIN_KEYFRAME_MS = 4000
"""Keyframes closer than this are an encoder that makes them at scene cuts; their distance says nothing."""

PROVEN_KEYFRAMES = 5
UNPROVEN_GOP_MS = 10_000
"""Until so many keyframes came, the feed may be one with the longest interval in use that began with a scene cut."""

BITRATE_S = 5.0
"""The bit rate is low when it is low on average over this long (P4)."""

MIN_SAMPLES = 15
"""Seconds of bit rate needed before there is a median to compare with."""

PACE_S = 5.0
"""Timestamps are compared with running time over this long."""

SLOW_PACE, FAST_PACE = 0.2, 2.5
"""Media time per running time outside of these is a clock that stands still or runs away. A stall that is made up for
gives up to 2."""

MANY_RESETS = 3
RESETS_S = 10.0
"""One restart of the encoder's clock is mended in place (P5); so many in so long are a broken clock."""

SKEW_S = 3.0
"""Sound and picture are apart for this long before it counts (P5)."""

FRESH_S = 1.0
"""Skew counts only while both kinds arrive: otherwise it is a stall, which has its own trigger."""


class Level(IntEnum):
    """How bad a feed is; the higher, the sooner it is left."""

    GOOD = 0
    SUSPECT = 1
    """Something looks wrong, but it can still be watched: bit rate, keyframes, picture."""
    BAD = 2
    """Something is missing or broken: sound, clock, lip sync."""
    DEAD = 3
    """No picture, or nothing at all. Always left."""


class Trigger(Enum):
    """What may be wrong with a feed; the value appears in events and in the API."""

    GONE = "gone"
    NO_MEDIA = "no-media"
    NO_VIDEO = "no-video"
    NO_AUDIO = "no-audio"
    LOW_BITRATE = "low-bitrate"
    CLOCK_FROZEN = "timestamps-frozen"
    CLOCK_FAST = "timestamps-running-away"
    CLOCK_RESET = "timestamps-reset"
    SKEW = "av-skew"
    NO_KEYFRAME = "no-keyframe"
    FROZEN_PICTURE = "frozen-picture"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a feed, with its numbers."""

    trigger: str
    level: Level
    measured: float
    threshold: float
    unit: str = "ms"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a feed now; the worst first."""

    faults: tuple[Fault, ...] = ()

    @property
    def level(self) -> Level:
        """How bad the worst of it is."""
        return self.faults[0].level if self.faults else Level.GOOD

    @property
    def worst(self) -> Fault | None:
        """The worst fault, None when the feed is good."""
        return self.faults[0] if self.faults else None


GOOD = Verdict()


class Observed(Protocol):
    """The counters of a feed that a judge reads. Times in ms are the feed's own."""

    last_packet_at: float | None
    last_video_at: float | None
    last_audio_at: float | None
    last_keyframe_at: float | None
    bytes_total: int
    video_frames_total: int
    audio_frames_total: int
    keyframes_total: int
    moving_frames_total: int
    longest_gop_ms: int

    @property
    def newest_ms(self) -> int:
        """Time of the newest frame."""
        ...

    @property
    def skew_ms(self) -> int:
        """How far sound is ahead of the picture."""
        ...

    @property
    def resets(self) -> int:
        """How often its clock was replaced."""
        ...

    @property
    def slow_steps(self) -> Sequence[tuple[float, int]]:
        """Frame intervals of at least a tenth of `video_stall_ms`, with their arrival; the newest last."""
        ...


class _Age:
    """Running seconds since something arrived."""

    __slots__ = ("_at", "seconds")

    def __init__(self) -> None:
        self._at: float | None = None
        self.seconds = 0.0

    def tick(self, at: float | None, now: float, seconds: float) -> None:
        if at == self._at:
            self.seconds += seconds
        else:
            self._at = at
            self.seconds = min(now - at, seconds) if at is not None else seconds


class Judge:
    """Judges one feed. Call `tick` a few times a second.

    Attributes:
        verdict: of the last tick.
        clean_s: running seconds since it was last at fault; 0 while it is, or before it sent anything.
    """

    def __init__(self, feed: Observed, options: FailoverOptions) -> None:
        self.verdict = GOOD
        self.clean_s = 0.0
        self._feed = feed
        self._options = options
        self._clock = 0.0
        self._video, self._audio, self._keyframe = _Age(), _Age(), _Age()
        self._second = 0.0
        self._second_bytes = 0
        self._rates: deque[float] = deque(maxlen=int(WINDOW_S))
        self._marks: deque[tuple[float, int, int]] = deque()
        self._frames: deque[tuple[float, int]] = deque()
        self._resets: deque[tuple[float, int]] = deque()
        self._skewed_s = 0.0
        self._still_s = 0.0
        self._still_frames = 0
        self._moving = 0
        self._opinions: dict[str, Fault] = {}

    def opine(self, trigger: str, fault: Fault | None) -> None:
        """Take the opinion of somebody who can see more, a plugin with a decoder; None takes it back."""
        if fault is None:
            self._opinions.pop(trigger, None)
        else:
            self._opinions[trigger] = fault

    @property
    def silent_s(self) -> float:
        """Running seconds without a picture or sound. Headers and metadata alone are nothing to see."""
        return min(self._video.seconds, self._audio.seconds)

    def tick(self, now: float, seconds: float) -> Verdict:
        """Judge at *now*, after *seconds* of running time since the last call."""
        feed = self._feed
        self._clock += seconds
        self._video.tick(feed.last_video_at, now, seconds)
        self._audio.tick(feed.last_audio_at, now, seconds)
        self._keyframe.tick(feed.last_keyframe_at, now, seconds)
        self._sample(now, seconds)
        faults = [fault for fault in self._look(now, seconds) if fault is not None]
        faults += self._opinions.values()
        faults.sort(key=lambda fault: -fault.level)
        self.verdict = Verdict(tuple(faults)) if faults else GOOD
        if faults or feed.last_packet_at is None:
            self.clean_s = 0.0
        else:
            self.clean_s += seconds
        return self.verdict

    def _look(self, now: float, seconds: float) -> tuple[Fault | None, ...]:
        feed = self._feed
        stall = self._stall_ms(now)
        if feed.video_frames_total + feed.audio_frames_total == 0:
            return (_over(Trigger.NO_MEDIA, Level.DEAD, self.silent_s, stall),)
        has_video = feed.video_frames_total > 0
        audio_level = Level.BAD if has_video else Level.DEAD
        audio_age = self._audio.seconds if feed.audio_frames_total else 0.0
        return (
            _over(Trigger.NO_VIDEO, Level.DEAD, self._video.seconds, stall) if has_video else None,
            _over(Trigger.NO_AUDIO, audio_level, audio_age, self._options.audio_stall_ms),
            self._low_bitrate(),
            self._clock_pace(),
            self._clock_resets(),
            self._skew(seconds),
            self._no_keyframe(stall),
            self._frozen_picture(seconds),
        )

    # Stalls.

    def _stall_ms(self, now: float) -> float:
        """How long a picture may be missing: what is configured behind its due time, or four frames of a slow feed.

        Without the due time a feed of 5 fps would be left when a burst of jitter and a lost packet meet (P8).
        """
        feed, configured = self._feed, self._options.video_stall_ms
        if feed.video_frames_total < 2:
            interval = UNKNOWN_INTERVAL_MS if feed.audio_frames_total == 0 or feed.video_frames_total else 0
            return max(configured, FRAMES_PER_THRESHOLD * interval)
        interval = self._interval_p99(now)
        return max(configured + interval, FRAMES_PER_THRESHOLD * interval)

    def _interval_p99(self, now: float) -> int:
        """The 99th percentile of the frame interval, or 0 when it is too short to matter."""
        steps = [step for at, step in self._feed.slow_steps if at > now - WINDOW_S]
        if not steps:
            return 0
        above = (self._feed.video_frames_total - self._frames[0][1]) // 100
        return nlargest(above + 1, steps)[-1] if above < len(steps) else 0

    def _no_keyframe(self, stall: float) -> Fault | None:
        times = self._options.keyframe_intervals
        if not times or self._feed.keyframes_total < 2:
            return None
        longest = self._feed.longest_gop_ms
        if self._feed.keyframes_total < PROVEN_KEYFRAMES:
            longest = max(longest, UNPROVEN_GOP_MS)
        threshold = max(times * longest, MIN_KEYFRAME_MS, stall)
        return _over(Trigger.NO_KEYFRAME, Level.SUSPECT, self._keyframe.seconds, threshold)

    # What is averaged.

    def _sample(self, now: float, seconds: float) -> None:
        feed, clock = self._feed, self._clock
        self._second += seconds
        if self._second >= 1.0:
            self._rates.append((feed.bytes_total - self._second_bytes) / self._second)
            self._second, self._second_bytes = 0.0, feed.bytes_total
            self._frames.append((now, feed.video_frames_total))
        elif not self._frames:
            self._frames.append((now, 0))
        self._marks.append((clock, feed.bytes_total, feed.newest_ms))
        self._resets.append((clock, feed.resets))
        _forget(self._frames, now - WINDOW_S)
        _forget(self._marks, clock - BITRATE_S)
        _forget(self._resets, clock - RESETS_S)

    def _low_bitrate(self) -> Fault | None:
        percent = self._options.bitrate_percent
        since, before, _ = self._marks[0]
        span = self._clock - since
        if not percent or len(self._rates) < MIN_SAMPLES or span < BITRATE_S:
            return None
        usual = median(self._rates)
        share = (self._feed.bytes_total - before) / span / usual * 100 if usual else 100.0
        if share >= percent:
            return None
        return Fault(Trigger.LOW_BITRATE.value, Level.SUSPECT, round(share, 1), percent, "% of its median")

    def _clock_pace(self) -> Fault | None:
        since, _, newest = self._marks[0]
        span = self._clock - since
        if span < PACE_S or newest < 0 or self.silent_s > FRESH_S or FRAMES_PER_THRESHOLD * self._widest() > span:
            return None
        pace = (self._feed.newest_ms - newest) / 1000 / span
        if pace < SLOW_PACE:
            return Fault(Trigger.CLOCK_FROZEN.value, Level.BAD, round(pace, 2), SLOW_PACE, "s per s")
        if pace > FAST_PACE:
            return Fault(Trigger.CLOCK_FAST.value, Level.BAD, round(pace, 2), FAST_PACE, "s per s")
        return None

    def _widest(self) -> float:
        """The longest of the newest frame intervals in seconds: a slow feed cannot be held to its pace."""
        if self._feed.audio_frames_total:
            return 0.0
        newest = islice(reversed(self._feed.slow_steps), FRAMES_PER_THRESHOLD)
        return max((step for _, step in newest), default=0) / 1000

    def _clock_resets(self) -> Fault | None:
        resets = self._feed.resets - self._resets[0][1]
        if resets < MANY_RESETS:
            return None
        return Fault(Trigger.CLOCK_RESET.value, Level.BAD, resets, MANY_RESETS, f"in {RESETS_S:g} s")

    # What must last.

    def _skew(self, seconds: float) -> Fault | None:
        limit = self._options.skew_ms
        apart = abs(self._feed.skew_ms)
        if not limit or apart <= limit or max(self._video.seconds, self._audio.seconds) > FRESH_S:
            self._skewed_s = 0.0
            return None
        self._skewed_s += seconds
        return Fault(Trigger.SKEW.value, Level.BAD, apart, limit) if self._skewed_s >= SKEW_S else None

    def _frozen_picture(self, seconds: float) -> Fault | None:
        feed, limit = self._feed, self._options.frozen_picture_s
        moving = feed.moving_frames_total
        if moving != self._moving or self._video.seconds > FRESH_S:
            self._moving, self._still_s = moving, 0.0
            self._still_frames = feed.video_frames_total
            return None
        self._still_s += seconds
        still = feed.video_frames_total - self._still_frames
        if not limit or not moving or self._still_s < limit or still < FRAMES_PER_THRESHOLD:
            return None
        return Fault(Trigger.FROZEN_PICTURE.value, Level.SUSPECT, round(self._still_s, 1), limit, "s")


def _over(trigger: Trigger, level: Level, age_s: float, threshold_ms: float) -> Fault | None:
    age = round(age_s * 1000)
    return Fault(trigger.value, level, age, threshold_ms) if age >= threshold_ms > 0 else None


def _forget(samples: deque[tuple[float, int]] | deque[tuple[float, int, int]], before: float) -> None:
    """Keep the newest sample that is not younger than *before*, and all younger ones."""
    while len(samples) > 1 and samples[1][0] <= before:
        samples.popleft()
