"""Makes sidecars true again after the relay died: files that are not listed as whole, recordings nobody continued.

For the chores' thread, at the relay's start. The rule it guards: the media files are what counts. A file whose name
says that it is whole is listed as finished, and what was to be done with it is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from relay.api import MuxError, mend, recover

from .archive import Archive
from .disk import folder
from .names import SIDECAR, FileName, parse_file, stream_of
from .options import StreamOptions
from .sidecar import PENDING, THEN, Document, find_part, unstamp

RECORDING, FINISHED = "recording", "finished"


def measure(suffix: str, read: recover.Read, size: int) -> mend.Measured:
    """Return what a file of *size* whole bytes holds."""
    with suppress(MuxError):
        if suffix == ".flv":
            return mend.measure_flv(read, size)
        if suffix == ".mp4":
            return mend.measure_fmp4(read, size)
    return mend.Measured(frames=int(size > 0), duration_ms=0)


def settle(archive: Archive, folder_name: str, at: int) -> None:
    """Look through a folder. Raises OSError."""
    names = sorted(archive.disk.names(at))
    files = [file for name in names if (file := parse_file(name)) is not None]
    stems = {file.stem for file in files} | {name.removesuffix(SIDECAR) for name in names if name.endswith(SIDECAR)}
    for stem in sorted(stems):
        document = archive.sidecars.read(stem, at)
        states = {part.get("file"): part.get("state") for part in document.get("parts", []) if isinstance(part, dict)}
        for file in files:
            if file.stem == stem and states.get(str(file), RECORDING) == RECORDING:
                with suppress(OSError):  # somebody is just about to
                    _list(archive, folder_name, file, at)
        if document.get("state") == RECORDING:
            archive.left.append((folder_name, stem))


def end_left(archive: Archive, options_of: Callable[[str], StreamOptions]) -> None:
    """Note the end of the recordings that an earlier relay left and that nobody continued in time."""
    for left in tuple(archive.left):
        folder_name, stem = left
        resume_s = options_of(stream_of(folder_name) or "").resume_s
        with suppress(OSError), folder(archive.disk, archive.directory, folder_name) as at:
            document = archive.sidecars.read(stem, at)
            seen = unstamp(document.get("seen_at"))
            over = seen is None or archive.wall_clock() - seen > resume_s
            if over and document.get("state") == RECORDING:
                archive.sidecars.change(stem, at, _end)
            if over:
                archive.left.remove(left)


def _list(archive: Archive, folder_name: str, name: FileName, at: int) -> None:
    """List a file as finished. Who writes it keeps it locked until that is done, so it fails then."""
    fd = archive.disk.open(str(name), at)
    try:
        size = os.fstat(fd).st_size
        measured = measure(name.suffix, lambda offset, count: archive.disk.read_at(fd, count, offset), size)
    finally:
        archive.disk.close(fd)

    def change(document: Document) -> None:
        document.setdefault("stream", stream_of(folder_name) or "")
        part = find_part(document, str(name))
        part |= {"state": FINISHED, "bytes": size, "good_bytes": size, THEN: PENDING}
        part.setdefault("first_ms", 0)
        if measured.duration_ms:
            part |= {"duration_ms": measured.duration_ms, "last_ms": part["first_ms"] + measured.duration_ms}

    archive.sidecars.change(name.stem, at, change)


def _end(document: Document) -> None:
    document["state"] = FINISHED
    document.setdefault("ended_at", document.get("seen_at"))
