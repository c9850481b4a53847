"""Every call that recording makes of the operating system, in one place: what may fail, fails here.

The rule it guards: files are opened by one segment of a name in a directory that is held open, never through a
symbolic link, never one that exists already, for their owner alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: a FIFO of this name must not hold the thread up."""


class Disk(Protocol):
    """What may fail or hang. Everything raises OSError; *at* is the descriptor of an open directory."""

    def open_root(self, path: Path) -> int: ...
    def open_folder(self, name: str, at: int) -> int: ...
    def make_folder(self, name: str, at: int) -> None: ...
    def create(self, name: str, at: int) -> int: ...
    def open(self, name: str, at: int) -> int: ...
    def write(self, fd: int, data: bytes | memoryview) -> int: ...
    def write_at(self, fd: int, data: bytes | memoryview, offset: int) -> int: ...
    def read_at(self, fd: int, size: int, offset: int) -> bytes: ...
    def truncate(self, fd: int, size: int) -> None: ...
    def sync_data(self, fd: int) -> None: ...
    def sync(self, fd: int) -> None: ...
    def rename(self, old: str, new: str, at: int) -> None: ...
    def unlink(self, name: str, at: int) -> None: ...
    def close(self, fd: int) -> None: ...
    def names(self, at: int) -> list[str]: ...
    def about(self, name: str, at: int) -> os.stat_result: ...
    def links(self, fd: int) -> int: ...
    def room(self, fd: int) -> tuple[int, int]: ...


class PosixDisk:
    """The real one."""

    def open_root(self, path: Path) -> int:
        """Open the directory of all recordings, made if it is not there."""
        try:
            return os.open(path, _DIRECTORY)
        except FileNotFoundError:
            self._make_root(path)
        return os.open(path, _DIRECTORY)

    def _make_root(self, path: Path) -> None:
        """Make the directory such that it survives a loss of power."""
        missing = [one for one in (path, *path.parents) if not one.exists()]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for one in missing:
            parent = os.open(one.parent, _DIRECTORY)
            try:
                sync_names(self, parent)
            finally:
                os.close(parent)

    def open_folder(self, name: str, at: int) -> int:
        """Open a folder."""
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at)

    def make_folder(self, name: str, at: int) -> None:
        """Make a folder."""
        os.mkdir(name, 0o700, dir_fd=at)

    def create(self, name: str, at: int) -> int:
        """Make a file that is not there yet and lock it: who can lock it later knows that its writer is dead."""
        fd = os.open(name, _NEW, 0o600, dir_fd=at)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return fd

    def open(self, name: str, at: int) -> int:
        """Open a plain file for reading and mending and lock it. EWOULDBLOCK: somebody writes it."""
        fd = os.open(name, _OLD, dir_fd=at)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a plain file")
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return fd

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Append."""
        return os.write(fd, data)

    def write_at(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write over what is there."""
        return os.pwrite(fd, data, offset)

    def read_at(self, fd: int, size: int, offset: int) -> bytes:
        """Read."""
        return os.pread(fd, size, offset)

    def truncate(self, fd: int, size: int) -> None:
        """Cut off."""
        os.ftruncate(fd, size)

    def sync_data(self, fd: int) -> None:
        """Have the data on the disk."""
        os.fdatasync(fd)

    def sync(self, fd: int) -> None:
        """Have everything about a file, or the names in a directory, on the disk."""
        os.fsync(fd)

    def rename(self, old: str, new: str, at: int) -> None:
        """Give another name."""
        os.rename(old, new, src_dir_fd=at, dst_dir_fd=at)

    def unlink(self, name: str, at: int) -> None:
        """Delete."""
        os.unlink(name, dir_fd=at)

    def close(self, fd: int) -> None:
        """Close."""
        os.close(fd)

    def names(self, at: int) -> list[str]:
        """List a directory."""
        return os.listdir(at)

    def about(self, name: str, at: int) -> os.stat_result:
        """Return what is known of a name, not following links."""
        return os.stat(name, dir_fd=at, follow_symlinks=False)

    def links(self, fd: int) -> int:
        """Return how many names an open file has: 0 when somebody deleted it."""
        return os.fstat(fd).st_nlink

    def room(self, fd: int) -> tuple[int, int]:
        """Return bytes free for us, and bytes in all."""
        about = os.fstatvfs(fd)
        return about.f_bavail * about.f_frsize, about.f_blocks * about.f_frsize


def write_all(disk: Disk, fd: int, data: bytes) -> None:
    """Append all of *data*, however little the disk takes at once."""
    rest = memoryview(data)
    while rest:
        count = disk.write(fd, rest)
        if count <= 0:
            raise OSError(errno.EIO, "nothing was written")
        rest = rest[count:]


def write_all_at(disk: Disk, fd: int, data: bytes, offset: int) -> None:
    """Write all of *data* over what is at *offset*."""
    rest = memoryview(data)
    while rest:
        count = disk.write_at(fd, rest, offset)
        if count <= 0:
            raise OSError(errno.EIO, "nothing was written")
        rest, offset = rest[count:], offset + count


def sync_names(disk: Disk, at: int) -> None:
    """Have the names in a directory on the disk, where the file system has a way to say so: some have none."""
    try:
        disk.sync(at)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise


@contextmanager
def folder(disk: Disk, root: Path, name: str, *, make: bool = False) -> Iterator[int]:
    """Hold a stream's folder open."""
    at = disk.open_root(root)
    try:
        if make:
            with suppress(FileExistsError):
                disk.make_folder(name, at)
        inner = disk.open_folder(name, at)
    finally:
        disk.close(at)
    try:
        yield inner
    finally:
        disk.close(inner)


def exists(disk: Disk, name: str, at: int) -> bool:
    """Whether there is anything of this name."""
    try:
        disk.about(name, at)
    except FileNotFoundError:
        return False
    return True
