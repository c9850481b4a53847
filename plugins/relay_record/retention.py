"""Deletes finished files that are too old or too many. For the chores' thread.

The rule it guards: only what an option says is deleted, the oldest first, and only files whose names are ours. A wall
clock that jumped says nothing about ages until it has run on for an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from .archive import Archive, Outcome
from .disk import folder
from .names import PART, FileName, parse_file, stream_of
from .options import StreamOptions
from .sidecar import Document

DAY_S = 86_400
JUMP_S = 60.0
"""A wall clock that moved by more than this against the monotonic one was set."""
TRUST_S = 3600.0
"""How long a clock that was set must run on before ages are believed again: time for somebody to notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A finished file."""

    folder: str
    name: FileName
    size: int
    changed: float


class Wall:
    """Says how much the wall clock can be believed."""

    def __init__(self, wall_clock: Callable[[], float], clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        self._clock = clock
        self._offset = wall_clock() - clock()
        self._trusted_at = clock()

    def now(self) -> float | None:
        """Return the time of day; None while the clock was set a short time ago."""
        wall, now = self._wall_clock(), self._clock()
        if abs(wall - now - self._offset) > JUMP_S:
            self._offset, self._trusted_at = wall - now, now + TRUST_S
        return wall if now >= self._trusted_at else None


def retain(archive: Archive, options_of: Callable[[str], StreamOptions], now: float | None, make_room: int) -> None:
    """Delete what the options of each stream say; then the oldest of all until *make_room* bytes are free of files."""
    everything: list[Kept] = []
    for name in _folders(archive):
        options = options_of(stream_of(name) or "")
        kept = sorted(_files(archive, name), key=_age)
        total = sum(file.size for file in kept)
        for file in kept:
            old = options.keep_days and now is not None and now - file.changed > options.keep_days * DAY_S
            many = options.keep_mb and total > options.keep_mb * 1_000_000
            if (old or many) and _delete(archive, file):
                total -= file.size
            else:
                everything.append(file)
    for file in sorted(everything, key=_age):
        if make_room <= 0:
            return
        if _delete(archive, file):
            make_room -= file.size


def _age(file: Kept) -> tuple[float, str]:
    return file.changed, str(file.name)


def _folders(archive: Archive) -> list[str]:
    with suppress(OSError):
        root = archive.disk.open_root(archive.directory)
        try:
            return [name for name in archive.disk.names(root) if stream_of(name) is not None]
        finally:
            archive.disk.close(root)
    return []


def _files(archive: Archive, name: str) -> Iterator[Kept]:
    with suppress(OSError), folder(archive.disk, archive.directory, name) as at:
        for file in archive.disk.names(at):
            known = parse_file(file)
            if known is not None:
                about = archive.disk.about(file, at)
                yield Kept(folder=name, name=known, size=about.st_size, changed=about.st_mtime)


def _delete(archive: Archive, file: Kept) -> bool:
    try:
        with folder(archive.disk, archive.directory, file.folder) as at:
            archive.disk.unlink(str(file.name), at)
            with suppress(OSError):
                _forget(archive, file.name, at)
    except OSError:
        return False
    stream, path = stream_of(file.folder) or "", archive.directory / file.folder / str(file.name)
    archive.tell(
        Outcome(
            what="deleted",
            stream=stream,
            recording=file.name.stem,
            file=str(file.name),
            path=path,
            size=file.size,
        )
    )
    return True


def _forget(archive: Archive, name: FileName, at: int) -> None:
    """Take a file out of its sidecar; the last one takes the sidecar with it."""
    left = [file for file in archive.disk.names(at) if file.startswith(name.stem + "_")]
    if not any(parse_file(file.removesuffix(PART)) for file in left):
        archive.sidecars.remove(name.stem, at)
        return

    def change(document: Document) -> None:
        for part in document["parts"]:
            if part.get("file") == str(name):
                part["state"] = "deleted"

    archive.sidecars.change(name.stem, at, change)
