"""Errors as HTTP says them: one shape for all of them (RFC 9457), never a traceback, never what the caller sent.

*code* is stable and meant for programs (``stream.unknown``); *detail* is a sentence for a person.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from relay.errors import RelayError

PROBLEM_TYPE = b"application/problem+json"

SECURITY_HEADERS: Mapping[bytes, bytes] = {
    b"Server": b"rtmp-relay",
    b"Cache-Control": b"no-store",
    b"Content-Security-Policy": (
        b"default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; "
        b"object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    b"Referrer-Policy": b"no-referrer",
    b"X-Content-Type-Options": b"nosniff",
    b"X-Frame-Options": b"DENY",
}
"""Sent with every answer; a mounted resource may replace what it must (Cache-Control of a segment). No version in
`Server`. hls.js makes its worker and media sources from blobs."""


class Problem(RelayError):  # noqa: N818 (RFC 9457's word)
    """The request cannot be answered as asked; becomes the answer itself."""

    def __init__(self, status: int, code: str, detail: str = "", headers: Mapping[bytes, bytes] | None = None) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The answer's body."""
        title = HTTPStatus(self.status).phrase
        fields = {"type": "about:blank", "title": title, "status": self.status, "code": self.code}
        if self.detail:
            fields["detail"] = self.detail
        return json.dumps(fields).encode() + b"\n"

    def raw(self) -> bytes:
        """The whole answer, for a request that was too broken to become a request; the connection closes after it."""
        body = self.body()
        lines = [b"HTTP/1.1 %d %s" % (self.status, HTTPStatus(self.status).phrase.encode())]
        lines += [name + b": " + value for name, value in {**SECURITY_HEADERS, **self.headers}.items()]
        lines += [b"Content-Type: " + PROBLEM_TYPE, b"Content-Length: %d" % len(body), b"Connection: close", b"", b""]
        return b"\r\n".join(lines) + body


def not_found(code: str = "path.unknown", detail: str = "There is nothing at this address.") -> Problem:
    """Return the 404."""
    return Problem(404, code, detail)
