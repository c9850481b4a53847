"""What a rendition is made of: initialization segments, parts, segments. Data and names, nothing that decides.

The rule it guards: a name is used once in the life of the universe (epoch of this start, rendition, number), so
whoever caches one never serves anything wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from relay.api import Packet


class Fragment(Protocol):
    """What a muxer cuts."""

    @property
    def data(self) -> bytes: ...
    @property
    def start_ms(self) -> float: ...
    @property
    def duration_ms(self) -> float: ...
    @property
    def independent(self) -> bool: ...


class Muxer(Protocol):
    """What `relay.api.Fmp4Muxer` and `TsMuxer` have in common."""

    def write(self, packet: Packet) -> None: ...
    def cut(self, *, last: bool = False) -> Fragment | None: ...
    def cut_before(self, packet: Packet) -> Fragment | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """Something that is served under a name of its own."""

    name: str
    content_type: bytes
    pieces: Sequence[bytes]
    """Its bytes, in order; never joined, because a segment and its parts share them. None when it is on disk only."""
    event: str = ""
    """Where it is on disk, if it is there only."""
    disk_size: int = 0

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.disk_size or sum(map(len, self.pieces))


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a segment that players may have before the segment is complete."""

    file: File
    duration_ms: float
    independent: bool


@dataclass(slots=True, eq=False)
class Segment:
    """A segment that grows until it is complete.

    *discontinuity*: decoder and clock start anew with it. *at_ms* is the time of day of its first frame. *lines* are
    its lines in a playlist once it is complete, with and without its parts.
    """

    number: int
    name: str
    init: File | None
    discontinuity: bool
    at_ms: float
    start_ms: float
    parts: list[Part] = field(default_factory=list)
    file: File | None = None
    duration_ms: float = 0.0
    size: int = 0
    independent: bool = False
    """It can be decoded without what was before."""
    event: str = ""
    """Where it is on disk too, once it is."""
    lines: dict[bool, str] = field(default_factory=dict)

    @property
    def hint(self) -> str:
        """The name of the part that grows now."""
        return part_name(self.name, len(self.parts))


@dataclass(frozen=True, slots=True)
class Numbers:
    """Where a list begins to count: its first segment, and the discontinuities before it."""

    segment: int = 0
    discontinuity: int = 0

    def or_above(self, other: Numbers | None) -> Numbers:
        """Return these, or higher ones where *other* has them."""
        if other is None:
            return self
        return Numbers(max(self.segment, other.segment), max(self.discontinuity, other.discontinuity))


def on_disk(segment: Segment, content_type: bytes, event: str) -> File:
    """Return a segment as something that is on disk only."""
    return File(name=segment.name, content_type=content_type, pieces=(), event=event, disk_size=segment.size)


def segment_name(epoch: str, rendition: str, number: int, extension: str) -> str:
    """Name a segment."""
    return f"{epoch}-{rendition}-{number}.{extension}"


def part_name(segment: str, index: int) -> str:
    """Name a part of a segment."""
    stem, _, extension = segment.rpartition(".")
    return f"{stem}.{index}.{extension}"


def init_name(epoch: str, rendition: str, number: int) -> str:
    """Name an initialization segment."""
    return f"{epoch}-{rendition}-init{number}.mp4"
