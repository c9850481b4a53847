"""What is known of an event on disk: one line of JSON for each thing that happened, and the playlists made from it.

The rule it guards: the journal is only appended to, a line says only what is on the disk already, and a torn last line
is one that never was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from .playlists import Terms, date_time
from .segments import File, Segment, on_disk

NO_TERMS = Terms(target_duration=0, part_target_ms=0)
MOST_PART_MS = 10_000
"""A part of one picture lasts as long as the encoder's slowest rate has it; what is longer was not written by us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A segment that is on the disk."""

    rendition: str
    number: int
    name: str
    init: str
    duration_ms: float
    at_ms: float
    size: int
    independent: bool
    discontinuity: bool


@dataclass(slots=True)
class Journal:
    """An event as its journal tells it.

    *begun* is the highest number that a rendition may have shown; *index* the multivariant playlist; *end* how it
    ended: ``over``, ``lost`` (in order: everything that was shown is on the disk), or nothing.
    """

    records: list[Record] = field(default_factory=list)
    begun: int = 0
    discontinuity: int = 0
    terms: Terms = NO_TERMS
    index: str = ""
    end: str = ""


def line(**values: object) -> bytes:
    """Return a line."""
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def record_line(record: Record) -> bytes:
    """Return the line of a segment."""
    return line(segment=asdict(record))


def read_journal(data: bytes) -> Journal:
    """Read a journal as far as it is whole."""
    found = Journal()
    for text in data.splitlines(keepends=True):
        try:
            values = json.loads(text) if text.endswith(b"\n") else None
            if not isinstance(values, dict):
                break
            _take(found, values)
        except (ValueError, TypeError, RecursionError):
            break
    return found


def _take(found: Journal, values: dict[str, object]) -> None:
    match values:
        case {"segment": dict() as segment}:
            record = Record(**segment)
            found.records.append(record)
            found.begun = max(found.begun, record.number)
        case {"begin": int() as number, "discontinuity": int() as discontinuity}:
            found.begun = max(found.begun, number)
            found.discontinuity = max(found.discontinuity, discontinuity)
            found.end = ""
        case {"index": str() as index, "target": int() as target}:
            part = values.get("part")
            part_ms = part if isinstance(part, int | float) and 0 < part <= MOST_PART_MS else 0
            found.index, found.terms = index, Terms(target_duration=target, part_target_ms=part_ms)
        case {"end": str() as end}:
            found.end = end


def renditions(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Return the records of each rendition."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.rendition, []).append(record)
    return found


def relist(records: Sequence[Record], window_ms: float, event: str, content_type: bytes) -> list[Segment]:
    """Return the newest records without a gap, as far back as the window goes, for a live playlist that goes on."""
    listed: list[Segment] = []
    inits: dict[str, File] = {}
    length = 0.0
    for record in reversed(records):
        if length >= window_ms or (listed and record.number != listed[-1].number - 1):
            break
        init = None
        if record.init:
            made = File(name=record.init, content_type=b"video/mp4", pieces=(), event=event)
            init = inits.setdefault(record.init, made)
        segment = Segment(
            number=record.number,
            name=record.name,
            init=init,
            discontinuity=record.discontinuity,
            at_ms=record.at_ms,
            start_ms=0.0,
            duration_ms=record.duration_ms,
            size=record.size,
            independent=record.independent,
            event=event,
        )
        segment.file = on_disk(segment, content_type, event)
        listed.append(segment)
        length += record.duration_ms
    return listed[::-1]


def recorded_playlist(records: list[Record]) -> str:
    """Return the media playlist of a rendition that is over: all of it, to be played from its beginning."""
    return "\n".join(_recorded(records)) + "\n"


def _recorded(records: list[Record]) -> Iterator[str]:
    longest = max((record.duration_ms for record in records), default=1000.0)
    yield "#EXTM3U"
    yield f"#EXT-X-VERSION:{7 if any(record.init for record in records) else 3}"
    yield f"#EXT-X-TARGETDURATION:{max(math.floor(longest / 1000 + 0.5), 1)}"
    yield "#EXT-X-MEDIA-SEQUENCE:0"
    yield "#EXT-X-PLAYLIST-TYPE:VOD"
    if all(record.independent for record in records):
        yield "#EXT-X-INDEPENDENT-SEGMENTS"
    before: Record | None = None
    for record in records:
        gap = before is not None and record.number != before.number + 1
        apart = before is not None and (record.discontinuity or gap)
        if apart:
            yield "#EXT-X-DISCONTINUITY"
        if record.init and (before is None or apart or record.init != before.init):
            yield f'#EXT-X-MAP:URI="{record.init}"'
        yield f"#EXT-X-PROGRAM-DATE-TIME:{date_time(record.at_ms)}"
        yield f"#EXTINF:{record.duration_ms / 1000:.5f},"
        yield record.name
        before = record
    yield "#EXT-X-ENDLIST"
