"""How bytes leave: headers, one range at most, and a body that goes out as fast as the viewer takes it.

The rule it guards: a viewer who does not read costs one buffer, not a copy of the segment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.web.http import Request
from zope.interface import implementer

AT_ONCE = 64 * 1024
"""Bodies up to this size are given to the transport whole: it holds as much anyway."""
PIECE = 256 * 1024
"""Bytes given to the transport at a time: two of its sends, so that no viewer holds up a turn."""
MAX_RANGE_HEADER = 64
"""``bytes=FIRST-LAST`` with numbers of twenty digits."""

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_GZIP = re.compile(rb"(?:^|[,\s])gzip(?![^,]*;\s*q=0(?:\.0*)?\s*(?:,|$))")

Slice = tuple[int, int]


def read_range(header: bytes | None, size: int) -> Slice | None:
    """Return first and last byte that a Range header asks for; None for the whole: several ranges, or none we know.

    Raises:
        ValueError: it asks for bytes that are not there.
    """
    if header is None or len(header) > MAX_RANGE_HEADER:
        return None
    found = _RANGE.fullmatch(header.decode("ascii", "replace").strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        length = min(int(found[2]), size)
        if not length:
            raise ValueError("an empty range")
        return size - length, size - 1
    first = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if found[2] and int(found[2]) < first:
        return None  # RFC 9110 14.1.2: not a valid range, so it is not one at all
    if first >= size:
        raise ValueError("a range behind the end")
    return first, last


def likes_gzip(header: bytes | None) -> bool:
    """Whether an Accept-Encoding header names gzip, and not as what is not wanted."""
    return header is not None and _GZIP.search(header) is not None


def cut(pieces: Sequence[bytes], first: int, last: int) -> list[bytes]:
    """Return the bytes from *first* to *last*."""
    wanted: list[bytes] = []
    at = 0
    for piece in pieces:
        end = at + len(piece)
        if first < end and last >= at:
            wanted.append(piece[max(first - at, 0) : last - at + 1])
        at = end
    return wanted


@implementer(IPushProducer)
class Body:
    """Gives a response's bytes to the transport piece by piece."""

    def __init__(self, request: Any, pieces: Sequence[bytes]) -> None:
        self._request = request
        self._chunks = _chunks(pieces)
        self._paused = False
        self._done = False

    def start(self) -> None:
        """Begin to send."""
        self._request.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        """Send until the transport is full."""
        self._paused = False
        while not self._paused and not self._done:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._done = True
                self._request.unregisterProducer()
                self._request.finish()
                return
            self._request.write(chunk)

    def pauseProducing(self) -> None:
        """The transport is full."""
        self._paused = True

    def stopProducing(self) -> None:
        """The viewer is gone."""
        self._done = True
        self._chunks = iter(())


def _chunks(pieces: Sequence[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        for at in range(0, len(piece), PIECE):
            yield piece[at : at + PIECE]  # the piece itself, if it is no longer than that


def set_header(request: Request, name: bytes, value: bytes) -> None:
    """Set a response header, instead of what it was."""
    request.responseHeaders.setRawHeaders(name, [value])


def send(request: Any, pieces: Sequence[bytes], size: int) -> None:
    """Send a body of *size* bytes, or only its length to those who ask for no more."""
    set_header(request, b"Content-Length", b"%d" % size)
    if request.method == b"HEAD" or size <= AT_ONCE:
        if request.method != b"HEAD":
            for piece in pieces:
                request.write(piece)
        request.finish()
    else:
        Body(request, pieces).start()


def refuse(request: Any, status: int, code: str, detail: str = "", *, retry_s: int | None = None) -> None:
    """Answer with an error as the rest of the relay writes them (RFC 9457); never cached."""
    request.setResponseCode(status)
    set_header(request, b"Content-Type", b"application/problem+json")
    set_header(request, b"Cache-Control", b"no-store")
    if retry_s is not None:
        set_header(request, b"Retry-After", b"%d" % retry_s)
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": code}
    body = json.dumps(problem | ({"detail": detail} if detail else {})).encode() + b"\n"
    send(request, [body], len(body))
