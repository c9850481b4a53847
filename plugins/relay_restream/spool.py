"""Blocks of a delayed programme on disk: temporary files that are gone with the process.

Places are chosen on the reactor's thread; everything that touches the disk, opening and closing too, is done in others.
The rule it guards: a block is read back as it was written, and a file is closed when its last block is needed no more.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock
from typing import IO

from relay.api import Codec, MediaKind, Packet, Role

FILE_BYTES = 64 * 1024 * 1024
"""Files are changed at this size, so that the disk gets its room back while the delay goes on."""

_HEAD = struct.Struct("<dBHBBBqiII")
_CODECS = tuple(Codec)
_NUMBERS = {codec: number for number, codec in enumerate(_CODECS)}

Entry = tuple[float, Packet]
"""When to send, and what."""

InThread = Callable[[Callable[[], None]], None]
"""Has something done in a thread; how it went is nobody's business."""


def pack(entries: Iterable[Entry]) -> bytes:
    """Return *entries* as bytes."""
    parts: list[bytes] = []
    for due, packet in entries:
        head = _HEAD.pack(
            due,
            packet.kind,
            packet.track,
            _NUMBERS[packet.codec],
            packet.role,
            packet.keyframe,
            packet.dts,
            packet.cts,
            packet.offset,
            len(packet.body),
        )
        parts += (head, packet.body)
    return b"".join(parts)


def unpack(data: bytes) -> list[Entry]:
    """Return what `pack` was given."""
    entries: list[Entry] = []
    position = 0
    while position < len(data):
        due, kind, track, codec, role, keyframe, dts, cts, offset, size = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        body = data[position : position + size]
        position += size
        packet = Packet(MediaKind(kind), track, _CODECS[codec], Role(role), bool(keyframe), dts, cts, body, offset)
        entries.append((due, packet))
    return entries


class _File:
    """One temporary file without a name."""

    def __init__(self, directory: Path | None, in_thread: InThread) -> None:
        self.size = 0
        self.blocks = 0
        self.full = False
        self._directory = directory
        self._in_thread = in_thread
        self._file: IO[bytes] | None = None
        self._lock = Lock()

    def fileno(self) -> int:
        """Return the descriptor of the file, made when it is first needed; for a thread. Raises OSError."""
        with self._lock:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - lives as long as its blocks
            return self._file.fileno()

    def release(self) -> None:
        """A block, or the spool itself, needs the file no longer."""
        if self.full and not self.blocks and self._file is not None:
            self._in_thread(self._file.close)  # 64 MiB without a name take the disk a while


class Place:
    """Where one block is."""

    __slots__ = ("_file", "_offset", "_size")

    def __init__(self, file: _File, size: int) -> None:
        self._file, self._offset, self._size = file, file.size, size
        file.size += size
        file.blocks += 1

    def write(self, data: bytes) -> None:
        """Write the block; for a thread. Raises OSError."""
        rest, offset = memoryview(data), self._offset
        while rest:
            count = os.pwrite(self._file.fileno(), rest, offset)
            rest, offset = rest[count:], offset + count

    def read(self) -> list[Entry]:
        """Read the block; for a thread. Raises OSError."""
        return unpack(os.pread(self._file.fileno(), self._size, self._offset))

    def free(self) -> None:
        """The block is needed no longer, and nobody reads or writes it."""
        self._file.blocks -= 1
        self._file.release()


class Spool:
    """The files of one delay."""

    def __init__(self, directory: Path | None, in_thread: InThread) -> None:
        self._directory = directory
        self._in_thread = in_thread
        self._file: _File | None = None

    def place(self, size: int) -> Place:
        """Return room for a block of *size* bytes."""
        if self._file is None or self._file.size >= FILE_BYTES:
            self.close()
            self._file = _File(self._directory, self._in_thread)
        return Place(self._file, size)

    def close(self) -> None:
        """Take no more blocks; the files go when the last block of each is freed."""
        if self._file is not None:
            self._file.full = True
            self._file.release()
            self._file = None
