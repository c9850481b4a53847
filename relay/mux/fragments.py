"""Fragmented MP4 read back: what each moof says of its samples (ISO/IEC 14496-12 8.8). Reads our own files only."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import unpack_from
from sys import byteorder

from relay.mux.errors import MuxError
from relay.mux.recover import MAX_HEAD, Read, inner_boxes, top_boxes


@dataclass(slots=True, kw_only=True)
class Piece:
    """The samples of one track in one fragment; they stand in a row from *place* on."""

    number: int
    time: int
    place: int
    durations: array[int]
    sizes: array[int]
    flags: array[int] = field(default_factory=lambda: array("I"))
    """Empty when all are sync samples."""
    offsets: array[int] = field(default_factory=lambda: array("i"))
    """Empty when all are 0."""


def pieces(read: Read) -> Iterator[tuple[int, list[Piece]]]:
    """Yield the place of each whole fragment and its pieces, which fill its mdat."""
    waiting: tuple[int, list[Piece]] | None = None
    for name, start, body, stop in top_boxes(read):
        if name == b"moof":
            if stop - start > MAX_HEAD:
                raise MuxError("mux.not_ours", f"a moof of {stop - start} bytes")
            waiting = start, read_moof(read(start, stop - start), start)
        elif name == b"mdat" and waiting is not None:
            for piece in waiting[1]:
                if piece.place != body:
                    raise MuxError("mux.not_ours", f"samples at {piece.place} instead of {body}")
                body += sum(piece.sizes)
            if body != stop:
                raise MuxError("mux.not_ours", f"samples end at {body}, their box at {stop}")
            yield waiting
            waiting = None


def read_moof(data: bytes, start: int) -> list[Piece]:
    """Read a moof that stands at *start*."""
    found = []
    for name, body, stop in inner_boxes(data, 8, len(data)):
        if name == b"traf":
            inner = {kind: data[first:last] for kind, first, last in inner_boxes(data, body, stop)}
            if not {b"tfhd", b"tfdt", b"trun"} <= inner.keys():
                raise MuxError("mux.not_ours", "a traf without tfhd, tfdt or trun")
            found.append(_read_traf(inner[b"tfhd"], inner[b"tfdt"], inner[b"trun"], start))
    return found


def _read_traf(tfhd: bytes, tfdt: bytes, trun: bytes, start: int) -> Piece:
    flags = int.from_bytes(trun[1:4], "big")
    if flags not in (0x301, 0xF01) or len(trun) < 12:
        raise MuxError("mux.not_ours", f"trun with flags {flags:x}")
    count, offset = unpack_from(">Ii", trun, 4)
    columns = 4 if flags == 0xF01 else 2
    if len(trun) != 12 + 4 * columns * count:
        raise MuxError("mux.not_ours", "trun of another length than its samples")
    rows = array("I", trun[12:])
    if byteorder == "little":
        rows.byteswap()
    piece = Piece(
        number=int.from_bytes(tfhd[4:8], "big"),
        time=int.from_bytes(tfdt[4:12], "big"),
        place=start + offset,
        durations=rows[0::columns],
        sizes=rows[1::columns],
    )
    if columns == 4:
        piece.flags = rows[2::4]
        piece.offsets = array("i", rows[3::4].tobytes())
    return piece
