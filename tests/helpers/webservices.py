"""Web services for tests of the webhook plugin: one that behaves, and raw ones that do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.helpers.reactor import OPEN, reactor


@dataclass
class Asked:
    """A request as the service got it."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class WebService(Resource):
    """Answers every POST with what *answer* makes of it; None leaves it unanswered."""

    answer: Callable[[Asked], tuple[int, bytes] | None]
    asked: list[Asked] = field(default_factory=list)
    headers: dict[bytes, bytes] = field(default_factory=dict)

    isLeaf = True

    def __post_init__(self) -> None:
        super().__init__()
        self.waiting: list[Any] = []

    def render_POST(self, request: Any) -> Any:
        names = {
            name.decode().lower(): values[-1].decode() for name, values in request.requestHeaders.getAllRawHeaders()
        }
        asked = Asked(request.uri.decode(), names, request.content.read())
        self.asked.append(asked)
        said = self.answer(asked)
        if said is None:
            request.notifyFinish().addErrback(lambda _: self.waiting.remove(request))
            self.waiting.append(request)
            return NOT_DONE_YET
        request.setResponseCode(said[0])
        for name, value in self.headers.items():
            request.setHeader(name, value)
        return said[1]


def site(service: WebService) -> Any:
    """A factory that serves it."""
    made: Any = Site(service, reactor=reactor)
    made.noisy = False
    made.displayTracebacks = False
    return made


class Raw(Protocol):
    """Sends *head* when it has got something, then *more* whenever the socket takes it, or every *every_s* seconds."""

    def __init__(self, head: bytes, more: bytes, every_s: float) -> None:
        self.head, self.more, self.every_s = head, more, every_s
        self.sent = 0
        self._call: Any = None
        self._began = False

    def connectionMade(self) -> None:
        OPEN.add(self)

    def dataReceived(self, data: bytes) -> None:
        if self._began:
            return
        self._began = True
        self.transport.write(self.head)
        if self.more and self.every_s:
            self._drip()
        elif self.more:
            self.transport.registerProducer(self, False)

    def _drip(self) -> None:
        self.resumeProducing()
        self._call = reactor.callLater(self.every_s, self._drip)

    def resumeProducing(self) -> None:
        self.transport.write(self.more)
        self.sent += len(self.more)

    def stopProducing(self) -> None:
        """Nothing to do: the connection is gone."""

    def connectionLost(self, reason: object) -> None:
        OPEN.discard(self)
        if self._call is not None:
            self._call.cancel()


class RawService(Factory):
    """Makes `Raw` connections."""

    noisy = False

    def __init__(self, head: bytes = b"", more: bytes = b"", every_s: float = 0.0) -> None:
        self.what = (head, more, every_s)
        self.made: list[Raw] = []

    def buildProtocol(self, addr: object) -> Raw:
        self.made.append(Raw(*self.what))
        return self.made[-1]
