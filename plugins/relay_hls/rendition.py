"""One media playlist and what it lists: segments that are complete, the one that grows, and those that left the list.

It is told what to begin, add and finish, and decides what is still listed and what is still there to be fetched. The
rule it guards (P21): what a playlist lists can be fetched before and after; numbers only rise; every change is whole
before anybody who waits is told.
"""

from __future__ import annotations

import gzip
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from .options import MAX_WAITERS
from .reload import Waiters
from .segments import File, Fragment, Part, Segment, init_name, on_disk, part_name, segment_name

LEAST_LISTED = 3
"""Segments that stay listed whatever the memory limit says: players start three segments back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a rendition begins to count: above anything that this stream ever had."""

    epoch: str
    number: int
    discontinuity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How segments are written."""

    extension: str
    content_type: bytes
    parts: bool


FMP4 = Form(extension="m4s", content_type=b"video/iso.segment", parts=True)
TS = Form(extension="ts", content_type=b"video/mp2t", parts=True)


class Text:
    """A playlist as it is at one moment, compressed once for all who like it so."""

    __slots__ = ("_packed", "plain")

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self._packed = b""

    def pack(self) -> bytes:
        """Return it as gzip; the quickest level saves four fifths."""
        if not self._packed:
            self._packed = gzip.compress(self.plain, 1, mtime=0)
        return self._packed


class Rendition:
    """One media playlist.

    Attributes:
        name: its file name without extension.
        listed: complete segments in the playlist.
        open: the segment that grows.
        first_discontinuity: EXT-X-DISCONTINUITY-SEQUENCE, the number of tags that rolled off.
        version: rises with every change.
        waiters: requests that wait for a change.
        size: bytes held.
        over: the programme has ended: EXT-X-ENDLIST.
    """

    def __init__(self, name: str, place: Place, form: Form, *, window_ms: float, clock: IReactorTime) -> None:
        self.name = name
        self.form = form
        self.listed: deque[Segment] = deque()
        self.open: Segment | None = None
        self.first_discontinuity = place.discontinuity
        self.version = 0
        self.waiters = Waiters(clock, MAX_WAITERS)
        self.size = 0
        self.over = False
        self.segments_total = 0
        self.parts_total = 0
        self.bytes_total = 0
        self.peak_bps = 0.0
        self.files: dict[str, File] = {}
        self.on_segment: Callable[[Rendition, Segment], None] = lambda rendition, segment: None
        self.on_begin: Callable[[Rendition, Segment], None] = lambda rendition, segment: None
        self._place = place
        self._next = place.number
        self._inits = 0
        self._init: File | None = None
        self._window_ms = window_ms
        self._listed_ms = 0.0
        self._texts: dict[bool, tuple[int, Text]] = {}
        self._left: deque[Segment] = deque()
        self._left_ms = 0.0

    # Growing.

    @property
    def next_number(self) -> int:
        """The number of the next segment to begin."""
        return self._next

    def set_init(self, data: bytes) -> None:
        """Take the initialization segment of what begins from now on; the same again changes nothing."""
        if self._init is not None and self._init.pieces == (data,):
            return
        if not data:
            self._init = None
            return
        name = init_name(self._place.epoch, self.name, self._inits)
        self._inits += 1
        self._init = File(name=name, content_type=b"video/mp4", pieces=(data,))
        self.files[name] = self._init
        self.size += len(data)

    def begin(self, *, start_ms: float, at_ms: float, discontinuity: bool) -> Segment:
        """Open the next segment."""
        number = self._next
        self._next += 1
        name = segment_name(self._place.epoch, self.name, number, self.form.extension)
        self.open = Segment(
            number=number, name=name, init=self._init, discontinuity=discontinuity, at_ms=at_ms, start_ms=start_ms
        )
        self.on_begin(self, self.open)
        return self.open

    def add(self, fragment: Fragment) -> None:
        """Add what the muxer cut to the open segment."""
        segment = self.open
        assert segment is not None  # noqa: S101 - the packager begins before it adds
        if segment.init is not self._init and not segment.parts:
            segment.init = self._init  # the muxer knew its codec only from the first frame
        name = part_name(segment.name, len(segment.parts))
        file = File(name=name, content_type=self.form.content_type, pieces=(fragment.data,))
        part = Part(file=file, duration_ms=fragment.duration_ms, independent=fragment.independent)
        if self.form.parts:
            self.files[name] = file
            self.parts_total += 1
        if not segment.parts:
            segment.independent = part.independent
        segment.parts.append(part)
        segment.duration_ms += part.duration_ms
        segment.size += len(fragment.data)
        self.size += len(fragment.data)
        self.bytes_total += len(fragment.data)
        if self.form.parts:
            self._changed()

    def finish(self) -> Segment | None:
        """Complete the open segment; one without frames never was."""
        segment, self.open = self.open, None
        if segment is None:
            return None
        if not segment.parts:
            self._next = segment.number
            return segment
        pieces = tuple(piece for part in segment.parts for piece in part.file.pieces)
        segment.file = File(name=segment.name, content_type=self.form.content_type, pieces=pieces)
        self.files[segment.name] = segment.file
        self.listed.append(segment)
        self._listed_ms += segment.duration_ms
        self.segments_total += 1
        if segment.duration_ms >= 500:  # a rate over less than that says nothing
            self.peak_bps = max(self.peak_bps, segment.size * 8000 / segment.duration_ms)
        self._trim()
        self.on_segment(self, segment)
        return segment

    def end(self) -> None:
        """The programme is over."""
        self.finish()
        self.over = True
        self._changed()

    def changed(self) -> None:
        """Tell those who wait, after `finish` and `begin`."""
        self._changed()

    def _changed(self) -> None:
        self.version += 1
        self.waiters.changed()

    # What is there.

    @property
    def discontinuities(self) -> int:
        """Discontinuity tags so far, from the first number on."""
        growing = self.open is not None and self.open.discontinuity
        return self.first_discontinuity + sum(s.discontinuity for s in self.listed) + growing

    @property
    def last_number(self) -> int:
        """Number of the last complete segment."""
        return self.listed[-1].number if self.listed else self._next - 1 - (self.open is not None)

    @property
    def average_bps(self) -> float:
        """Bit rate over what is listed."""
        return sum(s.size for s in self.listed) * 8000 / self._listed_ms if self._listed_ms else 0.0

    def has(self, number: int, part: int | None) -> bool:
        """Whether there is this segment, or this part of it, or anything later."""
        last = self.last_number
        if part is None:
            return last >= number
        if last >= number:
            newest = self.listed[-1] if self.listed else None
            if newest is None or newest.number > number or part < len(newest.parts):
                return True
            number, part = number + 1, 0  # beyond its last part: the first one of the next segment
        growing = self.open
        return growing is not None and growing.number == number and len(growing.parts) > part

    def text(self, kind: bool, render: Callable[[], bytes]) -> Text:
        """Return the playlist, rendered once for each change."""
        found = self._texts.get(kind)
        if found is None or found[0] != self.version:
            found = self._texts[kind] = (self.version, Text(render()))
        return found[1]

    @property
    def hint(self) -> str:
        """The name of the part that comes next, empty when there are no parts or nothing comes."""
        return self.open.hint if self.form.parts and self.open is not None and not self.over else ""

    # On disk.

    def restore(self, listed: Sequence[Segment], discontinuities: int) -> None:
        """Take over what an earlier run has left on disk."""
        self.listed.extend(listed)
        self._listed_ms = sum(segment.duration_ms for segment in listed)
        self._next = listed[-1].number + 1
        self.first_discontinuity = discontinuities - sum(segment.discontinuity for segment in listed)
        for segment in listed:
            if segment.file is not None:
                self.files[segment.name] = segment.file
            if segment.init is not None:
                self.files[segment.init.name] = segment.init
        self._changed()

    def cool(self, hot_ms: float) -> None:
        """Let go of the bytes of what is on disk too, but for the newest."""
        hot = 0.0
        for segment in reversed(self.listed):
            hot += segment.duration_ms
            if hot > hot_ms and not self._cool(segment):
                break  # what is before it is cold, or is not on disk yet

    def _cool(self, segment: Segment) -> bool:
        if not segment.event or segment.file is None or segment.file.event:
            return False
        segment.file = self.files[segment.name] = on_disk(segment, self.form.content_type, segment.event)
        self.size -= segment.size
        for part in segment.parts:
            self.files.pop(part.file.name, None)
        segment.parts = []
        segment.lines.pop(True, None)
        return True

    def held_bytes(self) -> int:
        """What `size` should be, counted anew."""
        growing = () if self.open is None else (self.open,)
        segments = (*self._left, *self.listed, *growing)
        warm = sum(s.size for s in segments if s.file is None or not s.file.event)
        inits = sum(f.size for f in self.files.values() if f.name.endswith(".mp4") and not f.event)
        return int(warm + inits)

    # Leaving.

    def clear(self) -> None:
        """Take everything off the list: what begins now has nothing to do with it."""
        while self.listed:
            self._unlist()

    def shed(self) -> bool:
        """Give up the oldest segment that can be spared for want of memory; False when none can."""
        if self._left:
            self._drop()
        elif any(self._cool(segment) for segment in self.listed):
            pass
        elif len(self.listed) > LEAST_LISTED:
            self._unlist()
            self._drop()
        else:
            return False
        return True

    def _trim(self) -> None:
        while len(self.listed) > LEAST_LISTED and self._listed_ms - self.listed[0].duration_ms >= self._window_ms:
            self._unlist()
        # RFC 8216 6.2.2: what leaves the list stays for its own duration and that of the longest list that had it.
        while self._left and self._left_ms - self._left[0].duration_ms > self._window_ms:
            self._drop()

    def _unlist(self) -> None:
        segment = self.listed.popleft()
        self._listed_ms -= segment.duration_ms
        self.first_discontinuity += segment.discontinuity
        self._left.append(segment)
        self._left_ms += segment.duration_ms
        for part in segment.parts:
            self.files.pop(part.file.name, None)

    def _drop(self) -> None:
        segment = self._left.popleft()
        self._left_ms -= segment.duration_ms
        file = self.files.pop(segment.name, None)
        if file is not None and not file.event:
            self.size -= segment.size
        init = segment.init
        held = (*self._left, *self.listed) if init is not None and init is not self._init else ()
        if held and all(other.init is not init for other in held):
            self.files.pop(init.name, None)  # type: ignore[union-attr]
            self.size -= init.size  # type: ignore[union-attr]
