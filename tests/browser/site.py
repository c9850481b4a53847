"""A site with the relay's pages over a fake relay, in a process of its own: what the browser tests of the pages open.

`python -m tests.browser.site '{"hls": FOLDER, "token": TOKEN, "hostile": true}'` prints its port, then one line for
each request: the path with its query. Playlists come from FOLDER; a file `status` in it is the status to answer with.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor  # noqa: TID251 - a program of its own
from twisted.web.resource import Resource
from twisted.web.server import Request

from relay.http.site import RelayRequest, make_site
from relay.http.state import FeedView, StreamView, TrackView
from relay.secret import Secret
from tests.browser.payloads import PAYLOADS
from tests.http.fakes import FakeState

TYPES = {"m3u8": "application/vnd.apple.mpegurl", "m4s": "video/iso.segment", "mp4": "video/mp4"}


class Folder(Resource):
    """Serves files as they are now."""

    isLeaf = True

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def render_GET(self, request: Request) -> bytes:
        name = b"/".join(request.postpath or ()).decode()
        status, wanted = self._folder / "status", self._folder / name
        if name.endswith(".m3u8") and status.exists():
            request.setResponseCode(int(status.read_text()))
            return b""
        try:
            content = wanted.read_bytes()
        except OSError:
            request.setResponseCode(404)
            return b""
        request.setHeader(b"Content-Type", TYPES.get(name.rpartition(".")[2], "text/plain").encode())
        return content


class LoggedRequest(RelayRequest):
    """Tells the test what was asked for."""

    def process(self) -> None:
        say(self.uri.decode())
        super().process()


def hostile_streams() -> list[StreamView]:
    """Streams in which everything that a stranger can choose is an attack."""
    return [
        StreamView(
            name=payload,
            state=payload,
            feeds=(FeedView(name=payload, state=payload, encoder=payload, peer=payload),),
            tracks=(TrackView(kind="video", track_id=0, codec=payload, codec_string=payload, width=1),),
        )
        for payload in PAYLOADS
    ]


def say(line: str) -> None:
    """Tell the test."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until killed."""
    asked: dict[str, Any] = json.loads(sys.argv[1])
    state = FakeState()
    if asked.get("hostile"):
        state.known = hostile_streams()
    token = Secret(asked["token"]) if "token" in asked else None
    resources = {"hls": Folder(Path(asked["hls"]))} if "hls" in asked else {}
    site = make_site(state, token=token, resources=resources, clock=reactor)
    site.requestFactory = LoggedRequest
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    say(str(port.getHost().port))
    reactor.run()


if __name__ == "__main__":
    main()
