"""Every call that HLS makes of the file system. Runs in threads; what may fail or hang, does so here.

The rule it guards: a name is one segment in a directory that is held open, checked against our own grammar, never
reached through a symbolic link; a file has its name only when it is whole.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

EVENT_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6,24}")
MEDIA_NAME = re.compile(r"[0-9a-f]{6,24}-(?:main|[av]\d{1,3})-(?:init)?\d{1,18}\.(?:m4s|ts|mp4)")
PLAYLIST_NAME = re.compile(r"(?:index|main|[av]\d{1,3})\.m3u8")
JOURNAL = "journal"
MAX_FILE = 512 * 1024 * 1024
"""The largest file that is read: a segment of 30 s at 130 Mbit/s."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""O_NONBLOCK: a FIFO under one of our names must not hold a thread up."""


def folder_name(stream: str) -> str:
    """Return the directory of a stream: its name, whose slashes become what no name holds."""
    return stream.replace("/", "~")


def stream_name(folder: str) -> str:
    """Return the stream of a directory."""
    return folder.replace("~", "/")


@contextmanager
def opened(root: Path, *names: str, make: bool = False) -> Iterator[int]:
    """Hold the directory *names* below *root* open."""
    if make:
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
    at = os.open(root, _DIRECTORY & ~os.O_NOFOLLOW)  # the operator may have linked the root
    try:
        for name in names:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=at)
            inner = os.open(name, _DIRECTORY, dir_fd=at)
            os.close(at)
            at = inner
        yield at
    finally:
        os.close(at)


def write_file(at: int, name: str, pieces: Iterable[bytes], *, replace: bool = False) -> None:
    """Write a file whole or not at all. With *replace* it may be there already."""
    temporary = f".{name}.tmp"
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=at)  # of a run that was killed
    fd = os.open(temporary, _NEW, 0o644, dir_fd=at)
    try:
        try:
            for piece in pieces:
                _write_all(fd, piece)
        finally:
            os.close(fd)
        if not replace and _exists(at, name):
            raise FileExistsError(errno.EEXIST, "there is a file of this name")
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=at)
        raise


def append(at: int, name: str, line: bytes) -> None:
    """Append a line to a file, whole or not at all: half a line would spoil the next one."""
    fd = os.open(name, _APPEND, 0o644, dir_fd=at)
    try:
        size = os.fstat(fd).st_size
        try:
            _write_all(fd, line)
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, size)
            raise
    finally:
        os.close(fd)


def read_file(at: int, name: str) -> bytes:
    """Return a plain file's bytes."""
    fd = os.open(name, _READ, dir_fd=at)
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_FILE:
            raise OSError(errno.EINVAL, "not a plain file of ours")
        data = bytearray()
        while len(data) < about.st_size:
            piece = os.read(fd, about.st_size - len(data))
            if not piece:
                break
            data += piece
        return bytes(data)
    finally:
        os.close(fd)


def names(at: int) -> Sequence[str]:
    """List a directory, sorted."""
    return sorted(os.listdir(at))


def room(at: int) -> int:
    """Return the bytes that are free for us."""
    about = os.fstatvfs(at)
    return about.f_bavail * about.f_frsize


def age_s(at: int, name: str, now: float) -> float:
    """Return how long ago *name* was changed."""
    return now - os.stat(name, dir_fd=at, follow_symlinks=False).st_mtime


def remove_event(at: int, event: str) -> None:
    """Delete an event: our files, and the directory if it held nothing else."""
    inner = os.open(event, _DIRECTORY, dir_fd=at)
    try:
        for name in os.listdir(inner):
            ours = MEDIA_NAME.fullmatch(name) or PLAYLIST_NAME.fullmatch(name) or name == JOURNAL
            if ours or (name.startswith(".") and name.endswith(".tmp")):
                os.unlink(name, dir_fd=inner)
    finally:
        os.close(inner)
    with suppress(OSError):
        os.rmdir(event, dir_fd=at)


def lock(root: Path) -> int:
    """Take a directory for this process; the descriptor holds it. Raises BlockingIOError when another one has it."""
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    fd = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _exists(at: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
