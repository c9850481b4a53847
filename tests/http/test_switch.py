"""The switch by hand and the kick over HTTP."""

from __future__ import annotations

import json

import pytest

from twisted.internet.task import Clock

from tests.http.fakes import FakeState, Peer, site_of

URL = "/api/v1/streams/townhall/switch"
JSON = {"Content-Type": "application/json"}


def post(state: FakeState, clock: Clock, url: str, body: object, **headers: str) -> tuple[int, dict[str, object]]:
    peer = Peer(site_of(clock, state=state))
    answer = peer.request("POST", url, headers or JSON, json.dumps(body).encode())
    peer.hang_up()
    return answer.status, answer.json


def test_a_feed_is_put_on_air(clock: Clock) -> None:
    state = FakeState()

    status, answer = post(state, clock, URL, {"feed": "backup"})

    assert (status, answer) == (200, {"stream": "townhall", "feed": "backup", "state": "armed"})
    assert state.switched == [("townhall", "backup")]


@pytest.mark.parametrize(
    ("url", "body", "status", "code"),
    [
        (URL, {"feed": "nobody"}, 404, "feed.unknown"),
        ("/api/v1/streams/nothing/switch", {"feed": "backup"}, 404, "stream.unknown"),
        (URL, {}, 400, "body.invalid"),
        (URL, {"feed": 5}, 400, "body.invalid"),
        (URL, {"feed": "backup", "now": True}, 400, "body.invalid"),
        (URL, {"feed": "x" * 256}, 400, "body.invalid"),
    ],
)
def test_what_is_wrong_is_said(clock: Clock, url: str, body: object, status: int, code: str) -> None:
    state = FakeState()

    answered, answer = post(state, clock, url, body)

    assert (answered, answer["code"]) == (status, code)
    assert state.switched == []


def test_a_plain_form_cannot_switch(clock: Clock) -> None:
    status, answer = post(FakeState(), clock, URL, {"feed": "backup"}, **{"Content-Type": "text/plain"})

    assert (status, answer["code"]) == (415, "body.type")


KICK = "/api/v1/streams/townhall/feeds/backup"


def delete(state: FakeState, clock: Clock, url: str) -> tuple[int, dict[str, object]]:
    peer = Peer(site_of(clock, state=state))
    answer = peer.request("DELETE", url)
    peer.hang_up()
    return answer.status, answer.json if answer.body else {}


@pytest.mark.parametrize(
    ("query", "seconds"), [("", 60), ("?cooloff_s=0", 0), ("?cooloff_s=1.5", 1.5), ("?cooloff_s=86400", 86400)]
)
def test_a_publisher_is_kicked_and_kept_out(clock: Clock, query: str, seconds: float) -> None:
    state = FakeState()

    assert delete(state, clock, KICK + query) == (204, {})
    assert state.kicked == [("townhall", "backup", seconds)]


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("/api/v1/streams/townhall/feeds/nobody", 404, "feed.unknown"),
        ("/api/v1/streams/nothing/feeds/backup", 404, "feed.unknown"),
        *(
            (f"{KICK}?cooloff_s={value}", 400, "query.invalid")
            for value in ("86401", "-1", "x", "1e3", "nan", "", "%C2%B2")
        ),
    ],
)
def test_what_is_wrong_with_a_kick_is_said(clock: Clock, url: str, status: int, code: str) -> None:
    state = FakeState()

    answered, answer = delete(state, clock, url)

    assert (answered, answer["code"]) == (status, code)
    assert state.kicked == []
