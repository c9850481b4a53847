"""Mends files whose writer died: cuts them to what is whole, completes them, gives them their names.

For the chores' thread. The rule it guards: every step may be the last one, of this process too; what is found then is
mended by the next. A file that somebody writes is locked, so it is left alone, whoever that is.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from relay.api import Finish, MuxError, mend, recover

from .archive import Archive, Outcome
from .disk import Disk, exists, folder, sync_names, write_all_at
from .names import PART, SIDECAR, FileName, parse_file, stream_of
from .partfile import PartFacts
from .settling import measure, settle
from .sidecar import PENDING, THEN, Document, find_part

NEW = SIDECAR + ".new"

_WHOLE = {".mp4": recover.whole_fmp4, ".flv": recover.whole_flv, ".ts": recover.whole_ts}
_HEAD: dict[str, Callable[[recover.Read], int]] = {
    ".mp4": recover.head_fmp4,
    ".flv": recover.head_flv,
    ".ts": lambda read: 0,
}
UNSYNCED = 64 * 1024 * 1024
"""Where to look for holes when no sidecar says how far a file was synced: 8 s at 60 Mbit/s."""


def recover_all(archive: Archive, *, suspect: bool = False, first: bool = False) -> int:
    """Mend every torn file of a directory; return how many are left because mending failed.

    *suspect*: they are torn because the disk failed, so their ends may be lost. *first*: the relay has just started, so
    what was to be done with finished files, and is not, is told again.
    """
    disk, left = archive.disk, 0
    try:
        root = disk.open_root(archive.directory)
        try:
            folders = [name for name in sorted(disk.names(root)) if stream_of(name) is not None]
        finally:
            disk.close(root)
    except OSError:
        return 1
    for name in folders:
        try:
            with folder(disk, archive.directory, name) as at:
                if first:
                    settle(archive, name, at)
                for file in sorted(disk.names(at)):
                    if first and file.endswith(SIDECAR):
                        _tell_pending(archive, name, file, at)
                    left += not _look_at(archive, name, file, at, suspect)
        except OSError:
            left += 1
    return left


def _tell_pending(archive: Archive, folder_name: str, sidecar: str, at: int) -> None:
    """Tell of finished files with which something was still to be done."""
    for part in archive.sidecars.read(sidecar.removesuffix(SIDECAR), at).get("parts", []):
        name = parse_file(str(part.get("file"))) if isinstance(part, dict) else None
        if name is not None and part.get(THEN) == PENDING and exists(archive.disk, str(name), at):
            first, lasts = _number(part, "first_ms"), _number(part, "duration_ms")
            size = archive.disk.about(str(name), at).st_size
            facts = PartFacts(first_ms=first, last_ms=first + lasts)
            archive.tell(_outcome(archive, "pending", folder_name, name, size, facts, part.get("state") == "suspect"))


def _number(part: Document, key: str) -> int:
    value = part.get(key)
    return value if isinstance(value, int) else 0


def _outcome(
    archive: Archive, what: str, folder_name: str, name: FileName, size: int, facts: PartFacts, suspect: bool
) -> Outcome:
    return Outcome(
        what=what,
        stream=stream_of(folder_name) or "",
        recording=name.stem,
        file=str(name),
        path=archive.directory / folder_name / str(name),
        size=size,
        facts=facts,
        suspect=suspect,
    )


def note_done(archive: Archive, path: Path) -> None:
    """Note that everything was done with a finished file."""
    name = parse_file(path.name)
    if name is None:
        return

    def change(document: Document) -> None:
        find_part(document, str(name))[THEN] = "done"

    with suppress(OSError), folder(archive.disk, archive.directory, path.parent.name) as at:
        if exists(archive.disk, name.stem + SIDECAR, at):
            archive.sidecars.change(name.stem, at, change)


def _look_at(archive: Archive, folder_name: str, name: str, at: int, suspect: bool) -> bool:
    """Mend a file if it is torn; return whether there is nothing left to do."""
    if name.endswith(NEW):
        archive.sidecars.clean(name, at)
        return True
    known = parse_file(name.removesuffix(PART)) if name.endswith(PART) else None
    if known is None:
        return True
    archive.mending = name
    try:
        _mend(archive, folder_name, known, at, suspect)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.ENOENT)  # somebody writes it, or has just finished it
    finally:
        archive.mending = ""
    return True


def _mend(archive: Archive, folder_name: str, name: FileName, at: int, suspect: bool) -> None:
    disk = archive.disk
    torn = str(name) + PART
    with archive.looking:
        fd = disk.open(torn, at)
    try:
        hole = _hole(archive, name, at, lambda offset, size: disk.read_at(fd, size, offset))

        def read(offset: int, size: int) -> bytes:
            return disk.read_at(fd, size if hole is None else max(0, min(size, hole - offset)), offset)

        size = _WHOLE[name.suffix](read)
        disk.truncate(fd, size)
        measured, finish = measure(name.suffix, read, size), _completed(name.suffix, read, size)
        if not measured.frames:
            disk.unlink(torn, at)
            _forget(archive, name, at)
            return
        for offset, data in finish.patches:
            write_all_at(disk, fd, data, offset)
        if finish.tail:
            write_all_at(disk, fd, finish.tail, size)
            size += len(finish.tail)
        disk.sync(fd)
        name = _free_name(disk, name, at)
        disk.rename(torn, str(name), at)
        sync_names(disk, at)
    finally:
        disk.close(fd)
    facts = _note(archive, folder_name, name, at, size, measured.duration_ms, suspect)
    archive.tell(_outcome(archive, "recovered", folder_name, name, size, facts, suspect))


def _hole(archive: Archive, name: FileName, at: int, read: recover.Read) -> int | None:
    """Return where a file breaks off because its writer lost the power, although there is more behind that."""
    size = archive.disk.about(str(name) + PART, at).st_size
    parts = archive.sidecars.read(name.stem, at).get("parts", [])
    part = next((one for one in parts if isinstance(one, dict) and one.get("file") == str(name)), None)
    synced = _number(part, "good_bytes") if part is not None else size - UNSYNCED
    synced = max(synced, _HEAD[name.suffix](read))
    return recover.first_hole(read, synced) if synced < size else None


def _completed(suffix: str, read: recover.Read, size: int) -> Finish:
    """Return what makes a file complete."""
    with suppress(MuxError):  # what recovery calls whole stays, without an index
        if suffix == ".flv":
            return mend.mend_flv(read, size)
        if suffix == ".mp4":
            return mend.mend_fmp4(read, size)
    return Finish(tail=b"", patches=())  # TS needs neither index nor duration


def _free_name(disk: Disk, name: FileName, at: int) -> FileName:
    """Return the file's own name, or the next number that is free: nothing is ever written over."""
    while exists(disk, str(name), at):
        name = FileName(name.stem, name.number + 1, name.suffix)
    return name


def _note(
    archive: Archive, name_of_folder: str, name: FileName, at: int, size: int, duration_ms: int, suspect: bool
) -> PartFacts:
    """Write into the sidecar what became of a file; the media is safe already, so a failure is no harm."""
    facts, stream = PartFacts(), stream_of(name_of_folder) or ""

    def change(document: Document) -> None:
        nonlocal facts
        document.setdefault("stream", stream)
        part = find_part(document, str(name))
        part[THEN] = PENDING
        part |= {"state": "suspect" if suspect else "recovered", "recovered": True, "bytes": size, "good_bytes": size}
        facts = PartFacts(first_ms=_number(part, "first_ms"))
        if duration_ms:
            part |= {"duration_ms": duration_ms, "last_ms": facts.first_ms + duration_ms}
            facts = PartFacts(first_ms=facts.first_ms, last_ms=facts.first_ms + duration_ms)

    with suppress(OSError):
        archive.sidecars.change(name.stem, at, change)
    return facts


def _forget(archive: Archive, name: FileName, at: int) -> None:
    """Take a file that held nothing out of the sidecar."""

    def change(document: Document) -> None:
        document["parts"] = [part for part in document["parts"] if part.get("file") != str(name)]

    with suppress(OSError):
        if exists(archive.disk, name.stem + SIDECAR, at):
            archive.sidecars.change(name.stem, at, change)
