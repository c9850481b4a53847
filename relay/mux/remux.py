"""A fragmented recording to a progressive MP4: one moov in front, samples copied as they are.

For editors and players that want to know everything before the first frame.

`progressive` blocks and belongs into a worker thread. It reads the source twice, the heads first, and never holds more
of it than the tables of the samples.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import BinaryIO

from relay.mux.boxes import box, full_box, u32, u64
from relay.mux.errors import MuxError
from relay.mux.fragments import Piece, pieces
from relay.mux.movie import MOVIE_SCALE, NOT_SYNC_BIT, mvhd
from relay.mux.recover import MAX_HEAD, Read, inner_boxes, top_boxes

_KEPT = frozenset({b"tkhd", b"mdhd", b"hdlr", b"vmhd", b"smhd", b"dinf", b"stsd"})
_MOST_TICKS = 1 << 56
"""Nobody records for thirty thousand years: a time that says so is damage."""
_COPY = 1024 * 1024
"""Bytes copied at once."""
_U32 = 0xFFFF_FFFF
_FTYP = box(b"ftyp", b"isom", u32(0x200), b"isom", b"iso6", b"mp41")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remuxed:
    """What `progressive` wrote."""

    samples: int
    duration_ms: int
    size: int


@dataclass(slots=True, kw_only=True)
class _Table:
    """One track while it is collected."""

    head: Head
    start: int = 0
    """Time of the first sample in ticks."""
    end: int = 0
    durations: array[int] = field(default_factory=lambda: array("I"))
    sizes: array[int] = field(default_factory=lambda: array("I"))
    offsets: array[int] = field(default_factory=lambda: array("i"))
    not_sync: bytearray = field(default_factory=bytearray)
    chunks: array[int] = field(default_factory=lambda: array("Q"))
    """Places in the source; one chunk per fragment."""
    counts: array[int] = field(default_factory=lambda: array("I"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What the source's moov says of a track."""

    number: int
    scale: int
    tkhd: bytes
    mdhd: bytes
    hdlr: bytes
    media_header: bytes
    dinf: bytes
    stsd: bytes


def progressive(source: BinaryIO, target: BinaryIO, *, stop: Callable[[], bool] = lambda: False) -> Remuxed:
    """Write the fragmented MP4 *source* to *target* with its index in front; what is not whole at its end is left out.

    Raises:
        MuxError: the source is no fragmented MP4 of ours (``mux.not_mp4``, ``mux.not_ours``), or *stop* returned True
            (``mux.stopped``), which is asked once for each megabyte.
    """

    def read(offset: int, size: int) -> bytes:
        source.seek(offset)
        return source.read(size)

    tables = {head.number: _Table(head=head) for head in heads(read)}
    spans: list[tuple[int, int]] = []
    for _, fragment in pieces(read):
        for piece in fragment:
            _collect(tables, piece, spans)
    written = [table for table in tables.values() if table.sizes]
    if not written:
        raise MuxError("mux.not_mp4", "no whole fragment")
    size = sum(length for _, length in spans)
    mdat = u32(size + 8) + b"mdat" if size + 8 <= _U32 else u32(1) + b"mdat" + u64(size + 16)
    head = _place(written, spans, len(mdat))
    target.write(head + mdat)
    for place, length in spans:
        _copy(source, target, place, length, stop)
    duration = max(_movie_end(table, written) for table in written)
    samples = sum(len(table.sizes) for table in written)
    return Remuxed(samples=samples, duration_ms=duration, size=len(head) + len(mdat) + size)


def heads(read: Read) -> Iterator[Head]:
    """Read the tracks of the source's moov."""
    for name, _, body, stop in top_boxes(read):
        if name == b"moov" and stop - body <= MAX_HEAD:
            data = read(body, stop - body)
            for kind, first, last in inner_boxes(data, 0, len(data)):
                if kind == b"trak":
                    yield _head(data[first:last])
            return
        if name not in (b"ftyp", b"free"):
            break
    raise MuxError("mux.not_mp4", "no moov in front")


def _head(trak: bytes) -> Head:
    found: dict[bytes, bytes] = {}
    start, stop = 0, len(trak)
    for container in (b"mdia", b"minf", b"stbl", b""):
        inner = {name: (first, last) for name, first, last in inner_boxes(trak, start, stop)}
        found |= {name: trak[first - 8 : last] for name, (first, last) in inner.items() if name in _KEPT}
        start, stop = inner.get(container, (0, 0))
    try:
        return Head(
            number=int.from_bytes(found[b"tkhd"][20:24], "big"),
            scale=int.from_bytes(found[b"mdhd"][20:24], "big") or 1,
            tkhd=found[b"tkhd"],
            mdhd=found[b"mdhd"],
            hdlr=found[b"hdlr"],
            media_header=found.get(b"vmhd") or found[b"smhd"],
            dinf=found[b"dinf"],
            stsd=found[b"stsd"],
        )
    except KeyError as error:
        raise MuxError("mux.not_ours", f"a track without {error}") from None


def _collect(tables: dict[int, _Table], piece: Piece, spans: list[tuple[int, int]]) -> None:
    """Add a piece to its track; time between it and the one before becomes the last sample's."""
    table = tables.get(piece.number)
    if table is None:
        raise MuxError("mux.not_ours", f"fragment of the unknown track {piece.number}")
    if not table.sizes and piece.time < _MOST_TICKS:
        table.start = table.end = piece.time
    elif not table.end <= piece.time < _MOST_TICKS:
        raise MuxError("mux.not_ours", f"time goes from {table.end} to {piece.time}")
    elif piece.time > table.end:
        table.durations[-1] = min(table.durations[-1] + piece.time - table.end, _U32)
    table.end = piece.time + sum(piece.durations)
    table.durations += piece.durations
    table.sizes += piece.sizes
    count = len(piece.sizes)
    table.offsets += piece.offsets or array("i", bytes(4 * count))
    table.not_sync += bytes(flag & NOT_SYNC_BIT > 0 for flag in piece.flags) if piece.flags else bytes(count)
    table.chunks.append(piece.place)
    table.counts.append(count)
    length = sum(piece.sizes)
    if spans and sum(spans[-1]) == piece.place:
        spans[-1] = (spans[-1][0], spans[-1][1] + length)
    else:
        spans.append((piece.place, length))


def _place(tables: list[_Table], spans: list[tuple[int, int]], mdat_head: int) -> bytes:
    """Write ftyp and moov for the samples where they will be: their places depend on the size of moov itself."""
    moved: dict[int, int] = {}
    position = 0
    for place, length in spans:
        moved[place] = position
        position += length
    starts = sorted(moved)
    relative = [array("Q", _moved(table.chunks, starts, moved)) for table in tables]
    wide = position > _U32 - 64 * 1024 * 1024  # then moov itself may push the last chunk over the edge
    base = 0
    for _ in range(2):
        moov = _moov(tables, [array("Q", (base + at for at in places)) for places in relative], wide=wide)
        base = len(_FTYP) + len(moov) + mdat_head
    return _FTYP + moov


def _moved(chunks: Iterable[int], starts: list[int], moved: dict[int, int]) -> Iterator[int]:
    """Give the new places of chunks, which come in ascending order as the spans do."""
    index = 0
    for chunk in chunks:
        while index + 1 < len(starts) and starts[index + 1] <= chunk:
            index += 1
        yield moved[starts[index]] + chunk - starts[index]


def _moov(tables: list[_Table], places: list[array[int]], *, wide: bool) -> bytes:
    duration = max(_movie_end(table, tables) for table in tables)
    traks = [_trak(table, tables, at, wide=wide) for table, at in zip(tables, places, strict=True)]
    return box(b"moov", mvhd(duration, min(max(table.head.number for table in tables) + 1, _U32)), *traks)


def _delay(table: _Table, tables: list[_Table]) -> int:
    """Return how much later than the first a track begins, in ticks of the movie."""
    return round(table.start * MOVIE_SCALE / table.head.scale - _begin(tables))


def _begin(tables: list[_Table]) -> float:
    return min(table.start * MOVIE_SCALE / table.head.scale for table in tables)


def _movie_end(table: _Table, tables: list[_Table]) -> int:
    return _delay(table, tables) + round((table.end - table.start) * MOVIE_SCALE / table.head.scale)


def _trak(table: _Table, tables: list[_Table], places: array[int], *, wide: bool) -> bytes:
    head, length = table.head, table.end - table.start
    delay = _delay(table, tables)
    shown = round(length * MOVIE_SCALE / head.scale)
    tkhd = _with_duration(head.tkhd, b"tkhd", 20, 8, delay + shown)
    mdhd = _with_duration(head.mdhd, b"mdhd", 20, 4, length)
    stbl = box(b"stbl", head.stsd, *_sample_tables(table), _chunk_offsets(places, wide=wide))
    minf = box(b"minf", head.media_header, head.dinf, stbl)
    return box(b"trak", tkhd, _edits(delay, shown), box(b"mdia", mdhd, head.hdlr, minf))


def _with_duration(original: bytes, name: bytes, kept: int, width: int, duration: int) -> bytes:
    """Write a version 0 tkhd or mdhd anew as version 1 with a duration; *width* bytes stand between times and it."""
    flags = int.from_bytes(original[9:12], "big")
    middle, rest = original[kept : kept + width], original[kept + width + 4 :]
    return full_box(name, 1, flags, bytes(16), middle, u64(duration), rest)


def _edits(delay: int, shown: int) -> bytes:
    """Write the edit list of a track that begins later than the movie (8.6.6)."""
    if delay <= 0:
        return b""
    empty = u64(delay) + b"\xff" * 8 + u32(0x10000)
    return box(b"edts", full_box(b"elst", 1, 0, u32(2), empty, u64(shown), u64(0), u32(0x10000)))


def _sample_tables(table: _Table) -> list[bytes]:
    """Write stts, ctts, stss, stsc and stsz."""
    boxes = [_runs(b"stts", 0, table.durations)]
    if any(table.offsets):
        boxes.append(_runs(b"ctts", 1, table.offsets))
    if any(table.not_sync):
        sync = array("I", (n for n, other in enumerate(table.not_sync, 1) if not other))
        boxes.append(full_box(b"stss", 0, 0, u32(len(sync)), _big(sync)))
    rows = array("I")
    chunk = 1
    for count, same in groupby(table.counts):
        rows.extend((chunk, count, 1))
        chunk += sum(1 for _ in same)
    boxes.append(full_box(b"stsc", 0, 0, u32(len(rows) // 3), _big(rows)))
    boxes.append(full_box(b"stsz", 0, 0, u32(0), u32(len(table.sizes)), _big(table.sizes)))
    return boxes


def _runs(name: bytes, version: int, values: array[int]) -> bytes:
    """Write a table of (how many, value)."""
    rows = array("I")
    for value, same in groupby(values):
        rows.extend((sum(1 for _ in same), value & _U32))
    return full_box(name, version, 0, u32(len(rows) // 2), _big(rows))


def _chunk_offsets(places: array[int], *, wide: bool) -> bytes:
    if wide:
        return full_box(b"co64", 0, 0, u32(len(places)), _big(places))
    return full_box(b"stco", 0, 0, u32(len(places)), _big(array("I", places)))


def _big(values: array[int]) -> bytes:
    """Return the values in network order."""
    swapped = array(values.typecode, values)
    if memoryview(array("H", [1])).tobytes() == b"\1\0":
        swapped.byteswap()
    return swapped.tobytes()


def _copy(source: BinaryIO, target: BinaryIO, place: int, length: int, stop: Callable[[], bool]) -> None:
    source.seek(place)
    while length:
        if stop():
            raise MuxError("mux.stopped", "the remux was called off")
        data = source.read(min(length, _COPY))
        if not data:
            raise MuxError("mux.short", "the source became shorter while it was read")
        target.write(data)
        length -= len(data)
