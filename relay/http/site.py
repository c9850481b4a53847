"""The HTTP server: one plain twisted.web site over the route table and the resources that plugins mount.

The rule: nothing reaches a route or a resource before the request is whole, its path is clean, its Host, Origin and
token are right and its address is not asking too much at once. There is no access log: addresses and queries of
viewers are nobody's business, and tokens get pasted into queries.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.error import UnsupportedMethod
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from relay.context import RecordingControl, TargetControl
from relay.errors import ConfigError
from relay.http.channel import HttpLimits, RelayChannel
from relay.http.guard import Guard
from relay.http.health import health_routes
from relay.http.metrics import metrics_route
from relay.http.openapi import openapi_reply
from relay.http.pages import page_resources
from relay.http.problems import PROBLEM_TYPE, SECURITY_HEADERS, Problem, not_found
from relay.http.recording_api import recording_routes
from relay.http.router import Call, Reply, Route, Router, method_not_allowed
from relay.http.state import RelayState
from relay.http.streams_api import PREFIX, stream_routes
from relay.http.targets_api import target_routes
from relay.secret import Secret

log = Logger()

RESERVED = frozenset(
    {"", "api", "healthz", "readyz", "metrics", "stat", "watch", "static", "favicon.ico", "robots.txt"}
)
"""First path segments that plugins may not take: they are or will be the relay's own."""
PUBLIC = frozenset({"", "hls", "static", "watch"})
"""Mounts for viewers, who have no API token. `/` itself holds nothing: it asks the API, with a token typed into it."""


def make_site(
    state: RelayState,
    *,
    token: Secret | None,
    resources: Mapping[str, IResource],
    clock: IReactorTime,
    hosts: Collection[str] = (),
    public: Collection[str] = PUBLIC,
    limits: HttpLimits | None = None,
    targets: TargetControl | None = None,
    embed_in: Sequence[str] = ("*",),
    recording: RecordingControl | None = None,
) -> RelaySite:
    """Build the site.

    Args:
        token: what every call but `/healthz` and the *public* mounts needs; None on loopback only.
        resources: what plugins mount, by first path segment.
        hosts: further names to answer to while there is no token, for a reverse proxy on this machine.
        targets: the plugin that changes targets while streams are live, if there is one.
        embed_in: the sites that may show the watch page in a frame.
        recording: the plugin that starts and stops recordings, if there is one.

    Raises:
        ConfigError: a plugin asks for a name that is reserved or not one clean segment.
    """
    for name in resources:
        if name in RESERVED or name in (".", "..") or not name.isascii() or not _clean_name(name):
            raise ConfigError(f"http.{name}", "a plugin may not mount its resource under this name")
    guard = Guard(token=token, hosts=hosts, clock=clock)
    routes = [*health_routes(state), metrics_route(state), *stream_routes(state), *target_routes(state, targets)]
    routes += recording_routes(state, recording)
    routes.append(_openapi_route(routes, guard))
    mounts = {**page_resources(hls="hls" in resources, embed_in=embed_in), **resources}
    return RelaySite(Router(routes), guard, mounts, frozenset(public), limits or HttpLimits(), clock)


def _clean_name(name: str) -> bool:
    return all(char.isalnum() or char in "-_." for char in name)


def _openapi_route(routes: list[Route], guard: Guard) -> Route:
    def openapi(call: Call) -> Reply:
        return reply

    route = Route(method="GET", template=f"{PREFIX}/openapi.json", summary="This document", respond=openapi)
    reply = openapi_reply([*routes, route], token_needed=guard.needs_token)
    return route


class RelayRequest(Request):
    """One request. Everything is refused in one shape; HEAD is GET without the body."""

    site: RelaySite
    channel: CountedChannel

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory: it is bounded by the channel, and a temporary file could fail."""
        self.content = BytesIO()

    def process(self) -> None:
        """Answer. Called when the request is whole."""
        self.site = self.channel.site
        self._set(b"Date", http.datetimeToString())
        for name, value in SECURITY_HEADERS.items():
            self._set(name, value)
        try:
            self._dispatch()
        except Problem as problem:
            self.refuse(problem)
        except Exception:
            self.processingFailed(Failure())

    def _dispatch(self) -> None:
        method = self.method.decode("ascii", "replace")
        hosts = [_text(host) for host in self.requestHeaders.getRawHeaders(b"host", [])]
        if len(hosts) > 1 or (not hosts and self.clientproto == b"HTTP/1.1"):
            raise Problem(400, "host.malformed", "Exactly one Host header is needed.")
        segments = self._segments()
        mounted = segments[0] in self.site.mounts
        viewers = segments[0] in self.site.public if mounted else segments == ["healthz"]
        # A viewers' mount may be reached by any name: the programme is public, and it changes nothing.
        if not (mounted and viewers):
            self.site.guard.check_origin(method, hosts[0] if hosts else "", self._header(b"origin"))
        if not viewers and not self.site.guard.authorized(self._header(b"authorization") or ""):
            self._refuse_token()
            return
        self.site.enter(self, mounted=mounted)
        if mounted:
            self.prepath = [segments[0].encode()]
            self.postpath = [segment.encode() for segment in segments[1:]]
            self.sitepath: list[bytes] = []
            self.render(self._mounted(self.site.mounts[segments[0]]))
        else:
            self._call(method, segments)

    def _segments(self) -> list[str]:
        """Decode the path once; refuse what no clean path holds."""
        segments = []
        for part in self.path.removeprefix(b"/").split(b"/"):
            try:
                segment = unquote_to_bytes(part).decode("utf-8")
            except UnicodeDecodeError:
                raise not_found() from None
            if segment in (".", "..") or any(ord(char) < 32 or char in "\\\x7f" for char in segment):
                raise not_found()
            segments.append(segment)
        if not self.path.startswith(b"/") or (segments[0] in self.site.mounts and any("/" in s for s in segments)):
            raise not_found()
        return segments

    def _refuse_token(self) -> None:
        given = bool(self._header(b"authorization"))
        said = "The token is not the relay's." if given else "An Authorization: Bearer header is needed."
        problem = Problem(401, "token.refused", said, {b"WWW-Authenticate": b"Bearer"})
        peer = self.peer
        if not given:
            raise problem
        seconds = self.site.guard.delay(peer)
        if not seconds:
            raise problem
        later = self.site.reactor.callLater(seconds, self.refuse, problem)

        def ended(outcome: object) -> None:
            if later.active():
                later.cancel()
            self.site.guard.delayed_answer_ended(peer)

        self.notifyFinish().addBoth(ended)

    @property
    def peer(self) -> str:
        """The address that asks, without port."""
        return str(getattr(self.client, "host", "-"))

    # Routes.

    def _call(self, method: str, segments: list[str]) -> None:
        route, params = self.site.router.find(method, segments)
        call = Call(
            method=method,
            path="/" + "/".join(segments),
            peer=self.peer,
            params=params,
            query={_text(name): _text(values[0]) for name, values in self.args.items()},
            headers={_text(n).lower(): ", ".join(map(_text, v)) for n, v in self.requestHeaders.getAllRawHeaders()},
            body=self.content.read() if self.content else b"",
        )
        result = route.respond(call)
        if inspect.iscoroutine(result):
            self._wait(route, Deferred.fromCoroutine(result))
        else:
            self._answer(self.site.router.encode(route, result))

    def _wait(self, route: Route, waiting: Deferred[Any]) -> None:
        waiting.addTimeout(self.site.limits.answer_s, self.site.reactor)
        waiting.addCallback(lambda result: self._answer(self.site.router.encode(route, result)))
        waiting.addErrback(self._failed)
        self.notifyFinish().addErrback(lambda gone: waiting.cancel())

    def _failed(self, failure: Failure) -> None:
        if self._disconnected:
            failure.trap(CancelledError, Exception)
        elif failure.check(Problem):
            self.refuse(failure.value)  # type: ignore[arg-type]
        elif failure.check(TimeoutError):
            self.refuse(Problem(504, "answer.late"))
        else:
            self.processingFailed(failure)

    def _answer(self, reply: Reply) -> None:
        self.setResponseCode(reply.status)
        self._set(b"Content-Type", reply.content_type.encode())
        for name, value in reply.headers.items():
            self._set(name, value)
        self._send(reply.body)

    # Mounted resources.

    def _mounted(self, resource: IResource) -> IResource:
        """Walk down to the resource that answers, as twisted does, but with our 404 for its page."""
        while self.postpath and not resource.isLeaf:
            element: bytes = self.postpath.pop(0)
            self.prepath = [*(self.prepath or ()), element]
            plain = isinstance(resource, Resource) and type(resource).getChild is Resource.getChild
            if plain and element not in cast(Resource, resource).children:
                raise not_found()
            resource = resource.getChildWithDefault(element, self)
        return resource

    def render(self, resrc: IResource) -> None:
        """Let a plugin's resource answer."""
        try:
            body = resrc.render(self)
        except UnsupportedMethod as error:
            allowed: list[bytes] = list(error.allowedMethods)
            self.refuse(method_not_allowed([name.decode() for name in allowed]))
            return
        if body is NOT_DONE_YET:
            return
        if not isinstance(body, bytes):
            raise TypeError(f"{type(resrc).__name__}.render returned {type(body).__name__}, not bytes")
        self._send(body)

    # Ends.

    def refuse(self, problem: Problem) -> None:
        """Answer with *problem*."""
        if self.finished or self._disconnected:
            return
        self.setResponseCode(problem.status)
        self._set(b"Content-Type", PROBLEM_TYPE)
        self._set(b"Cache-Control", b"no-store")
        for name, value in problem.headers.items():
            self._set(name, value)
        self._send(problem.body())

    def processingFailed(self, reason: Failure) -> Failure:
        """Log a bug of ours or a plugin's, and say nothing about it to the peer."""
        log.failure("request failed: {method} {path}", reason, method=self.method, path=self.path)
        if self.startedWriting:
            self.channel.loseConnection()
        else:
            self.refuse(Problem(500, "relay.bug"))
        return reason

    def _send(self, body: bytes) -> None:
        if self.code not in http.NO_BODY_CODES:
            self._set(b"Content-Length", b"%d" % len(body))
        self.write(body)  # type: ignore[no-untyped-call]
        self.finish()  # type: ignore[no-untyped-call]

    def _header(self, name: bytes) -> str | None:
        values = self.requestHeaders.getRawHeaders(name)
        return None if values is None else _text(values[-1])

    def _set(self, name: bytes, value: bytes) -> None:
        self.responseHeaders.setRawHeaders(name, [value])


class RelaySite(Site):
    """The factory: builds channels, bounds their number and what one address may ask at once."""

    requestFactory = RelayRequest
    displayTracebacks = False
    noisy = False

    def __init__(
        self,
        router: Router,
        guard: Guard,
        mounts: Mapping[str, IResource],
        public: frozenset[str],
        limits: HttpLimits,
        clock: IReactorTime,
    ) -> None:
        super().__init__(None, reactor=clock, timeout=None, parsePOSTFormSubmission=False)  # type: ignore[no-untyped-call]
        self.router = router
        self.guard = guard
        self.mounts = mounts
        self.public = public
        self.limits = limits
        self.open = 0
        self._in_flight: Counter[tuple[str, bool]] = Counter()

    def startFactory(self) -> None:
        """Open no log: twisted would write one line per request, query included."""

    def stopFactory(self) -> None:
        """Nothing was opened."""

    def log(self, request: http.Request) -> None:
        """Write no access log."""

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1 only."""
        return [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> RelayChannel | None:  # type: ignore[override]
        """Make a channel, or refuse the connection when too many are open."""
        if self.open >= self.limits.connections:
            return None
        channel = CountedChannel()  # type: ignore[no-untyped-call]
        channel.factory = self
        channel.site = self
        channel.requestFactory = self.requestFactory
        channel.limits = self.limits
        channel.clock = self.reactor
        self.open += 1
        return channel

    def enter(self, request: RelayRequest, *, mounted: bool) -> None:
        """Count *request* until it ends.

        Raises:
            Problem: 429 when its address has too many unfinished ones.
        """
        key = (request.peer, mounted)
        limit = self.limits.mount_in_flight if mounted else self.limits.api_in_flight
        if self._in_flight[key] >= limit:
            raise Problem(429, "requests.too_many", headers={b"Retry-After": b"1"})
        self._in_flight[key] += 1
        request.notifyFinish().addBoth(lambda outcome: self._leave(key))

    def _leave(self, key: tuple[str, bool]) -> None:
        self._in_flight[key] -= 1
        if not self._in_flight[key]:
            del self._in_flight[key]


class CountedChannel(RelayChannel):
    """A channel that its site counts."""

    site: RelaySite

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.site.open -= 1
        super().connectionLost(reason)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
