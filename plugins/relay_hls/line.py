"""The assembly line of one rendition: packets in, a muxer, fragments into the rendition.

The rule it guards: every segment begins where its cutter says, and after a hole or a change of parameters nothing is
added before a frame that a decoder can start with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise

from relay.api import MediaKind, Packet

from .cutting import Cut, Cutter
from .plan import Planned
from .rendition import Rendition
from .segments import Fragment, Muxer

EARLY_MS = 100
"""Sound that came before the keyframe that a segment begins with, and lasts into it, belongs to it."""
MAX_EARLY = 64
AHEAD_MS = 3_000
"""Sound that is ahead of the picture by more than this: the picture has stopped, and the segment with it."""


class Line:
    """Makes one rendition from its tracks.

    Attributes:
        limit_ms: the longest that a segment may become.
        discontinuity: the next segment does not continue what was before.
        on_begin: called with the line, the first packet of a segment and whether it is a discontinuity; returns the
            time of day of that packet in ms.
        odd: packets that were left out, by reason.
    """

    def __init__(
        self,
        planned: Planned,
        rendition: Rendition,
        muxer: Muxer,
        cutter: Cutter,
        *,
        limit_ms: float,
        largest: int,
        on_begin: Callable[[Line, Packet, bool], float],
        make_muxer: Callable[[], Muxer],
    ) -> None:
        self.planned = planned
        self.rendition = rendition
        self.muxer = muxer
        self.cutter = cutter
        self.limit_ms = limit_ms
        self.discontinuity = True
        self.odd: dict[str, int] = {}
        self._make_muxer = make_muxer
        self._largest = largest
        self._on_begin = on_begin
        self._lead = (planned.lead.kind, planned.lead.track_id)
        self._is_video = planned.has_video
        self._cut_from: int | None = None
        self._newest: Packet | None = None
        self._init_size = 0
        self._held = 0
        self._early: deque[Packet] = deque(maxlen=MAX_EARLY)

    def write(self, packet: Packet) -> None:
        """Take one frame of its tracks. One of nothing lasts for no time: no muxer takes it."""
        if len(packet.body) <= packet.offset:
            self._count("empty")
            return
        if (packet.kind, packet.track) == self._lead:
            if not self._make_room(packet):
                return
            self._newest = packet
        elif self.rendition.open is None:
            self._early.append(packet)
            return
        elif packet.dts - self.cutter.last > AHEAD_MS and self._is_video:
            self.stop()
            return
        self._held += len(packet.body)
        self.muxer.write(packet)

    def _make_room(self, packet: Packet) -> bool:
        """End what ends before a frame of the lead track; return whether the frame can be taken."""
        follows = self.planned.follows
        key = not follows and (packet.keyframe or not self._is_video)
        dts = packet.dts
        if self.rendition.open is None:
            if not key:
                if follows:
                    self._early.append(packet)
                else:
                    self._count("before-keyframe")
                return False
            self.begin(packet)
            return True
        cut = self.cutter.before(dts, key, self.limit_ms)
        if self._cut_from is not None and dts >= self._cut_from and key:
            self._cut_from = None
            self.discontinuity = True
            cut = Cut.SEGMENT
        if cut is Cut.HOLE:
            self.stop()
            return self._make_room(packet)
        if cut is Cut.LATE and self._newest is not None:
            self._add(self.muxer.cut())
            self.rendition.finish()
            self.begin(self._newest)
        elif cut is Cut.SEGMENT or self._held >= self._largest:
            self.next_segment(packet)
        elif cut is Cut.PART:
            self._add(self.muxer.cut_before(packet))
            self.cutter.begin_part(dts)
        return True

    def next_segment(self, packet: Packet) -> None:
        """End the open segment before *packet* and begin the next one with it."""
        self._add(self.muxer.cut_before(packet))
        self.rendition.finish()
        self.begin(packet)

    def follow(self, packet: Packet, discontinuity: bool) -> None:
        """The line that leads begins a segment with *packet*: do the same, with what there is."""
        if self.rendition.open is not None:
            self._add(self.muxer.cut())
            self.rendition.finish()
        self.discontinuity = self.discontinuity or discontinuity
        self.begin(packet)

    def begin(self, packet: Packet) -> None:
        """Begin a segment with *packet*."""
        discontinuity, self.discontinuity = self.discontinuity, False
        self._held = 0
        at_ms = self._on_begin(self, packet, discontinuity)
        self.rendition.begin(start_ms=packet.pts, at_ms=at_ms, discontinuity=discontinuity)
        self.cutter.begin(packet.dts)
        for early in self._early:
            if early.dts >= packet.dts - EARLY_MS:
                self.muxer.write(early)
        self._early.clear()
        self.rendition.changed()

    def cut_from(self, dts: int) -> None:
        """Begin a segment with the first keyframe from *dts* on, as a discontinuity."""
        if self.rendition.open is None:
            self.discontinuity = True
        else:
            self._cut_from = dts

    def stop(self) -> None:
        """End the open segment with everything that is there; what comes next is a discontinuity."""
        if self.rendition.open is not None:
            self._add(self.muxer.cut(last=True))
            self.rendition.finish()
            self.rendition.changed()
            self.muxer = self._make_muxer()  # the time of a hole belongs to no fragment
            self._init_size = 0
        self.cutter.pause()
        self.discontinuity = True

    def _add(self, fragment: Fragment | None) -> None:
        if fragment is None or not fragment.data:
            return
        init = getattr(self.muxer, "init", b"")
        if len(init) != self._init_size:
            self._init_size = len(init)
            self.rendition.set_init(init)
        segment = self.rendition.open
        if self.planned.follows and segment is not None and not segment.parts:
            segment.at_ms += fragment.start_ms - segment.start_ms  # it began with a frame of another track
        self.rendition.add(fragment)

    def _count(self, reason: str) -> None:
        self.odd[reason] = self.odd.get(reason, 0) + 1


def interval_of(packets: list[Packet], kind: MediaKind, track: int) -> float:
    """Return the median distance between frames of a track, 0 when there are too few."""
    times = [packet.dts for packet in packets if packet.kind is kind and packet.track == track]
    if len(times) < 2:
        return 0.0
    steps = sorted(after - before for before, after in pairwise(times))
    middle = steps[len(steps) // 2]
    mean = (times[-1] - times[0]) / (len(times) - 1)
    return mean if abs(mean - middle) < 0.2 * max(middle, 1) else float(middle)
