"""`/hls/STREAM/...`: playlists and segments over HTTP.

An address is read once into stream, token and file name; whoever may not watch learns nothing else. The rule it
guards: a name is looked up in tables of what there is, never in a file system, and a request is held only for a part or
a playlist that is about to come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.error import UnsupportedMethod
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from relay.api import Allow, Decision, Deny, Secret, is_public_name

from .access import TOKEN_MARK, Access
from .files import EVENT_NAME, MEDIA_NAME, PLAYLIST_NAME
from .options import HOLD_S
from .playlists import Terms, media_playlist
from .programme import Programme, State
from .reload import BadDirectiveError, Directives, Waiters, must_wait, read_directives
from .rendition import FMP4, TS, Rendition, Text
from .segments import File
from .serving import cut, read_range, refuse, send, set_header
from .shelf import LAST, BusyError, Store

INDEX = "index.m3u8"
EVENT_MARK = "@"
"""What a recording's directory begins with; no stream name may hold it."""
PLAYLIST_TYPE = b"application/vnd.apple.mpegurl"
MAX_QUERY = 2_048
"""Bytes of a query that are looked at; a signed token is below 1 KiB."""
MAX_PARAMETERS = 16
SMALL = 600
"""Bytes below which compressing gains nothing."""

CORS = {
    b"Access-Control-Allow-Origin": b"*",
    b"Access-Control-Expose-Headers": b"Age, Content-Length, Content-Range, Date",
}
PREFLIGHT = {
    b"Access-Control-Allow-Methods": b"GET, HEAD, OPTIONS",
    b"Access-Control-Allow-Headers": b"Range",
    b"Access-Control-Max-Age": b"86400",
    b"Cache-Control": b"max-age=86400",
}


class House(Protocol):
    """What is served."""

    access: Access

    @property
    def store(self) -> Store | None:
        """The disk, if there is one."""
        ...

    def programme(self, name: str) -> Programme | None:
        """Return a stream's programme, if it has one."""
        ...

    def failed(self, failure: Failure) -> None:
        """Log a bug of ours."""
        ...


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


class HlsResource(Resource):
    """Everything below `/hls`."""

    isLeaf = True

    def __init__(self, house: House) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._house = house

    def render(self, request: Any) -> Any:
        """Answer one request."""
        for name, value in CORS.items():
            set_header(request, name, value)
        if request.method == b"OPTIONS":
            for name, value in PREFLIGHT.items():
                set_header(request, name, value)
            request.setResponseCode(204)
            request.finish()
            return NOT_DONE_YET
        if request.method not in (b"GET", b"HEAD"):
            raise UnsupportedMethod((b"GET", b"HEAD", b"OPTIONS"))
        address = read_address(request.postpath)
        if address is None:
            refuse(request, 404, "path.unknown")
            return NOT_DONE_YET
        visit = Visit(self._house, request, address)
        visit.begin()
        return NOT_DONE_YET


class Visit:
    """One request on its way to an answer."""

    def __init__(self, house: House, request: Any, address: Address) -> None:
        self._house = house
        self._request = request
        self._address = address
        self._protected = False
        self._gone = False
        self._query = _credentials(request.uri)

    # May they?

    def begin(self) -> None:
        """Find out whether they may watch, then answer."""
        access, address = self._house.access, self._address
        if address.token:
            self._protected = True
            if access.opens(address.token, address.stream):
                self._answer("")
            else:
                self._refuse_viewer(Deny(reason="bad token"))
            return
        known = self._known(self._query)
        anybody = self._known({}) if self._query else known
        if known is not None and (anybody is not None or isinstance(known, Deny)):
            self._decided(known, anybody)
        else:
            self._background(self._decide(self._query))

    def _known(self, query: Mapping[str, Secret]) -> Decision | None:
        return self._house.access.known(self._address.stream, self._peer, self._tls, query)

    async def _decide(self, query: Mapping[str, Secret]) -> None:
        access, stream = self._house.access, self._address.stream
        decision = self._known(query) or await access.decide(stream, self._peer, self._tls, query)
        anybody = decision
        if query and isinstance(decision, Allow):
            anybody = self._known({}) or await access.decide(stream, self._peer, self._tls, {})
        self._decided(decision, anybody)

    def _decided(self, decision: Decision, anybody: Decision | None) -> None:
        if isinstance(decision, Deny):
            self._refuse_viewer(decision)
        elif isinstance(anybody, Allow):
            self._answer("")
        else:
            self._protected = True
            self._answer(self._house.access.token(self._address.stream) + "/")

    def _refuse_viewer(self, denied: Deny) -> None:
        if not self._gone:
            refuse(self._request, 403, "play.refused", denied.public)

    @property
    def _peer(self) -> str:
        return str(getattr(self._request.client, "host", "-"))

    @property
    def _tls(self) -> bool:
        return bool(self._request.isSecure())

    def _background(self, work: Any) -> None:
        running: Deferred[None] = Deferred.fromCoroutine(work)

        def gone(_: object) -> None:
            self._gone = True
            running.cancel()

        if not running.called:
            self._request.notifyFinish().addErrback(gone)
        running.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if not self._gone:
            self._house.failed(failure)
            refuse(self._request, 500, "relay.bug")

    # What do they want?

    def _answer(self, prefix: str) -> None:
        """Answer; *prefix* is what leads to the addresses of a protected stream."""
        if self._gone:
            return
        if self._address.event:
            self._recording(prefix)
            return
        programme = self._house.programme(self._address.stream)
        if programme is None:
            refuse(self._request, 404, "stream.unknown", "No stream of this name is live.")
            return
        programme.requests += 1
        name = self._address.file
        if prefix and name != INDEX:
            self._redirect(prefix + name)
        elif name == INDEX:
            self._index(programme, prefix)
        elif name.endswith(".m3u8"):
            self._playlist(programme, name.removesuffix(".m3u8"))
        else:
            self._file(programme, name)

    def _recording(self, prefix: str) -> None:
        """Give a file of an event that is over."""
        event, name = self._address.event, self._address.file
        if prefix:
            self._redirect(f"../{prefix}{EVENT_MARK}{event}/{name}")
            return
        is_playlist = bool(PLAYLIST_NAME.fullmatch(name))
        known = event == LAST or EVENT_NAME.fullmatch(event)
        if not known or not (is_playlist or MEDIA_NAME.fullmatch(name)):
            refuse(self._request, 404, "path.unknown")
            return

        def give(data: bytes) -> None:
            if is_playlist:
                text = Text(data)
                self._send_text(text.plain, text.pack, 5 if event == LAST else 3_600)
            else:
                kind = {"m4s": FMP4.content_type, "ts": TS.content_type}.get(name.rpartition(".")[2], b"video/mp4")
                self._cache(86_400, b", immutable")
                self._send_media([data], len(data), kind)

        self._read(event, name, give)

    def _read(self, event: str, name: str, give: Callable[[bytes], None]) -> None:
        """Read a file of an event in a thread, and go on with it."""
        store = self._house.store
        try:
            reading = None if store is None else store.read(self._address.stream, event, name)
        except BusyError:
            refuse(self._request, 503, "disk.busy", retry_s=1)
            return
        if reading is None:
            refuse(self._request, 404, "segment.unknown")
            return

        def gone(_: object) -> None:
            self._gone = True

        def missing(failure: Failure) -> None:
            failure.trap(OSError)
            if not self._gone:
                refuse(self._request, 404, "segment.unknown")

        self._request.notifyFinish().addErrback(gone)
        reading.addCallbacks(lambda data: None if self._gone else give(data), missing)
        reading.addErrback(self._failed)

    def _redirect(self, place: str) -> None:
        self._request.setResponseCode(302)
        set_header(self._request, b"Location", place.encode())
        set_header(self._request, b"Cache-Control", b"no-store")
        send(self._request, [], 0)

    def _index(self, programme: Programme, prefix: str) -> None:
        if not programme.shown and programme.state is State.LIVE:
            self._hold(
                programme.ready,
                lambda: programme.shown or programme.state is not State.LIVE,
                lambda good: self._give_index(programme, prefix),
                HOLD_S,
            )
        else:
            self._give_index(programme, prefix)

    def _give_index(self, programme: Programme, prefix: str) -> None:
        if not programme.shown:
            refuse(self._request, 404, "stream.not_ready", "The stream has no segment yet.", retry_s=1)
            return
        text = Text(programme.index(prefix).encode())
        self._send_text(text.plain, text.pack, max(programme.terms.target_duration // 2, 1))

    def _playlist(self, programme: Programme, name: str) -> None:
        found = programme.playlist(name)
        if found is None:
            refuse(self._request, 404, "rendition.unknown")
            return
        rendition, _ = found
        try:
            asked = read_directives(self._request.args)
            waits = bool(rendition.form.parts) and must_wait(rendition, asked)
        except BadDirectiveError as error:
            refuse(self._request, 400, "reload.bad", str(error))
            return
        if not waits:
            self._give_playlist(programme, name, asked, True)
            return
        self._hold(
            rendition.waiters,
            lambda: rendition.over or rendition.has(asked.msn or 0, asked.part),
            lambda good: self._give_playlist(programme, name, asked, good),
            3.0 * programme.terms.target_duration,
        )

    def _give_playlist(self, programme: Programme, name: str, asked: Directives, good: bool) -> None:
        """Send a playlist as it is now; *good* is false when what was asked for did not come."""
        if not good:
            refuse(self._request, 503, "reload.late", "The stream does not go on at the moment.", retry_s=1)
            return
        found = programme.playlist(name)
        if found is None:
            refuse(self._request, 404, "rendition.unknown")
            return
        rendition, terms = found
        text = rendition.text(asked.skip, lambda: _render(programme, rendition, terms, asked.skip))
        held = asked.msn is not None and rendition.form.parts
        seconds = 6 * terms.target_duration if held else 1 if rendition.form.parts else terms.target_duration // 2
        self._send_text(text.plain, text.pack, max(seconds, 1))

    def _file(self, programme: Programme, name: str) -> None:
        file = programme.file(name)
        if file is not None:
            self._give_file(programme, file)
            return
        rendition = programme.hinted(name)
        if rendition is None:
            refuse(self._request, 404, "segment.unknown")
            return

        def come(good: bool) -> None:
            file = programme.file(name)
            if file is not None:
                self._give_file(programme, file)
            else:
                refuse(self._request, 404, "segment.unknown")

        self._hold(
            rendition.waiters, lambda: rendition.hint != name, come, 3.0 * max(programme.terms.target_duration, 1)
        )

    def _hold(self, waiters: Waiters, test: Callable[[], bool], go: Callable[[bool], None], seconds: float) -> None:
        """Keep the request until *test* is true."""

        def answer(good: bool) -> None:
            if not self._gone:
                go(good)

        ticket = waiters.add(test, answer, seconds)
        if ticket is None:
            refuse(self._request, 503, "reload.full", "Too many players wait for this playlist.", retry_s=1)
            return

        def gone(_: object) -> None:
            self._gone = True
            waiters.forget(ticket)

        self._request.notifyFinish().addErrback(gone)

    # Answers.

    def _cache(self, seconds: int, more: bytes = b"") -> None:
        scope = b"private" if self._protected else b"public"
        set_header(self._request, b"Cache-Control", b"%s, max-age=%d%s" % (scope, seconds, more))

    def _send_text(self, plain: bytes, pack: Callable[[], bytes], seconds: int) -> None:
        request = self._request
        set_header(request, b"Content-Type", PLAYLIST_TYPE)
        set_header(request, b"Vary", b"Accept-Encoding")
        self._cache(seconds)
        body = plain
        if len(plain) >= SMALL and b"gzip" in (request.getHeader(b"accept-encoding") or b""):
            set_header(request, b"Content-Encoding", b"gzip")
            body = pack()
        send(request, [body], len(body))

    def _give_file(self, programme: Programme, file: File) -> None:
        def give(pieces: Sequence[bytes], size: int) -> None:
            self._cache(2 * programme.options.window_s, b", immutable")
            programme.bytes_sent += self._send_media(pieces, size, file.content_type)

        if file.event:
            self._read(file.event, file.name, lambda data: give([data], len(data)))
        else:
            give(file.pieces, file.size)

    def _send_media(self, pieces: Sequence[bytes], size: int, content_type: bytes) -> int:
        """Send media, or the range of it that is asked for; return how much."""
        request = self._request
        set_header(request, b"Content-Type", content_type)
        set_header(request, b"Accept-Ranges", b"bytes")
        try:
            wanted = read_range(request.getHeader(b"range"), size)
        except ValueError:
            set_header(request, b"Content-Range", b"bytes */%d" % size)
            refuse(request, 416, "range.bad")
            return 0
        if wanted is None:
            send(request, pieces, size)
            return size
        first, last = wanted
        request.setResponseCode(206)
        set_header(request, b"Content-Range", b"bytes %d-%d/%d" % (first, last, size))
        send(request, cut(pieces, first, last), last - first + 1)
        return last - first + 1


def _render(programme: Programme, rendition: Rendition, terms: Terms, skip: bool) -> bytes:
    return media_playlist(rendition, terms, programme.others(rendition), skip=skip).encode()


def _credentials(uri: bytes) -> dict[str, Secret]:
    """Return what a viewer sends about themselves; the first of each name counts, a player's own are left out."""
    _, mark, query = uri.partition(b"?")
    if not mark:
        return {}
    said: dict[str, Secret] = {}
    for name, value in parse_qsl(query[:MAX_QUERY].decode("ascii", "replace"), keep_blank_values=True):
        if not name.startswith("_HLS_") and name not in said and len(said) < MAX_PARAMETERS:
            said[name] = Secret(value)
    return said
