"""Where segments and parts end. Times in, decisions out.

The rule it guards: a segment begins with a keyframe if one comes in time; if none does it ends all the same, because a
playlist whose target duration is exceeded is broken, and memory is finite.
"""

from __future__ import annotations

from enum import Enum

from .options import GAP_MS, SHORTEST_MS

MANY_FRAMES = 48
"""Intervals whose mean is better than the running one."""


class Cut(Enum):
    """What ends before a frame."""

    NOTHING = 0
    PART = 1
    SEGMENT = 2
    LATE = 3
    """The frame comes so late that the one before it, which lasts until now, is too long for its segment: let that one
    begin the next."""
    HOLE = 4
    """The frame does not follow what was before: end the segment there, and go on with a keyframe."""


class Cutter:
    """Watches the lead track of one rendition.

    Attributes:
        interval_ms: how far apart frames are.
        part_target_ms: what no part should exceed; 0 without parts.
    """

    def __init__(self, *, segment_ms: float, part_ms: float, interval_ms: float, promised_ms: float = 0.0) -> None:
        self.interval_ms = max(interval_ms, 1.0)
        self.part_target_ms = _part_target(part_ms, self.interval_ms, promised_ms) if part_ms else 0.0
        self._steps = 0
        self._steps_ms = 0
        self._segment_ms = segment_ms
        self._segment_start: int | None = None
        self._part_start = 0
        self._key_at: int | None = None
        self._gop_ms = 0.0
        self._last = 0

    @property
    def mean_interval_ms(self) -> float:
        """How far apart frames are, over all that came: RTMP's times are rounded to ms."""
        return self._steps_ms / self._steps if self._steps >= MANY_FRAMES else self.interval_ms

    @property
    def last(self) -> int:
        """Decode time of the newest frame."""
        return self._last

    def begin(self, dts: int) -> None:
        """A segment begins with the frame at *dts*."""
        self._segment_start = self._part_start = dts
        if self._key_at is None:
            self._key_at = dts
        self._last = max(self._last, dts)

    def begin_part(self, dts: int) -> None:
        """A part begins with the frame at *dts*."""
        self._part_start = dts

    def pause(self) -> None:
        """Nothing is open."""
        self._segment_start = self._key_at = None

    def before(self, dts: int, keyframe: bool, limit_ms: float) -> Cut:
        """Decide what ends before the frame at *dts*; *limit_ms* is the longest that a segment may become."""
        start = self._segment_start
        if start is None:
            self._last = dts
            return Cut.NOTHING
        before = self._last
        step = dts - before
        if step > GAP_MS and step > 3 * self.interval_ms:
            return Cut.HOLE
        self._last = dts
        if 2 * abs(step - self.interval_ms) <= self.interval_ms:  # a frame that was lost is not a slower rate
            self._steps += 1
            self._steps_ms += step
        self.interval_ms += (step - self.interval_ms) / 16
        elapsed = dts - start
        if elapsed > limit_ms and before > start:
            return Cut.LATE
        if keyframe:
            if self._key_at is not None and dts > self._key_at:
                self._gop_ms = dts - self._key_at
            self._key_at = dts
            if elapsed >= SHORTEST_MS and self._is_the_place(elapsed, limit_ms):
                return Cut.SEGMENT
        if elapsed + step > limit_ms:
            return Cut.SEGMENT
        if self.part_target_ms and dts - self._part_start + step > self.part_target_ms + self.interval_ms / 2:
            return Cut.PART
        return Cut.NOTHING

    def _is_the_place(self, elapsed: float, limit_ms: float) -> bool:
        """Whether this keyframe is nearer to the wanted length than the next one, or the next would be too late."""
        return elapsed + self._gop_ms / 2 >= self._segment_ms or elapsed + self._gop_ms > limit_ms


def _part_target(part_ms: float, interval_ms: float, promised_ms: float) -> float:
    """Return the length of a part of whole frames: *part_ms* itself, if that is about as long.

    What the playlist has promised, if it has, takes its place; only a single frame goes beyond that.
    """
    wanted = promised_ms or part_ms
    length = max(round(wanted / interval_ms), 1) * interval_ms
    if abs(length - wanted) < 0.02 * wanted:
        return wanted
    return max(promised_ms // interval_ms, 1) * interval_ms if 0 < promised_ms < length else length
