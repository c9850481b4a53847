"""Packets to fragmented MP4 (ISO/IEC 14496-12 8.8, CMAF 23000-19): an init segment, then moof and mdat per cut.

Each moof is complete in itself (default-base-is-moof, 64-bit tfdt in stream time), so every fragment can be a file, a
segment, an LL-HLS part or the next bytes of a recording. Fragments of separate renditions align by their times.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from sys import byteorder

from relay.media.packets import Track
from relay.mux.boxes import NOT_SYNC, SYNC, full_box, u32, u64
from relay.mux.lane import Run
from relay.mux.movie import duration_patch, init_segment, random_access_index
from relay.mux.segment import Finish, Fragment, SegmentMuxer

__all__ = ["Fmp4Muxer", "Fragment"]

_TFHD = 0x020000 | 0x20
"""default-base-is-moof, default-sample-flags-present (8.8.7)."""
_TRUN = 0x1 | 0x100 | 0x200
"""data-offset, sample duration, sample size (8.8.8)."""
_TRUN_VIDEO = _TRUN | 0x400 | 0x800
"""And sample flags, signed composition time offset (version 1)."""
_U32 = 0xFFFF_FFFF
INDEX = 65_536
"""Fragments in the index of a file: 36 hours of 2 s. A longer recording lists every second of what it had."""


class Fmp4Muxer(SegmentMuxer):
    """Writes fMP4. *init* is empty until every track is known; it is there once a cut returned a fragment.

    With *file*, the pieces are the bytes of one file: init has room for the duration, and `finish` gives that and an
    index of the fragments that begin with a keyframe.
    """

    def __init__(self, tracks: Sequence[Track], *, origin: int = 0, file: bool = False) -> None:
        super().__init__(tracks, origin=origin)
        self._file = file
        self._init = b""
        self._sequence = 0
        self._size = 0
        self._index: list[tuple[int, int, int]] = []
        self._span: tuple[float, float] | None = None

    @property
    def init(self) -> bytes:
        """The init segment: ftyp and moov."""
        if not self._init and not self._unknown:
            self._init = init_segment(self._by_number, room=self._file)
        return self._init

    def _pack(self, runs: list[Run]) -> bytes:
        """Write one moof and its mdat: the frames of one track after those of the other."""
        self._sequence += 1
        head = full_box(b"mfhd", 0, 0, u32(self._sequence & _U32))
        truns = [_table(run) for run in runs]
        trafs = [_traf_size(len(table)) for table in truns]
        size = 8 + len(head) + sum(trafs)
        offset = size + 8
        parts = [u32(size), b"moof", head]
        data: list[bytes | memoryview] = []
        for run, table in zip(runs, truns, strict=True):
            parts.append(_traf(run, table, offset))
            payloads = [sample[3] for sample in run.samples]
            offset += sum(map(len, payloads))
            data += payloads
        if self._file:
            self._note(runs, offset)
        return b"".join((*parts, u32(offset - size), b"mdat", *data))

    def _note(self, runs: list[Run], size: int) -> None:
        """Keep what the end of the file tells: where fragments begin, how long the whole is."""
        self._size = self._size or len(self.init)
        for traf, run in enumerate(runs, 1):
            if run.lane is self._by_number[0] and (run.samples[0][2] or not run.lane.is_video):
                self._index.append((run.start, self._size, traf))
        if len(self._index) > INDEX:
            del self._index[1::2]
        self._size += size
        begin, end = min(run.lane.ms(run.start) for run in runs), max(run.lane.ms(run.end) for run in runs)
        self._span = (min(self._span[0], begin), max(self._span[1], end)) if self._span else (begin, end)

    def finish(self) -> Finish:
        """Return mfra and the duration, for a muxer made with *file*."""
        if self._span is None:
            return super().finish()
        tail = random_access_index(self._index, self._by_number[0].number)
        return Finish(tail=tail, patches=(duration_patch(self.init, round(self._span[1] - self._span[0])),))


def _traf_size(table: int) -> int:
    return 8 + 20 + 20 + 20 + table


def _traf(run: Run, table: bytes, offset: int) -> bytes:
    """Write the traf of a run whose first frame stands *offset* bytes after the beginning of the moof."""
    video = run.lane.is_video
    return b"".join((
        u32(_traf_size(len(table))), b"traf",
        full_box(b"tfhd", 0, _TFHD, u32(run.lane.number), u32(NOT_SYNC if video else SYNC)),
        full_box(b"tfdt", 1, 0, u64(run.start)),
        u32(20 + len(table)), b"trun", u32(1 << 24 | (_TRUN_VIDEO if video else _TRUN)),
        u32(len(run.samples)), u32(offset), table,
    ))  # fmt: skip


def _table(run: Run) -> bytes:
    """Write the rows of trun in one go: column by column into one array."""
    samples = run.samples
    count = len(samples)
    if not run.lane.is_video:
        rows = array("I", bytes(8 * count))
        rows[0::2] = array("I", run.durations)
        rows[1::2] = array("I", [len(sample[3]) for sample in samples])
    else:
        rows = array("I", bytes(16 * count))
        rows[0::4] = array("I", run.durations)
        rows[1::4] = array("I", [len(sample[3]) for sample in samples])
        rows[2::4] = array("I", [SYNC if sample[2] else NOT_SYNC for sample in samples])
        rows[3::4] = array("I", run.lane.offsets(samples))
    if byteorder == "little":
        rows.byteswap()
    return rows.tobytes()
