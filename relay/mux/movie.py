"""The head of an MP4 file that is written in fragments: ftyp and a moov without samples (ISO/IEC 14496-12 8.8)."""

from __future__ import annotations

from collections.abc import Sequence

from relay.media.packets import MediaKind
from relay.mux.boxes import UNITY, box, full_box, u16, u32, u64
from relay.mux.lane import Lane

FTYP = box(b"ftyp", b"iso6", u32(0), b"iso6", b"cmfc", b"mp41", b"dash")
MOVIE_SCALE = 1000
NOT_SYNC_BIT = 0x10000
"""sample_is_non_sync_sample among the sample flags."""
_UNDETERMINED = u16(0x55C4)
"""Language "und" in three times five bits (8.4.2.3)."""
_EMPTY_TABLES = b"".join((
    full_box(b"stts", 0, 0, u32(0)),
    full_box(b"stsc", 0, 0, u32(0)),
    full_box(b"stsz", 0, 0, u32(0), u32(0)),
    full_box(b"stco", 0, 0, u32(0)),
))  # fmt: skip
_DATA_HERE = box(b"dinf", full_box(b"dref", 0, 0, u32(1), full_box(b"url ", 0, 1)))
ROOM_FOR_MEHD = box(b"free", bytes(12))
"""Takes the place of mehd until the duration is known: a mehd that says 0 would be a lie."""


def init_segment(lanes: Sequence[Lane], *, room: bool = False) -> bytes:
    """Return ftyp and moov; *room* reserves space for the duration (see `duration_patch`)."""
    first = {lane.track.kind: lane for lane in reversed(lanes)}
    traks = [trak(lane, enabled=first[lane.track.kind] is lane) for lane in lanes]
    defaults = [full_box(b"trex", 0, 0, u32(lane.number), u32(1), u32(0), u32(0), u32(0)) for lane in lanes]
    mvex = box(b"mvex", ROOM_FOR_MEHD if room else b"", *defaults)
    return FTYP + box(b"moov", mvhd(0, len(lanes) + 1), *traks, mvex)


def duration_patch(init: bytes, duration_ms: int) -> tuple[int, bytes]:
    """Return where and what to write over an init segment with room, when the file is complete."""
    return init.index(ROOM_FOR_MEHD), full_box(b"mehd", 1, 0, u64(duration_ms))


def random_access_index(entries: Sequence[tuple[int, int, int]], number: int) -> bytes:
    """Write mfra: (time in ticks, offset of the moof, number of the traf) of each fragment that begins with a keyframe.

    ISO/IEC 14496-12 8.8.10. Readers look at the last 16 bytes of a file for its size.
    """
    rows = b"".join(u64(time) + u64(offset) + bytes((traf, 1, 1)) for time, offset, traf in entries)
    tfra = full_box(b"tfra", 1, 0, u32(number), u32(0), u32(len(entries)), rows)
    return box(b"mfra", tfra, full_box(b"mfro", 0, 0, u32(8 + len(tfra) + 16)))


def mvhd(duration: int, next_track: int) -> bytes:
    """Write the movie header; version 1, whose times have 64 bits, when the duration asks for it."""
    wide = duration > 0xFFFF_FFFF
    times = bytes(16) + u32(MOVIE_SCALE) + u64(duration) if wide else bytes(8) + u32(MOVIE_SCALE) + u32(duration)
    rest = b"".join((u32(0x10000), u16(0x100), bytes(10), UNITY, bytes(24), u32(next_track)))
    return full_box(b"mvhd", int(wide), 0, times, rest)


def trak(lane: Lane, *, enabled: bool) -> bytes:
    """Write a track without samples. Only the first of each kind is enabled; the others are its alternatives."""
    entry = lane.entry
    if entry is None:
        raise AssertionError("a track without entry is written")
    video = lane.track.kind is MediaKind.VIDEO
    group, volume = (0, 0) if video else (1, 0x100)
    tkhd = full_box(
        b"tkhd", 0, 3 if enabled else 2, bytes(8), u32(lane.number), bytes(16), u16(0), u16(group), u16(volume), u16(0),
        UNITY, u32(entry.width << 16), u32(entry.height << 16),
    )  # fmt: skip
    mdhd = full_box(b"mdhd", 0, 0, bytes(8), u32(entry.scale), u32(0), _UNDETERMINED, u16(0))
    kind, name = (b"vide", b"video\0") if video else (b"soun", b"sound\0")
    hdlr = full_box(b"hdlr", 0, 0, u32(0), kind, bytes(12), name)
    header = full_box(b"vmhd", 0, 1, bytes(8)) if video else full_box(b"smhd", 0, 0, bytes(4))
    stbl = box(b"stbl", full_box(b"stsd", 0, 0, u32(1), entry.box), _EMPTY_TABLES)
    return box(b"trak", tkhd, box(b"mdia", mdhd, hdlr, box(b"minf", header, _DATA_HERE, stbl)))
