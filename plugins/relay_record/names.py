"""Names of folders and files, and back.

DIRECTORY/FOLDER/BASE_20261128T101500Z_001.mp4, beside it BASE_20261128T101500Z.json. Pure; the rule it guards: a name
is made of a stream's public name, a time and a number, never of anything else, and is one segment of a path.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass

from relay.api import is_public_name

PART = ".part"
"""What a file ends in until it is whole."""
SIDECAR = ".json"
SUFFIXES = {"fmp4": ".mp4", "flv": ".flv", "ts": ".ts"}

MAX_BASE = 200
"""Characters of a stream's name in a file's name: with time, number and suffixes it stays below the 255 of NAME_MAX."""

_FILE = re.compile(r"(?P<stem>.+_[0-9]{8}T[0-9]{6}Z(?:-[0-9]+)?)_(?P<number>[0-9]{3,})(?P<suffix>\.(?:mp4|flv|ts))")
_STEM = re.compile(r".+_[0-9]{8}T[0-9]{6}Z(?:-[0-9]+)?")


@dataclass(frozen=True, slots=True)
class FileName:
    """What a recording's file is called. *number* counts from 1."""

    stem: str
    number: int
    suffix: str

    def __str__(self) -> str:
        return f"{self.stem}_{self.number:03d}{self.suffix}"


def folder_name(stream: str) -> str:
    """Return the folder of a stream. A slash becomes a plus, which no stream's name has, so folders never nest."""
    if not is_public_name(stream):
        raise ValueError("not the name of a stream")
    return stream.replace("/", "+")


def stream_of(folder: str) -> str | None:
    """Return the stream whose folder this is, None when it is nobody's."""
    stream = folder.replace("+", "/")
    return stream if is_public_name(stream) and folder_name(stream) == folder else None


def base_name(stream: str) -> str:
    """Return what the files of a stream begin with: its folder's name, shortened if there is no room for it."""
    folder = folder_name(stream)
    if len(folder) <= MAX_BASE:
        return folder
    return f"{folder[: MAX_BASE - 9]}~{hashlib.sha256(folder.encode()).hexdigest()[:8]}"


def stem_of(stream: str, wall: float, again: int = 0) -> str:
    """Return the name of a recording that begins at *wall*; *again* tells apart those of one second."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(wall))
    return f"{base_name(stream)}_{stamp}" + (f"-{again + 1}" if again else "")


def parse_file(name: str) -> FileName | None:
    """Read the name of a finished file; None when it is not one of ours."""
    found = _FILE.fullmatch(name)
    if found is None:
        return None
    return FileName(found["stem"], int(found["number"]), found["suffix"])


def is_stem(text: str) -> bool:
    """Whether *text* could be the name of a recording."""
    return _STEM.fullmatch(text) is not None and "/" not in text
