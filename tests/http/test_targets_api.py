"""The target calls over a site, with the restream plugin behind them and a push that only remembers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from relay.http.site import RelaySite, make_site
from relay.http.state import StreamView, TargetView
from relay.testing import FakePush, host_for, stream_info, track_set
from relay_restream import RestreamPlugin
from tests.http.fakes import Answer, FakeState, Peer

KEY = "canary-6c4e2a8f0b1d"
URL = "rtmp://8.8.8.8/live"


class State(FakeState):
    """What the plugin plans, and nothing else."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self.relay = relay

    def stream(self, name: str) -> StreamView | None:
        plans = self.relay.control.targets(name)
        if not plans and name not in self.relay.live:
            return None
        targets = [
            TargetView(
                name=plan.name,
                state=plan.state or "live",
                enabled=plan.enabled,
                reason=plan.reason,
                detail=plan.detail,
                destination=plan.destination,
                warnings=plan.warnings,
            )
            for plan in plans
        ]
        return StreamView(name=name, state="live", targets=targets)


class Relay:
    """A site over the plugin."""

    def __init__(self, clock: Clock, streams: Mapping[str, Any] | None = None) -> None:
        self.push = FakePush()
        self.resolving: dict[str, Deferred[Sequence[str]]] = {}
        self.host = host_for(
            RestreamPlugin,
            name="restream",
            config={"ingest_lists": False},
            streams=streams or {},
            clock=clock,
            push=self.push,
            resolve=lambda host: self.resolving.get(host) or succeed([]),
        )
        assert self.host.target_control is not None
        self.control = self.host.target_control
        self.live: set[str] = set()
        self.site: RelaySite = make_site(
            State(self), token=None, resources={}, clock=clock, targets=self.host.target_control
        )

    def start(self, stream: str = "stage") -> None:
        (opened,) = self.host.open_sinks(stream_info(stream))
        opened.sink.configure(track_set())
        self.live.add(stream)

    @property
    def targets(self) -> set[str]:
        return {name for _, _, push in self.push.opened for name in push.targets}

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        peer = Peer(self.site)
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} if raw else {}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = peer.request(method, f"/api/v1/streams/{path}", given, raw)
        peer.hang_up()
        return answer


@pytest.fixture
def relay(clock: Clock) -> Relay:
    return Relay(clock, {"stage": {"file": {"url": "rtmp://127.0.0.1/live", "key": "file-key-000001"}}})


def test_a_target_is_put_read_stopped_started_and_deleted(relay: Relay) -> None:
    relay.start()
    put = relay.ask("PUT", "stage/targets/new", {"url": URL, "key": KEY})

    assert put.status == 200
    assert put.json["name"] == "new"
    assert put.json["destination"] == URL
    assert relay.targets == {"file", "new"}
    assert relay.ask("GET", "stage/targets/new").json == put.json
    assert [one["name"] for one in relay.ask("GET", "stage/targets").json["targets"]] == ["file", "new"]
    stopped = relay.ask("POST", "stage/targets/new/stop")
    assert (stopped.json["state"], stopped.json["enabled"], stopped.json["reason"]) == ("stopped", False, "by-api")
    assert relay.targets == {"file"}
    assert relay.ask("POST", "stage/targets/new/start").json["state"] == "live"
    deleted = relay.ask("DELETE", "stage/targets/new")
    assert (deleted.status, deleted.body) == (204, b"")
    assert relay.targets == {"file"}
    assert relay.ask("GET", "stage/targets/new").json["code"] == "target.unknown"


def test_every_call_may_be_repeated(relay: Relay) -> None:
    relay.start()
    for _ in range(2):
        assert relay.ask("PUT", "stage/targets/new", {"url": URL, "key": KEY}).status == 200
    for _ in range(2):
        assert relay.ask("POST", "stage/targets/new/stop").status == 200
    for _ in range(2):
        assert relay.ask("POST", "stage/targets/new/start").status == 200
    for _ in range(2):
        assert relay.ask("DELETE", "stage/targets/new").status == 204


def test_targets_are_taken_for_a_stream_that_is_not_live(relay: Relay) -> None:
    answer = relay.ask("PUT", "later/targets/new", {"url": URL, "key": KEY})

    assert (answer.status, answer.json["state"], answer.json["reason"]) == (200, "waiting", "no-stream")
    relay.start("later")
    assert relay.targets == {"new"}
    assert relay.ask("GET", "stage/targets/file").json["state"] == "waiting"
    assert relay.ask("GET", "absent/targets").json["code"] == "stream.unknown"


def test_a_stream_with_slashes_is_one_segment(relay: Relay) -> None:
    assert relay.ask("PUT", "a%2Fb/targets/new", {"url": URL, "key": KEY}).status == 200
    assert relay.ask("GET", "a%2Fb/targets/new").json["name"] == "new"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"url": URL}, "body.invalid"),
        ({"key": KEY}, "body.invalid"),
        ({"url": URL, "key": KEY, "ca_file": "/etc/passwd"}, "body.invalid"),
        ({"url": URL, "key": {"file": "/etc/passwd"}}, "body.invalid"),
        ({"url": URL, "key": {"env": "HOME"}}, "body.invalid"),
        ({"url": URL, "key": KEY, "enabled": "yes"}, "body.invalid"),
        ({"url": URL, "key": KEY, "delay_s": 1e9}, "body.invalid"),
        ({"preset": "linkedin", "key": KEY}, "body.invalid"),
        ({"preset": "nothing", "key": KEY}, "body.invalid"),
        ({"url": "http://8.8.8.8/live", "key": KEY}, "body.invalid"),
        ({"url": "file:///etc/passwd", "key": KEY}, "body.invalid"),
        ({"url": "rtmp://good\\@127.0.0.1/live", "key": KEY}, "body.invalid"),
        ({"url": "rtmp://127.0.0.1/live", "key": KEY}, "target.invalid"),
        ({"url": "rtmp://[::ffff:127.0.0.1]/live", "key": KEY}, "target.invalid"),
        ({"url": "rtmp://169.254.169.254/live", "key": KEY}, "target.invalid"),
        (b"{", "body.json"),
        ([], "body.invalid"),
        (b'{"url": 1, "url": 2}', "body.json"),
    ],
    ids=repr,
)
def test_what_is_wrong_with_a_target_is_said_without_its_key(relay: Relay, body: object, code: str) -> None:
    answer = relay.ask("PUT", "stage/targets/new", body)

    assert (answer.status, answer.json["code"]) == (400, code)
    assert KEY not in answer.body.decode()
    assert "passwd" not in answer.body.decode()
    assert relay.ask("GET", "stage/targets/new").status == 404


def test_only_json_is_taken(relay: Relay) -> None:
    answer = relay.ask("PUT", "stage/targets/new", {"url": URL, "key": KEY}, Content_Type="text/plain")

    assert answer.json["code"] == "body.type"


@pytest.mark.parametrize("path", ["stage/targets/a%2Fb", "stage/targets/.hidden", "stage/targets/" + "x" * 65])
def test_names_of_targets_are_plain(relay: Relay, path: str) -> None:
    assert relay.ask("PUT", path, {"url": URL, "key": KEY}).json["code"] == "target.invalid"


def test_names_of_streams_are_public_names(relay: Relay) -> None:
    assert relay.ask("PUT", "a%20b/targets/new", {"url": URL, "key": KEY}).json["code"] == "stream.invalid"


def test_calls_for_a_target_that_there_is_not(relay: Relay) -> None:
    for call in ("start", "stop", "dump"):
        assert relay.ask("POST", f"stage/targets/absent/{call}").json["code"] == "target.unknown"


def test_an_address_is_resolved_before_it_is_taken(relay: Relay, clock: Clock) -> None:
    looking = relay.resolving["name.example"] = Deferred()
    peer = Peer(relay.site)
    body = json.dumps({"url": "rtmp://name.example/live", "key": KEY}).encode()
    peer.begin("PUT", "/api/v1/streams/stage/targets/new", {"Content-Type": "application/json"}, body)

    assert peer.transport.value() == b""
    looking.callback(["8.8.8.8", "10.0.0.1"])
    assert peer.answer().json["code"] == "target.invalid"
    assert "new" not in relay.targets
    peer.hang_up()


def test_a_name_server_that_hangs_holds_a_caller_for_five_seconds_only(relay: Relay, clock: Clock) -> None:
    relay.resolving["name.example"] = Deferred()
    peer = Peer(relay.site)
    body = json.dumps({"url": "rtmp://name.example/live", "key": KEY}).encode()
    peer.begin("PUT", "/api/v1/streams/stage/targets/new", {"Content-Type": "application/json"}, body)
    clock.advance(4.9)
    assert peer.transport.value() == b""
    clock.advance(0.2)

    assert peer.answer().status == 200
    peer.hang_up()


def test_no_answer_holds_a_key(relay: Relay) -> None:
    relay.start()
    relay.ask("PUT", "stage/targets/new", {"url": URL, "key": KEY, "delay_s": 1.0})
    relay.ask("PUT", "stage/targets/file", {"url": "rtmp://127.0.0.1/live", "key": KEY + "2"})
    said = b"".join(
        relay.ask(method, path).body
        for method, path in [
            ("GET", "stage"),
            ("GET", "stage/targets"),
            ("GET", "stage/targets/new"),
            ("POST", "stage/targets/new/stop"),
            ("POST", "stage/targets/new/dump"),
        ]
    )

    assert b"new" in said
    assert KEY.encode() not in said
    assert b"file-key" not in said


def test_the_openapi_document_describes_what_put_takes(relay: Relay) -> None:
    peer = Peer(relay.site)
    document = peer.request("GET", "/api/v1/openapi.json").json
    peer.hang_up()
    put = document["paths"]["/api/v1/streams/{stream}/targets/{target}"]["put"]
    reference = put["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    properties = document["components"]["schemas"][reference]["properties"]

    assert properties["key"]["type"] == "string"
    assert {"url", "preset", "enabled", "delay_s", "audio_track"} <= set(properties)
    assert "ca_file" not in properties


def test_without_a_plugin_targets_can_only_be_looked_at(clock: Clock) -> None:
    site = make_site(FakeState(), token=None, resources={}, clock=clock)
    peer = Peer(site)

    assert peer.request("GET", "/api/v1/streams/townhall/targets/youtube").json["attempts"] == 3
    body = json.dumps({"url": URL, "key": KEY}).encode()
    put = peer.request("PUT", "/api/v1/streams/townhall/targets/new", {"Content-Type": "application/json"}, body)
    assert (put.status, put.json["code"]) == (409, "targets.fixed")
    assert peer.request("DELETE", "/api/v1/streams/townhall/targets/youtube").status == 409
    assert peer.request("POST", "/api/v1/streams/townhall/targets/youtube/stop").status == 409
    peer.hang_up()
