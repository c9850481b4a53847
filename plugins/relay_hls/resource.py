"""`/hls/STREAM/...`: playlists and segments over HTTP.

The rule it guards: whoever may not watch learns nothing, not even whether there is such a stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.error import UnsupportedMethod
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from relay.api import Allow, Decision, Deny, Secret

from .address import Address, read_address, read_credentials
from .answers import Answer, House
from .serving import refuse, set_header

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
    """Finds out whether whoever sent a request may watch, then answers it."""

    def __init__(self, house: House, request: Any, address: Address) -> None:
        self._house = house
        self._request = request
        self._address = address
        self._gone = False
        self._query = read_credentials(request.uri)

    def begin(self) -> None:
        """Begin with what is known."""
        access, address = self._house.access, self._address
        if address.token:
            if access.opens(address.token, address.stream):
                self._answer("", protected=True)
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
            self._answer("", protected=False)
        else:
            self._answer(self._house.access.token(self._address.stream) + "/", protected=True)

    def _answer(self, prefix: str, *, protected: bool) -> None:
        if not self._gone:
            Answer(self._house, self._request, self._address, protected=protected).give(prefix)

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
