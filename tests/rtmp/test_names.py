"""Names: every way encoders write an address, and everything that must not get through."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.rtmp import names
from relay.rtmp.names import BadNameError

LIVE = "rtmp://relay.example/live"


def revealed(address: names.Address) -> dict[str, str]:
    return {key: value.reveal() for key, value in address.query.items()}


@pytest.mark.parametrize(
    ("app", "tc_url", "name", "expected"),
    [
        pytest.param("live", LIVE, "key", ("live", "key", {}), id="plain"),
        pytest.param("live/", LIVE + "/", "/key", ("live", "key", {}), id="slashes-at-the-ends"),
        pytest.param("live//", LIVE, "//key//", ("live", "key", {}), id="double-slashes"),
        pytest.param("live/abc", LIVE + "/abc", "k", ("live", "abc/k", {}), id="obs-puts-the-path-into-app"),
        pytest.param("live", LIVE, "abc/k", ("live", "abc/k", {}), id="ffmpeg-puts-it-into-the-name"),
        pytest.param("live/key", LIVE + "/key", "", ("live", "key", {}), id="obs-with-an-empty-key"),
        pytest.param("live", LIVE, "", ("live", "", {}), id="nothing-at-all"),
        pytest.param("live/_definst_", LIVE, "key", ("live", "key", {}), id="fms-default-instance"),
        pytest.param("live", LIVE, "mp4:key", ("live", "key", {}), id="fms-prefix"),
        pytest.param("live", LIVE, "flv:key.flv", ("live", "key", {}), id="fms-prefix-and-suffix"),
        pytest.param("live", LIVE, ".flv", ("live", ".flv", {}), id="nothing-but-a-suffix"),
        pytest.param('"live"', LIVE, "key", ("live", "key", {}), id="quotes"),
        pytest.param("live", "'" + LIVE, "key", ("live", "key", {}), id="leading-quote-in-tcurl"),
        pytest.param("live", "", "key", ("live", "key", {}), id="no-tcurl"),
        pytest.param("live", LIVE, "key?token=x", ("live", "key", {"token": "x"}), id="query-in-the-name"),
        pytest.param("live", LIVE, "?key=x", ("live", "", {"key": "x"}), id="nothing-but-a-query"),
        pytest.param("live", LIVE, "key#token=x", ("live", "key", {"token": "x"}), id="hash-as-query"),
        pytest.param("live?token=x", LIVE + "?token=x", "key", ("live", "key", {"token": "x"}), id="query-in-app"),
        pytest.param("live?a=1", LIVE + "?a=2", "key?a=3&b=4", ("live", "key", {"a": "2", "b": "4"}), id="first-wins"),
        pytest.param("live?k=v/key", LIVE + "?k=v/key", "", ("live", "key", {"k": "v"}), id="fmle-query-before-stream"),
        pytest.param("live#k=v/key", LIVE + "#k=v/key", "", ("live", "key", {"k": "v"}), id="fmle-hash-before-stream"),
        pytest.param("live?t=a/b==", LIVE, "", ("live", "", {"t": "a/b=="}), id="a-token-with-a-slash-is-no-stream"),
        pytest.param("live/key?t=a/b", LIVE, "", ("live", "key", {"t": "a/b"}), id="a-slash-when-the-key-is-known"),
        pytest.param("live...vhost...cdn", LIVE, "key", ("live", "key", {"vhost": "cdn"}), id="srs-vhost"),
        pytest.param("live", LIVE, "key?a=1?b=2", ("live", "key", {"a": "1", "b": "2"}), id="second-question-mark"),
        pytest.param("live", LIVE, "key?a=1&amp;b=2", ("live", "key", {"a": "1", "b": "2"}), id="html-ampersand"),
        pytest.param("live", LIVE, "key?a=x+y/z=", ("live", "key", {"a": "x+y/z="}), id="base64-is-left-alone"),
        pytest.param("live", LIVE, "key?a=%2541", ("live", "key", {"a": "%41"}), id="values-decoded-once"),
        pytest.param("live", LIVE, "k%65y", ("live", "key", {}), id="names-decoded-once"),
        pytest.param("live", LIVE, "k%2565y", ("live", "k%65y", {}), id="names-not-decoded-twice"),
        pytest.param(
            "live", "rtmp://u:p%40@h/live", "key", ("live", "key", {"user": "u", "pass": "p@"}), id="userinfo"
        ),
        pytest.param("live", "rtmp://[::1]:1935/live?a=1", "key", ("live", "key", {"a": "1"}), id="ipv6"),
        pytest.param("live", LIVE, "key?a&b=&=c", ("live", "key", {"a": "", "b": ""}), id="parameters-without-value"),
        pytest.param("live", LIVE, "key?a=\x1b[0m&b=1", ("live", "key", {"b": "1"}), id="unprintable-value-dropped"),
    ],
)
def test_an_address_means_the_same_wherever_its_parts_stand(
    app: str, tc_url: str, name: str, expected: tuple[str, str, dict[str, str]]
) -> None:
    address = names.publish_address(app, tc_url, name)

    assert (address.app, address.name, revealed(address)) == expected


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("../../../../tmp/x", "name.dots"),
        ("a/../b", "name.dots"),
        ("a/./b", "name.dots"),
        ("..", "name.dots"),
        ("a\\..\\b", "name.dots"),
        ("%2e%2e%2fx", "name.dots"),
        ("%2e%2e/x", "name.dots"),
        ("key\n", "name.control"),
        ("k\x00y", "name.control"),
        ("k%00y", "name.control"),
        ("k\x1b[31my", "name.control"),
        ("k\u202ey", "name.control"),
        ("k\u200by", "name.control"),
        ("k\ud800y", "name.control"),
        ("k" * 1025, "name.long"),
        ("é" * 513, "name.long"),
        ("k" * 5000, "name.long"),
    ],
)
def test_a_key_that_could_do_harm_is_refused(name: str, code: str) -> None:
    with pytest.raises(BadNameError) as caught:
        names.publish_address("live", LIVE, name)

    assert caught.value.code == code


@pytest.mark.parametrize("key", ["k" * 1024, "FB-12-3-Ab?s_bl=1&s_psm=1", "a b", "é", "~!@$%^*()[]{}|;:'<>,`"])
def test_a_printable_key_of_up_to_1_kib_is_a_key(key: str) -> None:
    names.check_key(key)


@pytest.mark.parametrize(
    "name", ["a", "town-hall_2.main", "a/b/c/d", "A" * 128, "/".join(["a" * 63] * 4), "0", "-x", "a..b", "a."]
)
def test_the_grammar_admits(name: str) -> None:
    assert names.is_public_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "a/b/c/d/e",
        "A" * 129,
        "/".join(["a" * 127, "a" * 127]) + "/",
        "/".join(["a" * 127, "a" * 128, "a"])[:256].ljust(256, "a"),
        ".",
        "..",
        "../a",
        "a/..",
        ".hidden",
        "a\n",
        "a b",
        "a\x00",
        "é",
        "a\u0301",
        "а",  # Cyrillic
        "a?b",
        "a%2fb",
        "a\\b",
        "c:",
        "~",
        "$(id)",
        "`id`",
        "a;b",
        "a|b",
        "<script>",
        'a"b',
    ],
)
def test_the_grammar_refuses(name: str) -> None:
    assert not names.is_public_name(name)


def test_a_public_name_may_be_255_bytes_long_and_no_longer() -> None:
    name = "/".join(["a" * 127, "b" * 127])

    assert len(name) == 255
    assert names.is_public_name(name)
    assert not names.is_public_name(name + "b")


@given(st.text(max_size=40))
def test_only_ascii_segments_without_dots_in_front_are_public(name: str) -> None:
    expected = all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}", part) for part in name.split("/"))

    assert names.is_public_name(name) == (expected and name.count("/") < 4)


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_whatever_a_peer_sends_as_names_is_an_address_or_refused(app: str, tc_url: str, name: str) -> None:
    try:
        address = names.publish_address(app, tc_url, name)
    except BadNameError:
        return

    assert names.is_public_name(address.app)
    assert address.name == "" or address.name.isprintable()
    assert ".." not in address.name.split("/")


def test_a_play_name_must_be_public() -> None:
    assert names.play_address("live", LIVE, "show?token=1").name == "show"
    for name in ("", "a b", "a/b/c/d/e", ".m3u8"):
        with pytest.raises(BadNameError):
            names.play_address("live", LIVE, name)


@pytest.mark.parametrize("app", ["", "/", "?token=1", "..", "a b/key", "live/../x", "live\n", "a" * 129])
def test_an_app_that_is_none_is_refused(app: str) -> None:
    with pytest.raises(BadNameError):
        names.app_path(app)


def test_no_more_than_64_parameters_are_kept() -> None:
    many = "&".join(f"p{index}=1" for index in range(65))

    assert len(names.connect_query(f"{LIVE}?{many}", "live")) == 64


@pytest.mark.parametrize(
    ("scheme", "host", "port", "expected"),
    [
        ("rtmp", "relay.example", 1935, "rtmp://relay.example/live"),
        ("rtmp", "relay.example", None, "rtmp://relay.example/live"),
        ("rtmp", "relay.example", 443, "rtmp://relay.example:443/live"),
        ("rtmps", "relay.example", 443, "rtmps://relay.example/live"),
        ("rtmps", "relay.example", 1935, "rtmps://relay.example:1935/live"),
        ("rtmp", "::1", 1936, "rtmp://[::1]:1936/live"),
        ("rtmp", "[::1]", 1935, "rtmp://[::1]/live"),
    ],
)
def test_a_tcurl_leaves_the_default_port_out(scheme: str, host: str, port: int | None, expected: str) -> None:
    assert names.tc_url(scheme, host, port, "live") == expected


def test_an_address_shows_no_query_values() -> None:
    assert "hunter2" not in repr(names.publish_address("live", LIVE, "name?pass=hunter2").query)
