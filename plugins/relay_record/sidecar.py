"""The JSON file beside a recording: its id, its parts, what is in them, how far they are good.

The rule it guards: it is written anew beside the old one and renamed, so a reader sees one or the other; and what is
missing or broken is made again, because the media files are what counts.
"""

from __future__ import annotations

import json
import threading
import time
from calendar import timegm
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from .disk import Disk, write_all
from .names import SIDECAR
from .partfile import PartFacts, PartFile

VERSION = 1
THEN = "then"
PENDING = "pending"
"""What is to be done with a file is not done yet: a relay that died, or was stopped, left it to the next."""
MAX_BYTES = 16_000_000
"""A sidecar holds at most some thousand parts of a kilobyte; anything larger is not ours."""

Document = dict[str, Any]


def stamp(wall: float) -> str:
    """Return a time of day as people and programs read it."""
    whole = int(wall // 1)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((wall - whole) * 1000):03d}Z"


def unstamp(text: object) -> float | None:
    """Return the time that `stamp` wrote, None when it is no such time."""
    if not isinstance(text, str):
        return None
    try:
        return timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) + int(text[20:23] or 0) / 1000
    except ValueError:
        return None


class Sidecars:
    """Reads and changes sidecars; several threads may."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._lock = threading.Lock()

    def read(self, stem: str, at: int) -> Document:
        """Return a sidecar; an empty one when there is none, or none that can be read."""
        try:
            fd = self.disk.open(stem + SIDECAR, at)
        except OSError:
            return {}
        try:
            text = self.disk.read_at(fd, MAX_BYTES, 0)
            document = json.loads(text)
        except (OSError, ValueError, RecursionError):
            return {}
        finally:
            self.disk.close(fd)
        if not isinstance(document, dict) or not isinstance(document.get("parts"), list):
            return {}
        document["parts"] = [part for part in document["parts"] if isinstance(part, dict)]
        return document

    def change(self, stem: str, at: int, change: Callable[[Document], None]) -> None:
        """Read, change and write a sidecar. Raises OSError."""
        with self._lock:
            document = self.read(stem, at) or {"version": VERSION, "id": stem, "parts": []}
            change(document)
            self._write(stem, at, json.dumps(document, indent=1).encode() + b"\n")

    def remove(self, stem: str, at: int) -> None:
        """Delete a sidecar. Raises OSError."""
        with self._lock:
            self.disk.unlink(stem + SIDECAR, at)

    def clean(self, name: str, at: int) -> None:
        """Delete what a relay that died left half written."""
        with self._lock, suppress(OSError):
            self.disk.unlink(name, at)

    def _write(self, stem: str, at: int, text: bytes) -> None:
        made = f"{stem}{SIDECAR}.new"
        with suppress(FileNotFoundError):  # a relay that died may have left one
            self.disk.unlink(made, at)
        fd = self.disk.create(made, at)
        try:
            write_all(self.disk, fd, text)
            self.disk.sync_data(fd)  # or a loss of power leaves an empty file of the name
        finally:
            self.disk.close(fd)
        self.disk.rename(made, stem + SIDECAR, at)


def find_part(document: Document, name: str) -> Document:
    """Return what a sidecar says of a file, made when it says nothing."""
    parts: list[Document] = document["parts"]
    for part in parts:
        if part.get("file") == name:
            return part
    parts.append({"file": name})
    return parts[-1]


def describe(document: Document, file: PartFile, state: str, **more: object) -> None:
    """Write into a sidecar what is known of a file."""
    recording = file.recording
    document |= {"version": VERSION, "id": recording.stem, "stream": recording.stream, "format": recording.format}
    document.setdefault("started_at", stamp(recording.started_at))
    part = find_part(document, file.name)
    part |= {"state": state, "started_at": stamp(file.started_at), "bytes": file.size, "good_bytes": file.synced}
    part |= fields(file.facts)
    if state == "finished" and file.pending:
        part[THEN] = PENDING
    part |= more


def fields(facts: PartFacts) -> Document:
    """Return facts as they stand in a sidecar."""
    return asdict(facts) | {"duration_ms": max(0, facts.last_ms - facts.first_ms)}
