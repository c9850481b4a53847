from __future__ import annotations

import pytest
from pydantic import BaseModel, Field, field_validator

from relay.http.problems import Problem
from relay.http.router import Call, Reply, Route, Router, read_body


class Switch(BaseModel):
    feed: str
    after_s: float = Field(default=0.0, ge=0)


class Picky(BaseModel):
    feed: str

    @field_validator("feed")
    @classmethod
    def _check_feed(cls, feed: str) -> str:
        if feed == "forbidden":
            raise ValueError("not this one")
        return feed


def route(method: str, template: str) -> Route:
    return Route(method=method, template=template, summary="", respond=lambda call: Reply())


def body(text: bytes, content_type: str = "application/json") -> Call:
    return Call(method="POST", path="/", peer="-", headers={"content-type": content_type}, body=text)


def test_a_parameter_takes_one_segment() -> None:
    router = Router([route("GET", "/streams/{stream}/targets/{target}")])

    _, params = router.find("GET", ["streams", "a", "targets", "b/c"])

    assert params == {"stream": "a", "target": "b/c"}


@pytest.mark.parametrize("path", [["streams"], ["streams", "a", "b"], ["Streams", "a"]])
def test_a_path_of_another_shape_is_not_found(path: list[str]) -> None:
    with pytest.raises(Problem) as caught:
        Router([route("GET", "/streams/{stream}")]).find("GET", path)

    assert caught.value.status == 404


def test_methods_of_one_path_are_told_apart() -> None:
    router = Router([route("GET", "/t/{t}"), route("DELETE", "/t/{t}")])

    assert router.find("DELETE", ["t", "x"])[0].method == "DELETE"
    assert router.find("HEAD", ["t", "x"])[0].method == "GET"
    with pytest.raises(Problem) as caught:
        router.find("PUT", ["t", "x"])
    assert caught.value.headers[b"Allow"] == b"DELETE, GET, HEAD"


def test_head_is_not_offered_where_there_is_no_get() -> None:
    with pytest.raises(Problem) as caught:
        Router([route("POST", "/reload")]).find("HEAD", ["reload"])

    assert caught.value.headers[b"Allow"] == b"POST"


def test_a_body_is_read_into_its_model() -> None:
    assert read_body(body(b'{"feed": "backup", "after_s": 2}', "application/json; charset=utf-8"), Switch) == Switch(
        feed="backup", after_s=2.0
    )


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (b'{"feed": 5}', "feed"),
        (b'{"feed": "b", "feeds": 1}', "feeds"),
        (b'{"feed": "b", "after_s": -1}', "after_s"),
        (b'{"feed": "b", "after_s": "1"}', "after_s"),
        (b"{}", "feed"),
        (b"[]", ""),
        (b"null", ""),
    ],
)
def test_a_body_that_does_not_fit_is_refused_with_the_path_of_the_fault(text: bytes, where: str) -> None:
    with pytest.raises(Problem) as caught:
        read_body(body(text), Switch)

    assert (caught.value.status, caught.value.code) == (400, "body.invalid")
    assert caught.value.detail.startswith(where)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"feed": "b", "feeds": 1}', 'feeds: unknown name (did you mean "feed"?)'),
        (b'{"feed": "forbidden"}', "feed: not this one"),
    ],
)
def test_the_words_about_a_body_are_those_of_the_relay(text: bytes, said: str) -> None:
    with pytest.raises(Problem) as caught:
        read_body(body(text), Picky)

    assert caught.value.detail == said


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"feed": NaN}',
        b'{"feed": "b", "after_s": 1e400}',
        b'{"feed": "a", "feed": "b"}',
        b"[" * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "open", "not text", "NaN", "1e400", "twice", "deep", "huge number"],
)
def test_a_body_that_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(Problem) as caught:
        read_body(body(text), Switch)

    assert (caught.value.status, caught.value.code) == (400, "body.json")


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_plain_form_can_send_is_no_json(content_type: str) -> None:
    with pytest.raises(Problem) as caught:
        read_body(body(b'{"feed": "a"}', content_type), Switch)

    assert caught.value.status == 415
