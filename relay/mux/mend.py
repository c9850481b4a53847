"""What a recovered file needs to be as good as a finished one: its duration and its index, from what stands in it.

`recover` says where to truncate; the functions here say, after that, what to append and to write over. A file without
the room that our muxers reserve gets nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.amf0 import AmfError, Value, decode
from relay.media import flvfile, metadata
from relay.media.flvfile import TAG_HEADER_SIZE
from relay.media.packets import MediaKind
from relay.mux.flv import KeyframeIndex, front_matter
from relay.mux.fragments import pieces
from relay.mux.movie import NOT_SYNC_BIT, ROOM_FOR_MEHD, duration_patch, random_access_index
from relay.mux.recover import Read, flv_start, flv_tags, top_boxes
from relay.mux.remux import heads
from relay.mux.segment import Finish

NOTHING = Finish(tail=b"", patches=())
_AUDIO, _VIDEO = MediaKind.AUDIO, MediaKind.VIDEO
_FIRST_OWN, _END_OF_OBJECT = b"\x00\x08duration", b"\x00\x00\x09"
_OWN = ("duration", "filesize", "hasKeyframes", "keyframes", "no_frames", "spacer")
"""Properties of onMetaData that `front_matter` writes."""


def mend_flv(read: Read, whole: int) -> Finish:
    """Return the onMetaData of an FLV file of *whole* bytes with duration and index, for the first tag's place."""
    start = flv_start(read)
    index = KeyframeIndex()
    first = last = None
    room = 0
    for head, at, stop in flv_tags(read, start):
        if stop > whole:
            break
        if at == start:
            room = stop
        elif head[0] in (_AUDIO, _VIDEO) and is_frame(head):
            time = int.from_bytes(head[4:7], "big") | head[7] << 24
            first = time if first is None else first
            last = time if last is None else max(last, time)
            if head[0] == _VIDEO and is_keyframe(head[TAG_HEADER_SIZE]):
                index.add(time / 1000, at)
    if first is None or last is None:
        return NOTHING
    body = _rewritten(read(start + TAG_HEADER_SIZE, room - start - TAG_HEADER_SIZE - 4), index, last - first, whole)
    return Finish(tail=b"", patches=((start, flvfile.tag(MediaKind.DATA, 0, body)),) if body else ())


def _rewritten(original: bytes, index: KeyframeIndex, duration: int, size: int) -> bytes:
    """Return a tag body with new values and the same length; empty when the original is not one of ours."""
    values = _read(original)
    if values is None:  # power failed while it was written anew: pages of both; what the encoder said stands in front
        values = _read(original[: original.find(_FIRST_OWN)] + _END_OF_OBJECT)
    elif "spacer" not in values:
        return b""
    kept = {key: value for key, value in (values or {}).items() if key not in _OWN}
    body = front_matter(kept, index, duration / 1000, size)
    return body if len(body) == len(original) else b""


def _read(body: bytes) -> dict[str, Value] | None:
    """Return the values of an onMetaData, None when it cannot be read."""
    try:
        name, values = decode(body)[:2]
    except (AmfError, ValueError):
        return None
    return values if name == metadata.ON_METADATA and isinstance(values, dict) else None


def is_frame(head: bytes) -> bool:
    """Whether a tag is a coded frame, by its first two body bytes: no sequence header, no end of sequence.

    Behind multitrack and ModEx bytes it may be either; it counts.
    """
    first, second = head[TAG_HEADER_SIZE : TAG_HEADER_SIZE + 2].ljust(2, b"\xff")
    if head[0] == _AUDIO:
        return second != 0 if first >> 4 == 10 else first not in (0x90, 0x92, 0x94)
    if first & 0x80:
        return first & 0x0F not in (0, 2, 4, 5)
    return second == 1 if first & 0x0F in (7, 12) else True


def is_keyframe(first: int) -> bool:
    """Whether the body of a video frame holds a keyframe of the default track, by its first byte."""
    return first >> 4 & 7 == 1 and (not first & 0x80 or first & 0x0F in (1, 3))


def mend_fmp4(read: Read, whole: int) -> Finish:
    """Return index and duration of a fragmented MP4 file of *whole* bytes.

    Raises:
        MuxError: the file is not ours.
    """
    tracks = {head.number: head for head in heads(read)}
    if not tracks:
        return NOTHING
    lead = next(iter(tracks.values()))
    index: list[tuple[int, int, int]] = []
    begin, end = float("inf"), 0.0
    for moof, fragment in pieces(read):
        if moof >= whole:
            break
        for traf, piece in enumerate(fragment, 1):
            scale = tracks[piece.number].scale if piece.number in tracks else 1000
            begin = min(begin, piece.time * 1000 / scale)
            end = max(end, (piece.time + sum(piece.durations)) * 1000 / scale)
            if piece.number == lead.number and not (piece.flags and piece.flags[0] & NOT_SYNC_BIT):
                index.append((piece.time, moof, traf))
    if not index:
        return NOTHING
    return Finish(tail=random_access_index(index, lead.number), patches=_mehd(read, round(end - begin)))


def _mehd(read: Read, duration: int) -> tuple[tuple[int, bytes], ...]:
    """Return the patch of the room in moov, nothing when there is none."""
    for name, start, _, stop in top_boxes(read):
        if name == b"moov":
            moov = read(start, stop - start)
            if ROOM_FOR_MEHD not in moov:
                return ()
            at, box = duration_patch(moov, duration)
            return ((start + at, box),)
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a file holds."""

    frames: int
    duration_ms: int


def measure_flv(read: Read, whole: int) -> Measured:
    """Count frames and time of an FLV file of *whole* bytes."""
    frames = first = last = 0
    for head, _, stop in flv_tags(read, flv_start(read)):
        if stop > whole:
            break
        if head[0] in (_AUDIO, _VIDEO) and is_frame(head):
            time = int.from_bytes(head[4:7], "big") | head[7] << 24
            first, last = (first, max(last, time)) if frames else (time, time)
            frames += 1
    return Measured(frames=frames, duration_ms=last - first)


def measure_fmp4(read: Read, whole: int) -> Measured:
    """Count frames and time of a fragmented MP4 file of *whole* bytes.

    Raises:
        MuxError: the file is not ours.
    """
    scales = {head.number: head.scale for head in heads(read)}
    frames, begin, end = 0, float("inf"), 0.0
    for moof, fragment in pieces(read):
        if moof >= whole:
            break
        for piece in fragment:
            scale = scales.get(piece.number, 1000)
            frames += len(piece.sizes)
            begin = min(begin, piece.time * 1000 / scale)
            end = max(end, (piece.time + sum(piece.durations)) * 1000 / scale)
    return Measured(frames=frames, duration_ms=round(end - begin) if frames else 0)
