"""The pages for people: `/`, `/watch/STREAM`, and below `/static/` the files that they are made of.

The rule it guards: a page is the same bytes for everybody. It holds no name, no key and no token; what it shows it asks
for itself, with the rights of whoever looks at it. So the pages are public, and an API token protects the list of
streams just as it does for every other caller. All files are read once, at the start: no request reaches the disk.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from twisted.web.http import CACHED
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from relay.http.problems import SECURITY_HEADERS, not_found
from relay.rtmp.names import is_public_name

VENDOR: Final = "vendor"
"""Below it every folder is named after its version, so what is in it never changes."""

CONTENT_TYPES: Mapping[str, str] = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "mjs": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
"""By ending; a file of another kind is text (`LICENSE`)."""

_CACHE_CHECKED: Final = b"no-cache"
_CACHE_FOR_EVER: Final = b"public, max-age=31536000, immutable"

_HLS_ON: Final = b'data-hls="on"'
"""How the watch page says that there are playlists."""


def page_resources(*, hls: bool, embed_in: Sequence[str]) -> dict[str, IResource]:
    """Return what is mounted for people, by first path segment.

    Args:
        hls: whether something serves playlists; without it the watch page says what to do.
        embed_in: the sites that may show the watch page in a frame, as CSP sources.
    """
    content = dict(_read(files("relay.http") / "static"))
    watch = content["watch.html"] if hls else content["watch.html"].replace(_HLS_ON, b'data-hls="off"')
    return {
        "": StaticFile(content["index.html"], "html"),
        "watch": WatchPage(StaticFile(watch, "html"), embed_in),
        "static": StaticFiles({path: data for path, data in content.items() if not path.endswith(".html")}),
    }


def _read(folder: Traversable, above: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _read(entry, f"{above}{entry.name}/")
        else:
            yield above + entry.name, entry.read_bytes()


class StaticFile(Resource):
    """One file, whole and compressed. A browser that has it asks whether it is still good."""

    def __init__(self, content: bytes, kind: str, cache: bytes = _CACHE_CHECKED) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._content = content
        self._packed = gzip.compress(content, mtime=0)
        self._tag = hashlib.sha256(content).hexdigest()[:20].encode()
        self._type = CONTENT_TYPES.get(kind, "text/plain; charset=utf-8").encode()
        self._cache = cache

    def render_GET(self, request: Request) -> bytes:
        """Answer with the file, or with 304."""
        accepted = request.getHeader(b"accept-encoding") or b""
        packed = b"gzip" in [coding.partition(b";")[0].strip() for coding in accepted.split(b",")]
        request.setHeader(b"Cache-Control", self._cache)
        request.setHeader(b"Vary", b"Accept-Encoding")
        if request.setETag(b'"%b%b"' % (self._tag, b"-gz" if packed else b"")) is CACHED:
            return b""
        request.setHeader(b"Content-Type", self._type)
        if packed:
            request.setHeader(b"Content-Encoding", b"gzip")
        return self._packed if packed else self._content


class StaticFiles(Resource):
    """`/static/...`: the files that exist, by their whole path; there is no listing and nothing else."""

    isLeaf = True

    def __init__(self, content: Mapping[str, bytes]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._files = {
            path.encode(): StaticFile(
                data, path.rpartition(".")[2], _CACHE_FOR_EVER if path.startswith(f"{VENDOR}/") else _CACHE_CHECKED
            )
            for path, data in content.items()
        }

    def render_GET(self, request: Request) -> bytes:
        """Answer with a file."""
        found = self._files.get(b"/".join(request.postpath or ()))
        if found is None:
            raise not_found()
        return found.render_GET(request)


class WatchPage(Resource):
    """`/watch/STREAM`: the player. It is there for every name that a stream could have, whether or not it is on air."""

    isLeaf = True

    def __init__(self, page: StaticFile, embed_in: Sequence[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._page = page
        self._framed = bool(embed_in)
        self._policy = SECURITY_HEADERS[b"Content-Security-Policy"]
        if self._framed:
            ancestors = " ".join(["frame-ancestors 'self'", *embed_in])
            self._policy = self._policy.replace(b"frame-ancestors 'none'", ancestors.encode())

    def render_GET(self, request: Request) -> bytes:
        """Answer with the page; let it be framed."""
        if not is_public_name(b"/".join(request.postpath or ()).decode()):
            raise not_found()
        request.setHeader(b"Content-Security-Policy", self._policy)
        if self._framed:
            request.responseHeaders.removeHeader(b"X-Frame-Options")
        return self._page.render_GET(request)
