"""The sink: one encoder session (or several, spliced by the relay) of one stream, packaged into its programme.

The rule it guards: nothing is promised to players before it was seen. A track that is announced and never sends a
frame is in no playlist, because browsers would wait for it for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from relay.api import PLANNED_ENDS, Codec, MediaKind, MuxError, Packet, Role, SinkStatus, Track, TrackSet

from .cutting import Cutter
from .line import Line, interval_of
from .options import HARVEST_MS, LEARN_BYTES, LEARN_MS, MIB
from .plan import Planned, plan
from .programme import Programme
from .segments import Muxer
from .variants import Output

ENOUGH_FRAMES = 12
"""Frames of each track that show its rate well enough: the times of RTMP are rounded to ms."""

Key = tuple[MediaKind, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How packets become segments."""

    codecs: frozenset[Codec]
    muxer: Callable[[Sequence[Track]], Muxer]


class Packager:
    """Receives one stream.

    Attributes:
        odd: packets left out, by reason.
        flushed: after the end, what fires when the disk has everything.
    """

    def __init__(self, programme: Programme, packing: Packing, *, on_closed: Callable[[Packager], None]) -> None:
        self.programme = programme
        self.odd: Counter[str] = Counter()
        self._packing = packing
        self._on_closed = on_closed
        self.flushed: Awaitable[None] | None = None
        self._reason = ""
        self._closed = False
        self._tracks = TrackSet()
        self._packaged: dict[Key, tuple[Codec, bytes]] = {}
        self._lines: dict[Key, Line] = {}
        self._all: list[Line] = []
        self._learned: list[Packet] | None = []
        self._learned_bytes = 0
        self._ignored: set[Key] = set()
        self._newest = 0
        self._goes_on = False

    # What a sink is told.

    def configure(self, tracks: TrackSet) -> None:
        """Take the tracks; what decoders need decides whether anything changes."""
        self._tracks = tracks
        self.programme.sounds.told(tracks)
        wanted = {(t.kind, t.track_id): (t.codec, t.config) for t in tracks.tracks if t.codec in self._packing.codecs}
        if self._learned is not None:
            return
        if all(wanted.get(key) == value for key, value in self._packaged.items()):
            return  # what is new counts when its first frame comes
        intervals = {key: line.cutter.interval_ms for key, line in self._lines.items()}
        self._relearn()
        if wanted.keys() == self._packaged.keys():
            self._build(intervals)

    def write(self, packet: Packet) -> None:
        """Take one packet; only frames are packaged, metadata may have names."""
        if packet.role is not Role.FRAME or packet.kind is MediaKind.DATA:
            if packet.role is Role.METADATA:
                self.programme.sounds.told(replace(self._tracks, metadata=packet))
            return
        if self._learned is not None:
            self._learn(packet)
            return
        line = self._lines.get((packet.kind, packet.track))
        if line is not None:
            line.write(packet)
        elif self._is_new(packet):
            self._relearn()
            self._learn(packet)

    def _is_new(self, packet: Packet) -> bool:
        """Whether this is the first frame of a track that could be packaged and was not."""
        key = (packet.kind, packet.track)
        if packet.codec not in self._packing.codecs or key in self._ignored:
            return False
        self._ignored.add(key)  # once: what cannot be planned for must not stop the others again and again
        return self._tracks.find(*key) is not None

    def stream_ending(self, reason: str, /) -> None:
        """Note why the stream ends."""
        self._reason = reason

    def close(self) -> Awaitable[None] | None:
        """The stream is over, or somebody detached us. Fires when the disk has everything."""
        if self._closed:
            return self.flushed
        self._closed = True
        if self._learned:
            self._conclude()
        self._stop()
        # A relay that stops is not the end of the programme: it may be back in a second.
        if self._reason in PLANNED_ENDS and self._reason != "shutdown":
            self.programme.end()
        else:
            self.programme.lose()
        self._on_closed(self)
        return self.flushed

    def status(self) -> SinkStatus:
        """What the API and the metrics say."""
        return self.programme.status()

    def cut_from(self, dts: int, *, replay: bool) -> None:
        """Another encoder is on air from stream time *dts* on; with *replay* it starts with what was shown before."""
        self._goes_on = replay
        for line in self._all:
            line.cut_from(dts)

    # Learning.

    def _learn(self, packet: Packet) -> None:
        learned = self._learned
        assert learned is not None  # noqa: S101 - the caller looked
        learned.append(packet)
        self._learned_bytes += len(packet.body)
        if (
            self._learned_bytes >= LEARN_BYTES
            or packet.dts - learned[0].dts >= (LEARN_MS if self.programme.settled() else HARVEST_MS)
            or (self.programme.settled() and len(learned) % ENOUGH_FRAMES == 0 and self._knows_enough(learned))
        ):
            self._conclude()

    def _knows_enough(self, learned: list[Packet]) -> bool:
        seen = Counter((packet.kind, packet.track) for packet in learned)
        known = [(t.kind, t.track_id) for t in self._tracks.tracks if t.codec in self._packing.codecs]
        return len({kind for kind, _ in known}) > 1 and all(seen[key] >= ENOUGH_FRAMES for key in known)

    def _conclude(self) -> None:
        """Build for the tracks that sent something, and package what was held."""
        learned = self._learned or []
        seen = {(packet.kind, packet.track) for packet in learned}
        self._build({key: interval_of(learned, *key) for key in seen})
        if learned:
            self._newest = learned[-1].dts
        for packet in learned:
            self.write(packet)

    def _relearn(self) -> None:
        self._stop()
        self._learned, self._learned_bytes = [], 0

    # Building.

    def _build(self, intervals: dict[Key, float]) -> None:
        tracks = [track for track in self._tracks.tracks if (track.kind, track.track_id) in intervals]
        self._learned = None
        self._lines, self._all, self._packaged = {}, [], {}
        for track in tracks:
            if track.codec in self._packing.codecs:
                self._packaged[track.kind, track.track_id] = (track.codec, track.config)
        outputs = []
        for planned in plan(tracks, self._packing.codecs):
            try:
                muxer = self._packing.muxer(planned.tracks)
            except MuxError:
                self.odd["no-muxer"] += 1
                continue
            interval = intervals.get((planned.lead.kind, planned.lead.track_id), 0.0) or 40.0
            outputs.append(self._add_line(planned, muxer, interval))
        self._ignored = set(intervals)
        self.programme.use(outputs, max((line.cutter.part_target_ms for line in self._all), default=0.0))

    def _add_line(self, planned: Planned, muxer: Muxer, interval_ms: float) -> Output:
        options = self.programme.options
        cutter = Cutter(
            segment_ms=options.segment_ms,
            part_ms=options.part_ms,
            interval_ms=interval_ms,
            promised_ms=self.programme.promised_ms,
        )
        output = self.programme.output(planned, cutter)
        line = Line(
            planned,
            output.rendition,
            muxer,
            cutter,
            largest=options.memory_mb * MIB // 4,
            limit_ms=self.programme.limit_ms,
            on_begin=self._begins,
            make_muxer=lambda: self._packing.muxer(planned.tracks),
        )
        self._all.append(line)
        for track in planned.tracks:
            self._lines[track.kind, track.track_id] = line
        return output

    def _begins(self, line: Line, packet: Packet, discontinuity: bool) -> float:
        """A line begins a segment: give it its time of day, and let those who follow begin theirs."""
        programme = self.programme
        line.limit_ms = programme.limit_ms
        if line is self._all[0]:
            if discontinuity:
                self._anchor(packet)
            for other in self._all[1:]:
                if other.planned.follows:
                    other.follow(packet, discontinuity)
        return programme.timeline.at(packet.pts)

    def _anchor(self, packet: Packet) -> None:
        """Say what time of day it is: the newest packet came now. A replay goes on where the picture stopped."""
        goes_on, self._goes_on = self._goes_on, False
        if not goes_on:
            behind = max(self._newest - packet.dts, 0)
            self.programme.timeline.restart(packet.pts, self.programme.now_ms - behind)

    def _stop(self) -> None:
        for line in self._all:
            line.stop()
            self.odd.update(line.odd)
        self._all = []
        self._lines = {}
