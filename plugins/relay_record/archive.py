"""One directory of recordings and the threads that work on it: one writes, one syncs and finishes, one does chores.

The writer only opens and writes, so a slow fdatasync never keeps it: what was handed over is in the kernel's hands,
and survives the relay's death, as soon as `write(2)` took it. The rule this room guards: a file's final name appears
when the file is whole and on the disk; after an error nothing more is written to that file.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock

from .adopting import adopt
from .disk import Disk, exists, folder, sync_names, write_all, write_all_at
from .names import PART, SIDECAR, FileName, folder_name, stem_of
from .partfile import PartFacts, PartFile, Recording
from .sidecar import Document, Sidecars, describe, stamp
from .worker import Worker

TICK_S = 0.08
"""How long bytes wait for others before they are handed to the disk: what a killed relay loses (P19), with room below
the 100 ms of a batch for a reactor that is late."""
PASS_S = 1.0
"""Between two fdatasync of a file, at most: what is lost with the power (P19)."""
MAX_NAMES = 1000
"""Names tried for a file before giving up: clocks that step back make them meet."""

Patch = tuple[int, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a file. *what*: ``finished``, ``failed``, ``recovered`` or ``deleted``."""

    what: str
    stream: str
    recording: str
    file: str
    path: Path
    size: int = 0
    facts: PartFacts = field(default_factory=PartFacts)
    suspect: bool = False
    """The disk reported an error while it was written; its last second may be missing."""
    error: str = ""


class Archive:
    """A directory of recordings.

    Attributes:
        free: bytes free on its disk, None before the first look.
        total: bytes of its disk.
        room_error: why the disk could not be asked.
        wall_clock: the time of day.
        mending: name of the torn file that recovery works on.
        looking: held by who only looks whether a file is locked, and by recovery when it locks one.
        left: folder and id of the recordings that an earlier relay did not end; the chores' own.
    """

    def __init__(self, directory: Path, *, disk: Disk, wall_clock: Callable[[], float]) -> None:
        self.directory = directory
        self.disk = disk
        self.sidecars = Sidecars(disk)
        self.free: int | None = None
        self.total = 0
        self.room_error: OSError | None = None
        self.writer = Worker("record-write")
        self.keeper = Worker("record-keep")
        self.chores = Worker("record-chores", nice=True)
        self.wall_clock = wall_clock
        self._outcomes: SimpleQueue[Outcome] = SimpleQueue()
        self._files: list[PartFile] = []  # those that are open; appended by the writer, removed by the keeper
        self.mending = ""
        self.looking = Lock()
        self.left: list[tuple[str, str]] = []
        self._passing = False

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Its threads."""
        return self.writer, self.keeper, self.chores

    # The reactor's side: everything returns at once.

    def open(self, file: PartFile) -> None:
        """Make the file."""
        self.writer.do(partial(self._open, file))

    def write(self, file: PartFile, pieces: Sequence[bytes], size: int) -> None:
        """Append *pieces*, *size* bytes in all."""
        file.handed += size
        self.writer.do(partial(self._write, file, pieces, size))

    def finish(self, file: PartFile, pieces: Sequence[bytes], patches: Sequence[Patch]) -> None:
        """Append *pieces*, write *patches* over what is there, and give the file its name."""
        self.write(file, pieces, sum(map(len, pieces)))
        self.writer.do(lambda: self.keeper.do(partial(self._finish, file, patches)))

    def abandon(self, file: PartFile) -> None:
        """Give up a file that had an error. What of it is whole gets its name later."""
        self.writer.do(lambda: self.keeper.do(partial(self._abandon, file)))

    def end(self, recording: Recording, wall: float) -> None:
        """Note in the sidecar that a recording is over."""
        self.writer.do(lambda: self.keeper.do(partial(self._end, recording, wall)))

    def pass_over(self, now: float) -> None:
        """Sync what was written, look how full the disk is. Once a second; not again while the last one runs."""
        if not self._passing:
            self._passing = True
            self.keeper.do(partial(self._pass, now))

    def outcomes(self) -> list[Outcome]:
        """Take what became of files since the last call."""
        taken = []
        while True:
            try:
                taken.append(self._outcomes.get_nowait())
            except Empty:
                return taken

    def tell(self, outcome: Outcome) -> None:
        """Add an outcome."""
        self._outcomes.put(outcome)

    # The writer's thread.

    def _open(self, file: PartFile) -> None:
        try:
            self._make(file)
        except OSError as error:
            file.error = error
        else:
            self._files.append(file)
            self.keeper.do(partial(self._announce, file))

    def _make(self, file: PartFile) -> None:
        disk, name = self.disk, folder_name(file.recording.stream)
        root = disk.open_root(self.directory)
        try:
            try:
                file.folder = disk.open_folder(name, root)
            except FileNotFoundError:
                disk.make_folder(name, root)
                file.folder = disk.open_folder(name, root)
        finally:
            disk.close(root)
        self._find_stem(file)
        for _ in range(MAX_NAMES):
            file.recording.number += 1
            file.name = str(FileName(file.recording.stem, file.recording.number, file.suffix))
            if exists(disk, file.name, file.folder):
                continue
            try:
                file.fd = disk.create(file.name + PART, file.folder)
            except FileExistsError:
                continue
            return
        raise OSError(errno.EEXIST, "no free name was found")

    def _find_stem(self, file: PartFile) -> None:
        recording = file.recording
        if not recording.stem and recording.adopt_s >= 0:
            with self.looking:
                adopt(self.sidecars, recording, file.folder, self.wall_clock(), self.mending)
        for again in range(MAX_NAMES):
            if recording.stem:
                return
            stem = stem_of(recording.stream, recording.started_at, again)
            first = str(FileName(stem, 1, file.suffix))
            if not any(exists(self.disk, name, file.folder) for name in (stem + SIDECAR, first, first + PART)):
                recording.stem = stem

    def _write(self, file: PartFile, pieces: Sequence[bytes], size: int) -> None:
        try:
            if file.error is None and size:
                write_all(self.disk, file.fd, b"".join(pieces))
                file.size += size
        except OSError as error:
            file.error = error
        finally:
            file.taken += size

    # The keeper's thread.

    def _announce(self, file: PartFile) -> None:
        """List a file that has just begun: a relay that dies in its first second knows by that what to continue."""
        with suppress(OSError):
            self._describe(file, "recording")

    def _pass(self, now: float) -> None:
        self._passing = False
        files = tuple(self._files)
        for file in files:  # the media of all comes before what is said of it
            self._keep(file)
        for file in files:
            self._say(file, now)
        self._look()

    def _keep(self, file: PartFile) -> None:
        """Have what was written on the disk."""
        size = file.size
        if file.error is not None or size == file.synced:
            return
        try:
            self.disk.sync_data(file.fd)
            if not file.placed:
                self._place(file)
            file.synced = size
            if not self.disk.links(file.fd):
                raise OSError(errno.ENOENT, "somebody deleted the file")
        except OSError as error:
            file.error = error

    def _place(self, file: PartFile) -> None:
        """Have the names of file and folder on the disk: data without a name is lost with the power."""
        sync_names(self.disk, file.folder)
        root = self.disk.open_root(self.directory)
        try:
            sync_names(self.disk, root)
        finally:
            self.disk.close(root)
        file.placed = True

    def _say(self, file: PartFile, now: float) -> None:
        """Say in the sidecar how far a file is good. That of very many files is long, and written less often."""
        synced = file.synced
        every = PASS_S + file.recording.number // 50
        if file.error is None and synced != file.told and now - file.told_at >= every - TICK_S:
            file.told_at = now
            with suppress(OSError):  # the media is what counts
                self._describe(file, "recording")
                file.told = synced

    def _look(self) -> None:
        try:
            root = self.disk.open_root(self.directory)
            try:
                self.free, self.total = self.disk.room(root)
            finally:
                self.disk.close(root)
            self.room_error = None
        except OSError as error:
            self.room_error = error

    def _finish(self, file: PartFile, patches: Sequence[Patch]) -> None:
        if file.error is None:
            try:
                for offset, data in patches:
                    write_all_at(self.disk, file.fd, data, offset)
                self.disk.sync(file.fd)
                file.synced = file.size
                if not self.disk.links(file.fd):
                    raise OSError(errno.ENOENT, "somebody deleted the file")
                self.disk.rename(file.name + PART, file.name, file.folder)
                sync_names(self.disk, file.folder)
            except OSError as error:
                file.error = error
        if file.error is None:
            with suppress(OSError):  # the file is whole and says so by its name
                self._describe(file, "finished")
            self._let_go(file)
            self.tell(self._outcome(file, "finished"))
        else:
            self._abandon(file)
        file.finished = True

    def _abandon(self, file: PartFile) -> None:
        error = file.error or OSError(errno.ECANCELED, "given up")
        opened = file.fd >= 0
        self._let_go(file)
        self.tell(replace(self._outcome(file, "failed"), suspect=opened, error=reason_of(error)))
        file.finished = True

    def _let_go(self, file: PartFile) -> None:
        if file in self._files:
            self._files.remove(file)
        for fd in (file.fd, file.folder):
            if fd >= 0:
                try:
                    self.disk.close(fd)
                except OSError as error:
                    file.error = file.error or error
        file.fd = file.folder = -1

    def _describe(self, file: PartFile, state: str) -> None:
        def change(document: Document) -> None:
            describe(document, file, state)
            document["state"] = "recording"
            document["seen_at"] = stamp(self.wall_clock())

        self.sidecars.change(file.recording.stem, file.folder, change)

    def _end(self, recording: Recording, wall: float) -> None:
        if not recording.stem:
            return

        def change(document: Document) -> None:
            document["state"] = "finished"
            document["ended_at"] = stamp(wall)

        # The files are whole and say so by their names: a sidecar that cannot be written takes nothing away.
        with suppress(OSError), folder(self.disk, self.directory, folder_name(recording.stream)) as at:
            self.sidecars.change(recording.stem, at, change)

    def _outcome(self, file: PartFile, what: str) -> Outcome:
        recording = file.recording
        path = self.directory / folder_name(recording.stream) / file.name
        return Outcome(
            what=what,
            stream=recording.stream,
            recording=recording.stem,
            file=file.name,
            path=path,
            size=file.size,
            facts=file.facts,
        )


def reason_of(error: OSError) -> str:
    """Return what went wrong in words that hold no path."""
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return f"{name}: {error.strerror or 'failed'}"
