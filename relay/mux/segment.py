"""What the muxers that write piece by piece have in common: tracks, waiting frames, cuts. `Fmp4Muxer` and `TsMuxer`
say how a piece is written.

A caller writes packets and cuts when enough waits (`pending_ms`) or before a keyframe (`cut_before`). The last frame of
each track waits for the next one, which tells how long it lasts. The lead track, whose time the pieces are measured
by, is the first video track; audio leads when there is none, and while video has been missing for two seconds.

Counted in `odd`: mux.nal_length, mux.empty, mux.backwards, mux.no_config, mux.codec (a frame of another codec than the
track's), mux.full, mux.late_track (a track that never told what it is), and the media.* codes of unreadable frames.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from relay.media.errors import MediaError
from relay.media.packets import Packet, Role, Track
from relay.mux.entries import FROM_FRAME, Entry, can_write, sample_entry
from relay.mux.errors import MuxError
from relay.mux.lane import Lane, Run
from relay.mux.units import Fit, fit_for

MAX_PENDING_BYTES = 256 * 1024 * 1024
"""Frames that wait for a cut. Callers cut every few seconds at most: 30 s at 60 Mbit/s fit. More is a caller's bug, and
a fragment must stay below 4 GiB."""
MISSING_MS = 2_000
"""How long a track may be missing before the others go on without it (reliability case 93)."""

_FRAME = Role.FRAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """One piece of a file or playlist."""

    data: bytes
    start_ms: int
    """Stream time of its first frame of the lead track."""
    duration_ms: float
    """Of the lead track, exactly; the durations of all fragments add up to the time that passed."""
    independent: bool
    """Begins with a keyframe, or has no video."""
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """What makes a file complete once everything was written, in the order given."""

    tail: bytes
    """To be appended."""
    patches: tuple[tuple[int, bytes], ...]
    """To be written over what stands at these offsets."""


class SegmentMuxer:
    """Collects packets of several tracks and gives them back in pieces. *origin* is the stream time that becomes 0."""

    def __init__(self, tracks: Sequence[Track], *, origin: int = 0) -> None:
        self.tracks: tuple[Track, ...] = tuple(track for track in tracks if self._takes(track))
        if not self.tracks:
            raise MuxError("mux.no_tracks", "none of the tracks fits this container")
        self.odd: Counter[str] = Counter()
        self.pending_bytes = 0
        self._lanes = {
            track.kind << 8 | track.track_id: Lane(track, number, origin, self._entry(track), self._fit(track))
            for number, track in enumerate(self.tracks, 1)
        }
        self._by_number = list(self._lanes.values())
        self._unknown = sum(lane.entry is None for lane in self._by_number)
        self._first: int | None = None
        self._newest = 0
        self._best = next((lane for lane in self._by_number if lane.is_video), self._by_number[0])
        self._lead = self._best
        self._end: float | None = None

    def _takes(self, track: Track) -> bool:
        return can_write(track)

    def _entry(self, track: Track) -> Entry | None:
        return None if track.codec in FROM_FRAME else sample_entry(track)

    def _fit(self, track: Track) -> Fit:
        return fit_for(track)

    def _pack(self, runs: list[Run]) -> bytes:
        raise NotImplementedError

    def write(self, packet: Packet) -> None:
        """Take one packet. Frames of other tracks, headers, side and data packets are ignored."""
        lane = self._lanes.get(packet.kind << 8 | packet.track)
        if lane is None or packet.role is not _FRAME:
            return
        if packet.codec is not lane.track.codec:
            self.odd["mux.codec"] += 1
            return
        if self.pending_bytes > MAX_PENDING_BYTES:
            self.odd["mux.full"] += 1
            return
        if lane.entry is None:
            self._settle(lane, packet)
        try:
            self.pending_bytes += lane.put(packet)
        except MediaError as error:
            self.odd[error.code] += 1
            return
        if packet.dts > self._newest:
            self._newest = packet.dts
        if lane is not self._lead:
            self._lead = self._choose_lead(packet.dts)

    def cut(self, *, last: bool = False) -> Fragment | None:
        """Return everything whose duration is known as one piece; with *last*, everything. None: nothing yet."""
        return self._cut({}, last)

    def cut_before(self, packet: Packet, *, last: bool = False) -> Fragment | None:
        """Cut in front of *packet*, which is written next: it ends the frame of its track that waits."""
        return self._cut({packet.kind << 8 | packet.track: packet.dts}, last)

    def finish(self) -> Finish:
        """Return what makes a file of all fragments in a row complete. Call it after the last cut was written."""
        return Finish(tail=b"", patches=())

    @property
    def pending_ms(self) -> int:
        """Time of the lead track that `cut` would return."""
        waiting = self._lead.pending
        return waiting[-1][0] - waiting[0][0] if len(waiting) > 1 else 0

    def _choose_lead(self, now: int) -> Lane:
        """Return the first video lane unless it has been silent for too long, else the lane with the newest frame."""
        if self._first is None:
            self._first = now
        best = self._best
        seen = best.last if best.last is not None else self._first
        if self._newest - seen <= MISSING_MS:
            return best
        return max(self._by_number, key=lambda lane: lane.last if lane.last is not None else -1)

    def _settle(self, lane: Lane, packet: Packet) -> None:
        """Read from the first frame what its track is."""
        entry = sample_entry(lane.track, packet.payload)
        if entry is not None:
            lane.settle(entry)
            self._unknown -= 1

    def _ready(self, last: bool) -> bool:
        """Whether all tracks are known. Those that stay unknown for too long are given up: the file needs its head."""
        if not self._unknown:
            return True
        if not last and all(lane.waits_ms < MISSING_MS for lane in self._by_number):
            return False
        known = [lane for lane in self._by_number if lane.entry is not None]
        if not known:
            return False
        self.odd["mux.late_track"] += self._unknown
        self._unknown = 0
        self._by_number = known
        self._lanes = {lane.track.kind << 8 | lane.track.track_id: lane for lane in known}
        self.tracks = tuple(lane.track for lane in known)
        self._best = self._lead = next((lane for lane in known if lane.is_video), known[0])
        for number, lane in enumerate(known, 1):
            lane.number = number
        return True

    def _cut(self, ends: dict[int, int], last: bool) -> Fragment | None:
        if not self._ready(last):
            return None
        lead = self._lead
        if not last and len(lead.pending) < (1 if lead.key in ends else 2):
            return None
        runs = []
        for key, lane in self._lanes.items():
            run = lane.take(end=ends.get(key), last=last)
            if run is not None:
                runs.append(run)
        return self._fragment(runs) if runs else None

    def _fragment(self, runs: list[Run]) -> Fragment:
        """Write *runs*; measure them by the lead's."""
        lead = self._lead
        measured = next((run for run in runs if run.lane is lead), runs[0])
        if self._end is None:
            self._end = measured.lane.ms(measured.start)
        self.pending_bytes = sum(lane.waits_bytes for lane in self._by_number)
        start = self._end
        self._end = max(start, measured.lane.ms(measured.end))
        video = next((run for run in runs if run.lane.is_video), None)
        return Fragment(
            data=self._pack(runs),
            start_ms=round(start),
            duration_ms=self._end - start,
            independent=video is None or video.samples[0][2],
            samples=sum(len(run.samples) for run in runs),
        )
