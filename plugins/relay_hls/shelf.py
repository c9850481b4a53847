"""Events on disk: what is written of a programme while it is on, and what is found after a restart.

The rule it guards: the disk may be full, slow, read-only or gone; the live programme does not notice, what could be
written is playable, and the next segment tries again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from . import files, journal
from .journal import Journal, Record
from .lending import Lending
from .options import MIB
from .playlists import Terms
from .segments import Numbers, Segment
from .worker import Worker

MAX_QUEUED = 64 * MIB
"""Segments that wait for a slow disk, which are in memory anyway, but not for ever: 30 s at 16 Mbit/s. What comes then
is missing in the recording."""
READERS = 4
MAX_READS = 64
"""Reads that may wait: viewers behind them are told to come again."""
LAST = "last"
"""What stands for a stream's newest recording."""


class BusyError(Exception):
    """Too many reads wait, or viewers hold too much of what was read."""


@dataclass(frozen=True, slots=True)
class Found:
    """An event that the last run left in order, so that it can go on."""

    stream: str
    event: str
    journal: Journal


@dataclass(slots=True)
class Harvest:
    """What a start finds: events that can go on, and for each stream the numbers of segments and discontinuities
    above all that were ever shown."""

    going_on: list[Found] = field(default_factory=list)
    above: dict[str, Numbers] = field(default_factory=dict)
    error: str = ""


class Store:
    """The directory of all events. Attribute *error*: why nothing can be written, empty when all is well."""

    def __init__(
        self, root: Path, clock: IReactorTime, wall_clock: Callable[[], float], log: Logger, *, min_free: int
    ) -> None:
        self.root = root
        self.error = ""
        self.writer = Worker("hls-writer", clock)
        self.min_free = min_free
        self._log = log
        self._wall_clock = wall_clock
        self.lending = Lending()
        self._readers = [Worker(f"hls-reader-{number}", clock) for number in range(READERS)]
        self._lock = -1

    def complain(self, what: str, failure: Failure) -> None:
        """Say once what is wrong with the disk."""
        reason = os.strerror(failure.value.errno or 0) if isinstance(failure.value, OSError) else str(failure.value)
        if reason != self.error:
            self._log.error("HLS cannot {what} in {root}: {reason}", what=what, root=str(self.root), reason=reason)
        self.error = reason

    def well(self) -> None:
        """The disk works."""
        if self.error:
            self._log.info("HLS writes to {root} again", root=str(self.root))
        self.error = ""

    def flushed(self) -> Deferred[None]:
        """Fire when everything asked for so far is written, or has failed."""
        return self.writer.do(lambda: None)

    # A start.

    def harvest(self, young_s: float) -> Deferred[Harvest]:
        """Take the directory, finish what a killed run left, and find what can go on because it is younger."""
        return self.writer.do(lambda: self._harvest(young_s))

    def _harvest(self, young_s: float) -> Harvest:
        self._lock = files.lock(self.root)
        found = Harvest()
        with files.opened(self.root) as root:
            folders = [name for name in files.names(root) if not name.startswith(".")]
        for folder in folders:
            try:
                self._harvest_stream(folder, young_s, found)
            except OSError as error:
                found.error = str(error.strerror)
        return found

    def _harvest_stream(self, folder: str, young_s: float, found: Harvest) -> None:
        with files.opened(self.root, folder) as at:
            events = [name for name in files.names(at) if files.EVENT_NAME.fullmatch(name)]
        for event in events:
            with files.opened(self.root, folder, event) as at:
                present = set(files.names(at))
                if files.JOURNAL not in present:
                    continue
                known = journal.read_journal(files.read_file(at, files.JOURNAL))
                stream = files.stream_name(folder)
                numbers = Numbers(known.begun + 1, known.discontinuity)
                found.above[stream] = numbers.or_above(found.above.get(stream))
                known.records = [record for record in known.records if record.name in present]
                if "index.m3u8" in present:
                    continue
                young = files.age_s(at, files.JOURNAL, self._wall_clock()) < young_s
                if known.end == "lost" and young and known.records:
                    found.going_on.append(Found(stream, event, known))
                else:
                    finish(at, known)

    # Viewers of recordings.

    def read(self, stream: str, event: str, name: str) -> Deferred[bytes]:
        """Return a file of an event; fails with OSError, or at once when too many wait."""
        reader = min(self._readers, key=lambda worker: worker.waiting)
        if reader.waiting * READERS >= MAX_READS or self.lending.is_full:
            raise BusyError
        return reader.do(lambda: self._read(stream, event, name))

    def _read(self, stream: str, event: str, name: str) -> bytes:
        folder = files.folder_name(stream)
        with files.opened(self.root, folder, self._event(folder, event)) as at:
            return files.read_file(at, name)

    def _event(self, folder: str, event: str) -> str:
        if event != LAST:
            return event
        with files.opened(self.root, folder) as at:
            for name in reversed(files.names(at)):
                if files.EVENT_NAME.fullmatch(name) and os.access(f"{name}/index.m3u8", os.R_OK, dir_fd=at):
                    return name
        raise FileNotFoundError(2, "no recording")

    # Old ones.

    def clean(self, days: int) -> Deferred[None]:
        """Delete recordings that are older."""
        return self.writer.do(lambda: self._clean(days * 86_400.0))

    def _clean(self, seconds: float) -> None:
        with files.opened(self.root) as root:
            folders = [name for name in files.names(root) if not name.startswith(".")]
        for folder in folders:
            with files.opened(self.root, folder) as at:
                for event in files.names(at):
                    if not files.EVENT_NAME.fullmatch(event) or files.age_s(at, event, self._wall_clock()) < seconds:
                        continue
                    files.remove_event(at, event)  # without an index too: killed before anything was shown

    def new_event(self) -> str:
        """Name an event that begins now, behind all names before it."""
        now = datetime.fromtimestamp(self._wall_clock(), UTC)
        return f"{now:%Y%m%dT%H%M%SZ}-{now.microsecond:05x}{secrets.token_hex(3)}"


class Shelf:
    """One event on disk.

    Attributes:
        event: its name.
        missing: segments that could not be written.
    """

    def __init__(self, store: Store, stream: str, event: str, records: Sequence[Record] = ()) -> None:
        self.event = event
        self.missing = 0
        self._store = store
        self._names = (files.folder_name(stream), event)
        self._records = list(records)  # the writer's own
        self._inits: set[str] = {record.init for record in records}
        self._queued = 0
        self._index = ""

    def begin(self, number: int, discontinuity: int) -> None:
        """A segment of this number begins, and viewers may see its parts."""
        self._write(lambda at: files.append(at, files.JOURNAL, journal.line(begin=number, discontinuity=discontinuity)))

    def add(self, rendition: str, segment: Segment, stored: Callable[[], None]) -> None:
        """Write a complete segment; *stored* is called when it is on the disk."""
        file, init = segment.file, segment.init
        if file is None or self._queued + segment.size > MAX_QUEUED:
            self.missing += 1
            return
        record = Record(
            rendition=rendition,
            number=segment.number,
            name=segment.name,
            init="" if init is None else init.name,
            duration_ms=segment.duration_ms,
            at_ms=segment.at_ms,
            size=segment.size,
            independent=segment.independent,
            discontinuity=segment.discontinuity,
        )
        pieces, init_pieces = file.pieces, () if init is None else init.pieces

        def write(at: int) -> None:
            if files.room(at) < self._store.min_free:
                raise OSError(28, "the disk is full down to min_free_mb")
            if record.init and record.init not in self._inits:
                files.write_file(at, record.init, init_pieces, replace=True)
                self._inits.add(record.init)
            files.write_file(at, record.name, pieces)
            files.append(at, files.JOURNAL, journal.record_line(record))
            self._records.append(record)

        self._queued += segment.size

        def done(result: object) -> None:
            self._queued -= segment.size
            if isinstance(result, Failure):
                self.missing += 1
                self._store.complain("write segments", result)
            else:
                self._store.well()
                stored()

        self._do(write).addBoth(done)

    def set_index(self, index: str, terms: Terms) -> None:
        """Note what the multivariant playlist says."""
        if index != self._index:
            self._index = index
            line = journal.line(index=index, target=terms.target_duration, part=terms.part_target_ms)
            self._write(lambda at: files.append(at, files.JOURNAL, line))

    def end(self, how: str) -> None:
        """The event is ``over``, or ``lost`` and may go on."""
        index = self._index

        def write(at: int) -> None:
            files.append(at, files.JOURNAL, journal.line(end=how))
            if how == "over":
                finish(at, Journal(records=self._records, index=index))

        self._write(write)

    def _write(self, job: Callable[[int], None]) -> None:
        self._do(job).addErrback(lambda failure: self._store.complain("write", failure))

    def _do(self, job: Callable[[int], None]) -> Deferred[None]:
        def work() -> None:
            with files.opened(self._store.root, *self._names, make=True) as at:
                job(at)

        return self._store.writer.do(work)


def finish(at: int, known: Journal) -> None:
    """Make a recording of an event: its playlists, the multivariant one last."""
    kept = journal.renditions(known.records)
    for name, records in kept.items():
        files.write_file(at, f"{name}.m3u8", [journal.recorded_playlist(records).encode()], replace=True)
    if kept and known.index:
        files.write_file(at, "index.m3u8", [known.index.encode()], replace=True)
