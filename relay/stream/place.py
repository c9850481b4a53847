"""Where a feed is in the stream's time: what it has reached, and where another one may cut in.

Imports the counters and the splice. The rule it guards: the place of a feed that replays is what went out, not what
came in; that of a merged feed is what any of its copies brought.
"""

from __future__ import annotations

from enum import Enum

from relay.media.packets import MediaKind
from relay.stream.counters import MAX_STEP_MS, FeedCounters
from relay.stream.owners import Peers
from relay.stream.splice import Splice

AUDIO = MediaKind.AUDIO
VIDEO = MediaKind.VIDEO


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


class FeedPlace(FeedCounters):
    """The place of one feed; `Feed` moves it.

    Attributes:
        offset: stream time minus the feed's own time, while it is on air.
        peers: where it is compared with other feeds; None while there is nothing to compare.
    """

    def __init__(self, now: float, *, slow_ms: int) -> None:
        super().__init__(now, slow_ms=slow_ms)
        self.offset = 0
        self.peers: Peers | None = None
        self._merging = False
        self._cut = 0
        self._splice: Splice | None = None
        self._aired: dict[MediaKind, int] = {}
        self._aired_at = now

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
    def catching_up(self) -> bool:
        """Whether it is on air behind its own time."""
        return self._splice is not None

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
