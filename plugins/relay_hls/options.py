"""`[plugins.hls]`, and the limits that nobody needs to change.

The rule it guards: whatever an encoder sends and however many viewers ask, what is held in memory has a bound here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from relay.api import LocalPath

from .sounds import SoundOptions

MIB = 1024 * 1024

LEARN_MS = 2_000
"""Stream time to learn which tracks really send frames, and how many pictures a second there are, before anything is
promised to players. The first segment takes longer anyway."""
LEARN_BYTES = 32 * MIB
"""The same in bytes: four of the largest messages."""
LONGEST_FIRST_MS = 12_000
"""The first segment may last so long for want of a keyframe: then the target duration is set to what was seen. x264
puts its keyframes 250 pictures apart when nobody asks for less, which is 10.4 s at 24 a second."""
SHORTEST_MS = 1_000
"""No segment is shorter, but at a discontinuity and at the end: sequence numbers that start at the time of day in
seconds are overtaken by no series of segments."""
GAP_MS = 1_500
"""Pictures (or sounds, without pictures) that are further apart than this, and three times as far as usual, are a hole
in the programme: a discontinuity, not one long picture."""
MAX_WAITERS = 4_000
"""Requests that wait for one playlist to grow: every viewer of one stream has at most two of them."""
MAX_RENDITIONS = 16
"""Playlists of one stream; what an encoder sends beyond so many tracks is left out."""
MAX_KEPT = 100
"""Programmes that ended or were lost and are still served; then the oldest is forgotten before its time."""
HOT_MS = 30_000
"""What is on disk stays in memory as well for so long, and for six target durations: most viewers are there."""
CLEAN_S = 3_600.0
"""Old recordings are looked for so often."""
HARVEST_MS = 5_000
"""A stream that is there before the disk has said what it has waits so long for it, before it begins a new list."""
HOLD_S = 10.0
"""A player that asks for a stream that has just started waits this long for its first segment."""


class HlsOptions(SoundOptions):
    """``[plugins.hls]``"""

    container: Literal["fmp4", "ts"] = "fmp4"
    """``fmp4`` carries every codec that browsers play; ``ts`` is for players of before 2016."""
    segment_s: int = Field(default=4, ge=1, le=30)
    """Length of a segment. They begin at keyframes, so it should be a multiple of the encoder's keyframe interval."""
    part_ms: int = Field(default=200, ge=0, le=2_000)
    """Length of a part of low-latency HLS; players are about four parts behind. 0: no low-latency HLS, whole segments
    only, players are about three segments behind."""
    window_s: int = Field(default=60, ge=10, le=86_400)
    """How far back a viewer can go in the live playlist. More than some minutes need `directory`."""
    memory_mb: int = Field(default=128, ge=16, le=65_536)
    """Segments of one stream in memory. When they need more, the live window is cut short."""
    keep_s: int = Field(default=600, ge=0, le=86_400)
    """A stream that ended stays playable from its beginning of the window for so long; one that was lost has so long to
    come back to the same playlist."""
    access_s: int = Field(default=43_200, ge=60, le=604_800)
    """How long the address is good that a viewer of a protected stream gets for their key: as long as the longest
    show."""

    directory: LocalPath | None = None
    """Keep every segment on disk as well: for a long `window_s`, for going on in the same playlist after a restart, and
    to play what ended as a recording."""
    keep_days: int = Field(default=7, ge=0, le=3_650)
    """Recordings in `directory` are deleted after so many days. 0: never."""
    min_free_mb: int = Field(default=1_024, ge=0, le=1_000_000_000)
    """Nothing is written to `directory` while its disk has less room than this."""

    @model_validator(mode="after")
    def _check_window(self) -> HlsOptions:
        if self.window_s < 3 * self.segment_s:
            raise ValueError("window_s must be at least three times segment_s: players start three segments back")
        if self.part_ms >= 1000 * self.segment_s:
            raise ValueError("part_ms must be less than segment_s")
        return self

    @property
    def segment_ms(self) -> int:
        """`segment_s` in ms."""
        return self.segment_s * 1000
