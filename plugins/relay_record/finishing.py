"""Makes a progressive MP4 of a finished fragmented one. For the chores' thread, which is nice.

The rule it guards: the fragmented file goes only when the other one is whole, has as many frames as it should and is on
the disk. The rename over it is one step: at any moment there is one good file of the name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from zlib import crc32

from relay.api import MuxError, mend, recover, remux

from .archive import Archive
from .disk import folder, sync_names
from .names import FileName
from .sidecar import Document, find_part

MADE = ".remux"
BLOCK = 1024 * 1024


def make_progressive(archive: Archive, folder_name: str, name: FileName, stop: Callable[[], bool]) -> str:
    """Put a progressive MP4 in the place of a fragmented one; return why that did not work, or nothing."""
    disk, file, made = archive.disk, str(name), str(name) + MADE
    try:
        with folder(disk, archive.directory, folder_name) as at:
            source = disk.open(file, at)
            try:
                with suppress(FileNotFoundError):
                    disk.unlink(made, at)
                target = disk.create(made, at)
                try:
                    _write(archive, source, target, stop)
                    size = os.fstat(target).st_size
                    disk.rename(made, file, at)
                    sync_names(disk, at)
                except BaseException:
                    with suppress(OSError):
                        disk.unlink(made, at)
                    raise
                finally:
                    disk.close(target)
            finally:
                disk.close(source)
            with suppress(OSError):
                archive.sidecars.change(name.stem, at, lambda document: _note(document, file, size))
    except (OSError, MuxError) as error:
        return str(error.strerror if isinstance(error, OSError) else error)
    return ""


def _write(archive: Archive, source: int, target: int, stop: Callable[[], bool]) -> None:
    """Write and check. Raises OSError or MuxError."""
    with open(source, "rb", closefd=False) as reading, open(target, "w+b", closefd=False) as writing:
        made = remux.progressive(reading, writing, stop=stop)
        writing.flush()
    archive.disk.sync(target)
    read_source, read_target = _reader(archive, source), _reader(archive, target)
    expected = mend.measure_fmp4(read_source, os.fstat(source).st_size).frames
    if made.samples != expected or os.fstat(target).st_size != made.size:
        raise MuxError("mux.not_ours", f"{made.samples} frames of {expected} were copied")
    if _media_sum(read_source) != _media_sum(read_target):
        raise MuxError("mux.not_ours", "the media differs from the source's")


def _reader(archive: Archive, fd: int) -> recover.Read:
    return lambda offset, size: archive.disk.read_at(fd, size, offset)


def _media_sum(read: recover.Read) -> tuple[int, int]:
    """Return length and checksum of everything in mdat boxes: remuxing moves it and changes none of it."""
    length = checksum = 0
    for name, _, start, stop in recover.top_boxes(read):
        if name != b"mdat":
            continue
        length += stop - start
        while start < stop:
            data = read(start, min(BLOCK, stop - start))
            if not data:
                raise MuxError("mux.not_mp4", "the file became shorter")
            checksum = crc32(data, checksum)
            start += len(data)
    return length, checksum


def _note(document: Document, file: str, size: int) -> None:
    find_part(document, file).update({"bytes": size, "good_bytes": size, "progressive": True})
