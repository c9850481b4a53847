"""What a viewer who may watch gets: playlists, segments, and files of recordings.

The rule it guards: a name is looked up in tables of what there is, never in a file system, and a request is held only
for a part or a playlist that is about to come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from twisted.python.failure import Failure

from .access import Access
from .address import EVENT_MARK, INDEX, Address
from .files import EVENT_NAME, MEDIA_NAME, PLAYLIST_NAME
from .options import HOLD_S
from .playlists import Terms, media_playlist
from .programme import Programme, State
from .reload import BadDirectiveError, Directives, Waiters, must_wait, read_directives
from .rendition import FMP4, TS, Rendition, Text
from .segments import File
from .serving import cut, likes_gzip, read_range, refuse, send, set_header
from .shelf import LAST, BusyError, Store

PLAYLIST_TYPE = b"application/vnd.apple.mpegurl"
SMALL = 600
"""Bytes below which compressing gains nothing."""


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


class Answer:
    """The answer to one request. With *protected* it is for this viewer only, and no cache may keep it for others."""

    def __init__(self, house: House, request: Any, address: Address, *, protected: bool) -> None:
        self._house = house
        self._request = request
        self._address = address
        self._protected = protected
        self._gone = False

    def give(self, prefix: str) -> None:
        """Answer; *prefix* is what leads to the addresses of a protected stream."""
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
            self._redirect(prefix + quote(name))
        elif name == INDEX:
            self._index(programme, prefix)
        elif name.endswith(".m3u8"):
            self._playlist(programme, name.removesuffix(".m3u8"))
        else:
            self._file(programme, name)

    def _recording(self, prefix: str) -> None:
        """Give a file of an event that is over."""
        event, name = self._address.event, self._address.file
        is_playlist = bool(PLAYLIST_NAME.fullmatch(name))
        known = event == LAST or EVENT_NAME.fullmatch(event)
        if not known or not (is_playlist or MEDIA_NAME.fullmatch(name)):
            refuse(self._request, 404, "path.unknown")
            return
        if prefix:
            self._redirect(f"../{prefix}{EVENT_MARK}{event}/{name}")
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
        if store is None:
            refuse(self._request, 404, "segment.unknown")
            return
        try:
            reading = store.read(self._address.stream, event, name)
        except BusyError:
            refuse(self._request, 503, "disk.busy", retry_s=1)
            return

        def gone(_: object) -> None:
            self._gone = True

        def missing(failure: Failure) -> None:
            failure.trap(OSError)
            if not self._gone:
                refuse(self._request, 404, "segment.unknown")

        self._request.notifyFinish().addErrback(gone)

        def come(data: bytes) -> None:
            if not self._gone:
                store.lending.lend(len(data), self._request.notifyFinish())
                give(data)

        reading.addCallbacks(come, missing)
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
        if len(plain) >= SMALL and likes_gzip(request.getHeader(b"accept-encoding")):
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
            # What somebody has a part of (If-Range) is never known to be this: we give no validators.
            wanted = None if request.getHeader(b"if-range") else read_range(request.getHeader(b"range"), size)
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

    def _failed(self, failure: Failure) -> None:
        if not self._gone:
            self._house.failed(failure)
            refuse(self._request, 500, "relay.bug")


def _render(programme: Programme, rendition: Rendition, terms: Terms, skip: bool) -> bytes:
    return media_playlist(rendition, terms, programme.others(rendition), skip=skip).encode()
