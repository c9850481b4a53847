"""Packets to MPEG transport stream segments (ISO/IEC 13818-1), for HLS and files.

Every piece begins with PAT, PMT and a PCR, so it can be read alone; continuity counters go on from piece to piece.
Frames stand in order of decode time, several audio frames in one PES packet.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.media.errors import MediaError
from relay.media.packets import Track
from relay.mux.lane import Run
from relay.mux.segment import SegmentMuxer
from relay.mux.tsframes import Form, form_for
from relay.mux.tspackets import FIRST_PID, PAT_PID, PMT_PID, Pid, Pieces, Stream, adaptation, pat, pes_header, pmt
from relay.mux.units import Fit

OFFSET = 126_000
"""Added to every timestamp, so that a PCR before the first DTS is not below zero: 1.4 s, as FFmpeg has it."""
DELAY = 63_000
"""How long before its DTS a frame begins to arrive, by the PCR: 0.7 s, the time players expect to buffer."""
PCR_EVERY = 3_600
"""40 ms, what DVB asks for (ETSI TS 101 154); ISO allows 100 ms."""
TABLES_EVERY = 41_400
"""PAT and PMT: at most 0.5 s apart, and frames or PCRs come every 40 ms."""
MAX_FILL = 900_000
"""A longer hole than 10 s is not filled with PCR packets: the next one jumps."""
_GROUP = 8
"""AAC frames in one PES packet: 170 ms share one head, as is usual."""


class _Way:
    """One track on its way into packets."""

    __slots__ = ("form", "last", "number", "pid", "shift")

    def __init__(self, number: int, form: Form) -> None:
        self.number = number
        self.form = form
        self.pid = Pid(FIRST_PID + number)
        self.shift = 0
        self.last = -1

    def order(self, dts: int, cts: int) -> tuple[int, int]:
        """Return DTS and PTS such that none is before its DTS: negative composition times move the DTS for good."""
        self.shift = max(self.shift, -cts)
        decode = max(self.last + 1, min(dts - self.shift, dts + cts))
        self.last = decode
        return decode, max(decode, dts + cts)


_Item = tuple[int, int, _Way, bool, Sequence[bytes | memoryview]]
"""dts and pts in ticks of 90 kHz, track, random access, payload in pieces."""


class TsMuxer(SegmentMuxer):
    """Writes MPEG-TS."""

    init = b""
    """There is no init segment: every piece has its tables."""

    def __init__(self, tracks: Sequence[Track], *, origin: int = 0) -> None:
        self._forms: dict[tuple[int, int], Form] = {}
        super().__init__(tracks, origin=origin)
        self._ways: dict[int, _Way] = {}
        self._pat, self._pmt = Pid(PAT_PID), Pid(PMT_PID)
        self._sections = (b"", b"")
        self._clock = Pid(0)
        self._pcr = self._tables = -1

    def _takes(self, track: Track) -> bool:
        try:
            self._forms[track.kind, track.track_id] = form_for(track)
        except MediaError:
            return False
        return super()._takes(track)

    def _fit(self, track: Track) -> Fit:
        return self._forms[track.kind, track.track_id].fit

    def _begin(self) -> None:
        """Give every track its PID, once it is clear which there are."""
        for number, lane in enumerate(self._by_number):
            self._ways[lane.number] = _Way(number, self._forms[lane.track.kind, lane.track.track_id])
        lead = next((lane for lane in self._by_number if lane.is_video), self._by_number[0])
        self._clock = self._ways[lead.number].pid
        streams = [
            Stream(stream_type=way.form.stream_type, pid=FIRST_PID + way.number, descriptors=way.form.descriptors)
            for way in self._ways.values()
        ]
        self._sections = pat(), pmt(FIRST_PID + self._ways[lead.number].number, streams)

    def _pack(self, runs: list[Run]) -> bytes:
        if not self._ways:
            self._begin()
        items: list[_Item] = []
        for run in runs:
            way = self._ways[run.lane.number]
            items += _pictures(run, way) if run.lane.is_video else _sounds(run, way)
        items.sort(key=lambda item: item[0])
        out: Pieces = []
        now = items[0][0]
        self._write_tables(now if self._pcr < 0 else min(now, self._pcr), out)
        fresh = True
        for dts, pts, way, random_access, pieces in items:
            mine = way.pid is self._clock
            self._pass_time(dts, out, owed=fresh and not mine)
            pcr = None
            if mine and (dts > self._pcr or fresh):
                pcr, self._pcr = dts - DELAY, dts
            fresh = False
            head = pes_header(way.form.stream_id, sum(map(len, pieces)), pts, dts)
            way.pid.packets(b"".join((head, *pieces)), adaptation(pcr=pcr, random_access=random_access), out)
        return b"".join(out)

    def _write_tables(self, now: int, out: Pieces) -> None:
        out += (self._pat.table(self._sections[0]), self._pmt.table(self._sections[1]))
        self._tables = now

    def _pass_time(self, now: int, out: Pieces, *, owed: bool) -> None:
        """Write the PCRs and tables that are due before *now*; *owed*: the piece has no PCR yet."""
        if self._pcr < 0 or now - self._pcr > MAX_FILL:
            self._pcr = max(self._pcr, now - PCR_EVERY)
        while now - self._pcr > PCR_EVERY:
            self._pcr += PCR_EVERY
            out.append(self._clock.clock(self._pcr - DELAY))
            if self._pcr - self._tables > TABLES_EVERY:
                self._write_tables(self._pcr, out)
            owed = False
        if owed:
            self._pcr = max(now, self._pcr + 1)
            out.append(self._clock.clock(self._pcr - DELAY))
        if now - self._tables > TABLES_EVERY:
            self._write_tables(now, out)


def _pictures(run: Run, way: _Way) -> list[_Item]:
    """One PES packet for each picture."""
    items: list[_Item] = []
    clock = run.start + OFFSET
    for sample, duration in zip(run.samples, run.durations, strict=True):
        dts, pts = way.order(clock, run.lane.offset(sample))
        items.append((dts, pts, way, sample[2], way.form.write(sample)))
        clock += duration
    return items


def _sounds(run: Run, way: _Way) -> list[_Item]:
    """Some frames to a PES packet: only the first has a timestamp, so a hole in time begins a new one."""
    items: list[_Item] = []
    pieces: list[bytes | memoryview] = []
    scale, write = run.lane.scale, way.form.write
    clock = begin = run.start
    count = 0
    size = 0
    for sample, duration in zip(run.samples, run.durations, strict=True):
        if not count:
            begin = clock
        pieces += write(sample)
        size += len(sample[3])
        count += 1
        clock += duration
        if count >= _GROUP or duration != sample[4] or size > 4_000:
            items.append(_sound(begin, scale, way, pieces))
            pieces, count, size = [], 0, 0
    if pieces:
        items.append(_sound(begin, scale, way, pieces))
    return items


def _sound(begin: int, scale: int, way: _Way, pieces: Sequence[bytes | memoryview]) -> _Item:
    dts = begin * 90_000 // scale + OFFSET
    return dts, dts, way, False, pieces
