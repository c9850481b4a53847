from __future__ import annotations

import json

import pytest

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from relay.errors import ConfigError
from relay.http.channel import HttpLimits
from relay.http.router import Call, Route, Router
from relay.http.site import RESERVED, RelaySite, make_site
from relay.http.state import LagView
from tests.http.fakes import FakeState, Peer, ask, site_of

TOKEN = "canary-5f1d0a37-token"
GETS = ["/healthz", "/readyz", "/metrics", "/api/v1/streams", "/api/v1/streams/townhall", "/api/v1/openapi.json"]


class Page(Resource):
    """A plugin's resource: everything below it is the same page."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"Cache-Control", b"max-age=1")
        return b"page " + b"/".join(request.postpath)


class Failing(Resource):
    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        raise RuntimeError("boom at line 5")


class Wrong(Resource):
    isLeaf = True

    def render_GET(self, request: Request) -> str:
        return "text"


class Slow(Resource):
    """Answers never."""

    isLeaf = True

    def render_GET(self, request: Request) -> int:
        return NOT_DONE_YET


class Tree(Resource):
    """Has one child and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.putChild(b"here", Page())


def site_with(clock: Clock, *routes: Route, limits: HttpLimits | None = None) -> RelaySite:
    site = site_of(clock, limits=limits)
    site.router = Router([*site.router.routes, *routes])
    return site


@pytest.mark.parametrize("path", GETS)
def test_head_is_get_without_its_body(clock: Clock, path: str) -> None:
    site = site_of(clock)
    got = ask(site, path)

    head = ask(site, path, "HEAD")

    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    if path != "/metrics":  # the process' own numbers move between the two
        assert head.headers["content-length"] == str(len(got.body))


@pytest.mark.parametrize("path", GETS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"])
def test_other_methods_are_refused_with_what_is_allowed(clock: Clock, path: str, method: str) -> None:
    answer = ask(site_of(clock), path, method)

    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.json["code"] == "method.refused"


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/watch",
        "/static",
        "/static/",
        "/static/index.html",
        "/api",
        "/api/v1/",
        "/api/v1/streams/",
        "/api/v1/streams/townhall/",
        "/api/v1/streams/absent",
        "/api/v1/streams/%00",
        "/api/v1/streams/%2e%2e",
        "/api/v1/streams/%ff",
        "/api/v1/../healthz",
        "//healthz",
        "/%2fhealthz",
        "/hls/../healthz",
        "/hls/%2e%2e/etc/passwd",
        "/hls/a%2fb",
        "/hls/a%5cb",
        "/hls/%00.m3u8",
        "http://localhost/healthz",
        "*",
    ],
)
def test_an_unclean_or_unknown_path_is_not_found(clock: Clock, path: str) -> None:
    answer = ask(site_of(clock, resources={"hls": Page()}), path)

    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json) == {"type", "title", "status", "code", "detail"}
    assert b"Traceback" not in answer.body


def test_an_error_does_not_echo_what_was_asked(clock: Clock) -> None:
    answer = ask(site_of(clock), "/api/v1/streams/%3Cscript%3Ealert(1)")

    assert b"script" not in answer.body


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/hls/x", "/broken/x"])
def test_every_answer_has_the_security_headers_and_no_version(clock: Clock, path: str) -> None:
    class Silent(Resource):
        isLeaf = True
        render_GET = Page.render_GET

    answer = ask(site_of(clock, resources={"hls": Silent(), "broken": Tree()}), path)

    assert answer.headers["server"] == "rtmp-relay"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize("hosts", [[], ["localhost", "evil.example"]], ids=["none", "two"])
def test_a_request_needs_exactly_one_host(clock: Clock, hosts: list[str]) -> None:
    peer = Peer(site_of(clock))

    peer.send(b"GET /healthz HTTP/1.1\r\n" + b"".join(f"Host: {h}\r\n".encode() for h in hosts) + b"\r\n")

    assert peer.answer().json["code"] == "host.malformed"
    peer.hang_up()


# The token.


@pytest.mark.parametrize("path", [path for path in GETS if path != "/healthz"])
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer \xe9"],
)
def test_without_the_right_token_nothing_but_liveness_is_answered(
    clock: Clock, path: str, authorization: str | None
) -> None:
    peer = Peer(site_of(clock, token=TOKEN))

    answer = peer.request("GET", path, {} if authorization is None else {"Authorization": authorization})

    assert answer.status == 401
    assert answer.json["code"] == "token.refused"
    assert ("header is needed" in answer.json["detail"]) == (not authorization)
    assert answer.headers["www-authenticate"] == "Bearer"
    peer.hang_up()


@pytest.mark.parametrize("path", GETS)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_token_opens_every_route(clock: Clock, path: str, scheme: str) -> None:
    assert ask(site_of(clock, token=TOKEN), path, Authorization=f"{scheme} {TOKEN}").status == 200


def test_an_unknown_path_does_not_say_so_without_the_token(clock: Clock) -> None:
    assert ask(site_of(clock, token=TOKEN), "/nothing").status == 401


def test_liveness_needs_no_token(clock: Clock) -> None:
    assert ask(site_of(clock, token=TOKEN), "/healthz").status == 200


def test_a_token_in_the_query_is_not_a_token(clock: Clock) -> None:
    assert ask(site_of(clock, token=TOKEN), f"/api/v1/streams?token={TOKEN}").status == 401


def test_a_token_outside_ascii_works(clock: Clock) -> None:
    site = site_of(clock, token="clé-très-secrète")
    peer = Peer(site)
    peer.send("GET /readyz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer clé-très-secrète\r\n\r\n".encode())

    assert peer.answer().status == 200
    peer.hang_up()


def test_viewers_mounts_need_no_token_and_others_do(clock: Clock) -> None:
    site = site_of(clock, token=TOKEN, resources={"hls": Page(), "admin": Page()})

    assert ask(site, "/hls/townhall/index.m3u8").body == b"page townhall/index.m3u8"
    assert ask(site, "/admin/x").status == 401
    assert ask(site, "/admin/x", Authorization=f"Bearer {TOKEN}").status == 200


def test_wrong_tokens_are_answered_later_and_later(clock: Clock) -> None:
    site = site_of(clock, token=TOKEN)
    for _ in range(5):
        assert ask(site, "/readyz", Authorization="Bearer wrong").status == 401
    peer = Peer(site)
    peer.begin("GET", "/readyz", {"Authorization": "Bearer wrong"})
    clock.advance(0.9)
    assert peer.transport.value() == b""

    clock.advance(0.2)

    assert peer.answer().status == 401
    peer.hang_up()


def test_the_right_token_never_waits_for_somebody_elses_wrong_ones(clock: Clock) -> None:
    site = site_of(clock, token=TOKEN)
    waiting = [Peer(site) for _ in range(12)]
    for peer in waiting:
        peer.begin("GET", "/readyz", {"Authorization": "Bearer wrong"})

    assert ask(site, "/readyz", Authorization=f"Bearer {TOKEN}").status == 200
    assert sum(b" 429 " in peer.transport.value() for peer in waiting) == 12 - 5 - 4
    for peer in waiting:
        peer.hang_up()


# Browsers.


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "LOCALHOST", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080"]
)
def test_without_a_token_loopback_names_are_answered(clock: Clock, host: str) -> None:
    assert ask(site_of(clock), "/api/v1/streams", Host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "192.0.2.1", "", "[::1", "0.0.0.0"]
)
def test_without_a_token_a_foreign_name_is_refused(clock: Clock, host: str) -> None:
    answer = ask(site_of(clock, resources={"admin": Page()}), "/admin/x", Host=host)

    assert (answer.status, answer.json["code"]) == (403, "host.refused")


def test_a_listed_name_is_answered_without_a_token(clock: Clock) -> None:
    site = make_site(FakeState(), token=None, resources={}, clock=clock, hosts=["Relay.Example"])

    assert ask(site, "/readyz", Host="relay.example").status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:9999"])
@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_page_of_another_site_cannot_change_anything(clock: Clock, origin: str, token: str | None) -> None:
    answer = ask(site_of(clock, token=token), "/healthz", "POST", Origin=origin, Authorization=f"Bearer {TOKEN}")

    assert (answer.status, answer.json["code"]) == (403, "origin.refused")


def test_a_page_of_our_own_may(clock: Clock) -> None:
    assert ask(site_of(clock), "/readyz", "POST", Origin="http://localhost:8080").status == 405


def test_nothing_is_readable_by_foreign_pages(clock: Clock) -> None:
    answer = ask(site_of(clock), "/api/v1/streams", Origin="https://evil.example")

    assert not [name for name in answer.headers if name.startswith("access-control")]


# Plugins' resources.


def test_a_mounted_resource_gets_the_rest_of_the_path(clock: Clock) -> None:
    answer = ask(site_of(clock, resources={"player": Page()}), "/player/a/b%20c?x=1")

    assert answer.body == b"page a/b c"
    assert answer.headers["cache-control"] == "max-age=1"


def test_a_mounted_resource_answers_head_and_refuses_other_methods(clock: Clock) -> None:
    site = site_of(clock, resources={"player": Page()})

    assert (ask(site, "/player/x", "HEAD").status, ask(site, "/player/x", "HEAD").body) == (200, b"")
    assert ask(site, "/player/x", "POST").json["code"] == "method.refused"


def test_a_missing_child_or_an_inner_node_is_a_plain_error(clock: Clock) -> None:
    site = site_of(clock, resources={"tree": Tree()})

    assert ask(site, "/tree/here").status == 200
    assert ask(site, "/tree/there").status == 404
    assert ask(site, "/tree").status == 405


@pytest.mark.parametrize("resource", [Failing(), Wrong()], ids=["raises", "returns text"])
def test_a_broken_resource_is_a_plain_error_and_a_logged_bug(clock: Clock, resource: Resource) -> None:
    events: list[object] = []
    globalLogPublisher.addObserver(events.append)
    try:
        answer = ask(site_of(clock, resources={"bad": resource}), "/bad/x?token=canary")
    finally:
        globalLogPublisher.removeObserver(events.append)

    assert (answer.status, answer.json["code"]) == (500, "relay.bug")
    assert b"boom" not in answer.body
    assert [event["log_failure"].type for event in events] in ([RuntimeError], [TypeError])
    assert "canary" not in str([event["path"] for event in events])


@pytest.mark.parametrize("name", [*sorted(RESERVED), "..", "a/b", "a b", "é", "%61pi"])
def test_a_plugin_cannot_mount_over_the_relay_or_under_an_unclean_name(clock: Clock, name: str) -> None:
    with pytest.raises(ConfigError):
        site_of(clock, resources={name: Page()})


# Much at once.


def test_one_address_may_have_eight_unfinished_requests(clock: Clock) -> None:
    async def wait(call: Call) -> LagView:
        await Deferred()
        return LagView()

    site = site_with(clock, Route(method="GET", template="/wait", summary="", respond=wait, returns=LagView))
    peers = [Peer(site) for _ in range(8)]
    for peer in peers:
        peer.begin("GET", "/wait")

    assert ask(site, "/wait").json["code"] == "requests.too_many"
    other = Peer(site, host="127.0.0.2")
    other.begin("GET", "/wait")
    assert other.transport.value() == b""
    peers[0].hang_up()
    again = Peer(site)
    again.begin("GET", "/wait")
    assert again.transport.value() == b""
    for peer in [*peers[1:], other, again]:
        peer.hang_up()


def test_a_function_may_wait_for_its_answer(clock: Clock) -> None:
    later: Deferred[LagView] = Deferred()

    async def wait(call: Call) -> LagView:
        return await later

    peer = Peer(site_with(clock, Route(method="GET", template="/wait", summary="", respond=wait, returns=LagView)))
    peer.begin("GET", "/wait")
    assert peer.transport.value() == b""

    later.callback(LagView(p99_ms=1.5))

    assert peer.answer().json == {"p99_ms": 1.5, "max_ms": 0.0}
    peer.hang_up()


def test_a_function_that_waits_too_long_is_cancelled(clock: Clock) -> None:
    cancelled: list[object] = []

    async def wait(call: Call) -> LagView:
        await Deferred(cancelled.append)
        return LagView()

    peer = Peer(site_with(clock, Route(method="GET", template="/wait", summary="", respond=wait, returns=LagView)))
    peer.begin("GET", "/wait")

    clock.advance(31)

    assert peer.answer().json["code"] == "answer.late"
    assert len(cancelled) == 1
    peer.hang_up()


def test_a_function_is_cancelled_when_its_caller_is_gone(clock: Clock) -> None:
    cancelled: list[object] = []

    async def wait(call: Call) -> LagView:
        await Deferred(cancelled.append)
        return LagView()

    peer = Peer(site_with(clock, Route(method="GET", template="/wait", summary="", respond=wait, returns=LagView)))
    peer.begin("GET", "/wait")

    peer.hang_up()

    assert len(cancelled) == 1


def test_a_thousand_viewers_behind_one_address_are_served(clock: Clock) -> None:
    site = site_of(clock, resources={"hls": Slow()})
    peers = [Peer(site) for _ in range(1000)]
    for peer in peers:
        peer.begin("GET", "/hls/x")

    assert not any(peer.transport.value() for peer in peers)
    for peer in peers:
        peer.hang_up()


def test_nothing_is_logged_about_an_ordinary_request(clock: Clock) -> None:
    events: list[object] = []
    globalLogPublisher.addObserver(events.append)
    try:
        site = site_of(clock, resources={"player": Page()})
        site.startFactory()
        for path in [*GETS, "/player/x", "/nothing"]:
            ask(site, f"{path}?token=canary")
            ask(site, f"{path}?token=canary", "HEAD")
        site.stopFactory()
    finally:
        globalLogPublisher.removeObserver(events.append)

    assert events == []


# What the routes say.


def test_streams_are_listed_with_everything_about_them(clock: Clock) -> None:
    first, second = ask(site_of(clock), "/api/v1/streams").json["streams"]

    assert (first["name"], first["state"], first["live_feed"]) == ("townhall", "live", "primary")
    assert [feed["state"] for feed in first["feeds"]] == ["live", "standby"]
    assert first["tracks"][0]["codec"] == "avc1"
    assert first["targets"][1] == {
        "name": "twitch",
        "state": "refused",
        "enabled": True,
        "since": 0.0,
        "reason": "publish-refused",
        "detail": "",
        "destination": "",
        "attempts": 0,
        "bytes_sent": 0,
        "bytes_acked": 0,
        "queue_ms": 0,
        "dropped_gops": 2,
        "rtt_ms": None,
        "retransmits": None,
        "unacked_bytes": None,
        "delivery": "",
        "delivery_detail": "",
        "confirmed_by": "",
        "warnings": [],
    }
    assert second["state"] == "waiting"


def test_one_stream_is_found_by_its_name_with_slashes_encoded(clock: Clock) -> None:
    site = site_of(clock)

    assert ask(site, "/api/v1/streams/townhall").json["players"] == 4
    assert ask(site, "/api/v1/streams/nested%2Fone").json["name"] == "nested/one"
    assert ask(site, "/api/v1/streams/absent").json["code"] == "stream.unknown"


def test_readiness_follows_the_listeners(clock: Clock) -> None:
    state = FakeState()
    site = site_of(clock, state=state)
    assert ask(site, "/readyz").json["ready"] is True

    state.ports[0] = state.ports[0].__class__(url="rtmp://0.0.0.0:1935", up=False, error="address in use")

    answer = ask(site, "/readyz")
    assert answer.status == 503
    assert answer.json["listeners"] == [{"url": "rtmp://0.0.0.0:1935", "up": False, "error": "address in use"}]
    assert ask(site, "/healthz").status == 200


def test_liveness_says_how_late_the_loop_is(clock: Clock) -> None:
    assert ask(site_of(clock), "/healthz").json == {"status": "ok", "loop_lag": {"p99_ms": 3.5, "max_ms": 12.0}}


@pytest.mark.parametrize("token", [None, TOKEN])
def test_the_openapi_document_lists_every_route(clock: Clock, token: str | None) -> None:
    site = site_of(clock, token=token)
    document = ask(site, "/api/v1/openapi.json", Authorization=f"Bearer {TOKEN}").json

    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == {route.template for route in site.router.routes}
    secured = {path for path, calls in document["paths"].items() if all("security" in call for call in calls.values())}
    assert secured == (set(document["paths"]) - {"/healthz"} if token else set())


def test_every_reference_in_the_openapi_document_leads_somewhere(clock: Clock) -> None:
    text = ask(site_of(clock), "/api/v1/openapi.json").body.decode()
    schemas = json.loads(text)["components"]["schemas"]
    references = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}

    assert {"StreamView", "FeedView", "TargetView", "Problem"} <= references | set(schemas)
    assert references <= set(schemas)
