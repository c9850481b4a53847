"""What a request's address says: a stream, a token, a file, and what viewers say about themselves.

Pure. The rule it guards: an address is read once, by our own grammar, and whatever does not fit it names nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl

from relay.api import Secret, is_public_name

from .access import TOKEN_MARK

INDEX = "index.m3u8"
EVENT_MARK = "@"
"""What a recording's directory begins with; no stream name may hold it."""
MAX_QUERY = 2_048
"""Bytes of a query that are looked at; a signed token is below 1 KiB."""
MAX_PARAMETERS = 16


@dataclass(frozen=True, slots=True)
class Address:
    """What a path names."""

    stream: str
    token: str
    file: str
    event: str = ""


def read_address(segments: list[bytes]) -> Address | None:
    """Read the path below the mount; None when it names nothing."""
    try:
        names = [segment.decode("ascii") for segment in segments]
    except UnicodeDecodeError:
        return None
    if len(names) < 2:
        return None
    *stream, file = names
    event = stream.pop()[1:] if len(stream) > 1 and stream[-1].startswith(EVENT_MARK) else ""
    token = stream.pop() if len(stream) > 1 and stream[-1].startswith(TOKEN_MARK) else ""
    name = "/".join(stream)
    return Address(name, token, file, event) if file and is_public_name(name) else None


def read_credentials(uri: bytes) -> dict[str, Secret]:
    """Return what a viewer sends about themselves; the first of each name counts, a player's own are left out."""
    _, mark, query = uri.partition(b"?")
    if not mark:
        return {}
    said: dict[str, Secret] = {}
    for name, value in parse_qsl(query[:MAX_QUERY].decode("ascii", "replace"), keep_blank_values=True):
        if not name.startswith("_HLS_") and name not in said and len(said) < MAX_PARAMETERS:
            said[name] = Secret(value)
    return said
