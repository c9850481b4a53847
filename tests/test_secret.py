"""Secrets and the redaction of what people paste where keys belong."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.secret import KEPT_GONE, Redactor, Secret, redact_url, redact_urls

KEY = "abcd-1234-EFGH-5678"

URLS = [
    (f"rtmp://h/app/{KEY}", "rtmp://h/app/***"),
    (f"rtmp://h:1935/live2/{KEY}", "rtmp://h:1935/live2/***"),
    (
        f"rtmps://live-api-s.facebook.com:443/rtmp/{KEY}?s_bl=1&a={KEY}",
        "rtmps://live-api-s.facebook.com:443/rtmp/***?s_bl=***&a=***",
    ),
    ("rtmp://h/app", "rtmp://h/app"),
    ("rtmp://h/app/", "rtmp://h/app/"),
    ("rtmp://h", "rtmp://h"),
    (f"rtmp://h/app/inst/{KEY}", "rtmp://h/app/***"),
    (f"rtmp://{KEY}99", "rtmp://***"),
    (f"rtmp://h//{KEY}", "rtmp://h//***"),
    (f"rtmp://user:{KEY}@h/app/{KEY}", "rtmp://***@h/app/***"),
    (f"rtmp://{KEY}@h/app", "rtmp://***@h/app"),
    (f"rtmp://user:{KEY}/x@h/app", "rtmp://***"),
    (f"rtmp://u:p@{KEY}@h/app", "rtmp://***@h/app"),
    (f"rtmp://h/app?key={KEY}", "rtmp://h/app?key=***"),
    (f"rtmp://h/app?a=1?token={KEY}", "rtmp://h/app?a=***&token=***"),
    (f"rtmp://h/app?{KEY}", "rtmp://h/app?***"),
    (f"rtmp://h/app?user=u&pass={KEY}", "rtmp://h/app?user=***&pass=***"),
    (f"rtmp://h/app;key={KEY}", "rtmp://h/***"),
    (f"rtmp://h/app#{KEY}", "rtmp://h/app#***"),
    (f"rtmp://h/{KEY}{KEY}", "rtmp://h/***"),
    (f"rtmp://h/live_{KEY}_0a1b2c3d4e", "rtmp://h/***"),
    (f"RTMP://H/app/{KEY}", "rtmp://H/app/***"),
    (f"rtmp:\\\\h\\app\\{KEY}", "rtmp://h/app/***"),
    (f"rtmp:/h/app/{KEY}", "rtmp://h/app/***"),
    (f"rtmp:///h/app/{KEY}", "rtmp://***"),
    (f"rtmp://[::1]:1935/app/{KEY}", "rtmp://[::1]:1935/app/***"),
    (f"rtmp://[::1%eth0]/app/{KEY}", "rtmp://[::1%eth0]/app/***"),
    (f"rtmp://h:{KEY}/app", "rtmp://***"),
    (f"rtmp://h {KEY}/app", "rtmp://***"),
    (f"rtmp://h/app/%41{KEY}", "rtmp://h/app/***"),
    (f"rtmp://h/a%2f{KEY}", "rtmp://h/***"),
    (f"rtmp://h/app {KEY}", "rtmp://h/***"),
    (f"rtmpt://h/app/{KEY}", "rtmpt://h/app/***"),
    (f"rtmpe://h/app/{KEY}", "rtmpe://h/app/***"),
    (f"rtmpts://h/app/{KEY}", "rtmpts://h/app/***"),
    (f"rtsp://u:{KEY}@h:554/app/{KEY}", "rtsp://***@h:554/app/***"),
    (f"srt://h:9000?streamid={KEY}&passphrase={KEY}", "srt://h:9000?streamid=***&passphrase=***"),
    (f"srt://h:9000?streamid=publish/{KEY}", "srt://h:9000?streamid=***"),
    (f"http://h/whip?token={KEY}", "http://h/whip?token=***"),
    (f"https://u:{KEY}@h/hook?signature={KEY}", "https://***@h/hook?signature=***"),
    ("https://h/hls/townhall/index.m3u8", "https://h/hls/townhall/index.m3u8"),
    ("https://h/api/webhooks/112233445566778899aa/tokenTOKEN1234567890abcd", "https://h/api/webhooks/***/***"),
    (f"https://h/x?sig={KEY}&amp;exp=1", "https://h/x?sig=***&***&exp=***"),
    (f"ws://h/live?auth={KEY}", "ws://h/live?auth=***"),
    (f"wss://h/live?{KEY}", "wss://h/live?***"),
    ("https://h/x?a=1&b=2", "https://h/x?a=***&b=***"),
    (f"ftp://u:{KEY}@h/x/{KEY}", "ftp://***@h/x/***"),
    (f"redis://:{KEY}@h:6379/0", "redis://***@h:6379/0"),
    (f"h/app/{KEY}", "***"),
    (KEY, "***"),
    ("", "***"),
    (f"rtmp:{KEY}", "***"),
    (f"rtmp://?{KEY}", "rtmp://***"),
    (f"rtmp:///{KEY}?x", "rtmp://***"),
    (f"rtmp://h/{KEY}@x/app", "rtmp://***"),
    (f"rtmp://h/app/x y?key={KEY}", "rtmp://h/app/***?key=***"),
    (f"rtmp://h/app/?key={KEY}", "rtmp://h/app/?key=***"),
    (f"rtmp://h/app?=&key={KEY}", "rtmp://h/app?***&key=***"),
    (f"rtmp://h/app?{KEY}=1", "rtmp://h/app?***"),
]


@pytest.mark.parametrize(("url", "shown"), URLS)
def test_an_address_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@given(st.text(st.sampled_from("rtmp:/\\@?#&;=.[]%ab1 "), max_size=40))
def test_redaction_of_anything_ends_and_is_stable(text: str) -> None:
    once = redact_url("rtmp://" + text)

    assert redact_url(once) == once


def test_addresses_inside_text_are_redacted() -> None:
    text = f"cannot push to rtmp://h/app/{KEY}, 'rtmps://u:p@h2/x?k={KEY}' or plain text"

    assert redact_urls(text) == "cannot push to rtmp://h/app/*** 'rtmps://***@h2/x?k=***' or plain text"


def test_text_without_addresses_is_left_alone() -> None:
    assert redact_urls("12:30: a/b c:d") == "12:30: a/b c:d"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the key hunter2hunter2 is", "the key *** is"),
        ("xhunter2hunter2y", "x***y"),
        ("hunter2hunter2hunter2hunter2", "******"),
        ("p%40ss%2Fword%21", "***"),
        ("p@ss/word!", "***"),
        ("short in shortest", "*** in shortest"),
        ("abc", "abc"),
        ("", ""),
    ],
)
def test_known_secrets_are_replaced(text: str, shown: str) -> None:
    redactor = Redactor([Secret("hunter2hunter2"), Secret("p@ss/word!"), Secret("short"), Secret("abc")])

    assert redactor.redact(text) == shown


def test_the_longest_of_two_secrets_with_one_beginning_is_replaced_whole() -> None:
    redactor = Redactor([Secret("abcd1234"), Secret("abcd1234-and-more")])

    assert redactor.redact("abcd1234-and-more abcd1234") == "*** ***"


def held(redactor: Redactor, number: int) -> str:
    """Hold a secret that nobody keeps; return it."""
    redactor.hold(Secret(f"canary-{number:07}"))
    return f"canary-{number:07}"


def test_a_secret_that_is_gone_is_forgotten_behind_so_many_newer_ones() -> None:
    redactor = Redactor()
    first, second = held(redactor, 1), held(redactor, 2)
    for number in range(3, KEPT_GONE + 2):
        held(redactor, number)
    assert redactor.redact(f"{first} {second}") == "*** ***"

    redactor.hold(Secret("canary-the-last-one"))

    assert redactor.redact(f"{first} {second}") == f"{first} ***"


def test_a_secret_that_somebody_has_is_never_forgotten() -> None:
    redactor = Redactor([Secret("of-the-configuration")])
    live = Secret("canary-that-lives")
    redactor.hold(live)
    redactor.hold(Secret("of-the-configuration"))
    for number in range(2 * KEPT_GONE):
        held(redactor, number)

    assert redactor.redact("canary-that-lives of-the-configuration") == "*** ***"


def test_a_secret_that_came_twice_is_hidden_as_long_as_one_of_them_is_there() -> None:
    redactor = Redactor()
    redactor.hold(Secret("canary-twice"))
    again = Secret("canary-twice")
    redactor.hold(again)
    for number in range(2 * KEPT_GONE):
        held(redactor, number)

    assert redactor.redact("canary-twice") == "***"
    del again
    for number in range(2 * KEPT_GONE):
        held(redactor, number)
    assert redactor.redact("canary-twice") == "canary-twice"


@given(st.text(max_size=30), st.text(st.characters(codec="utf-8"), min_size=8, max_size=20), st.text(max_size=30))
def test_no_secret_of_eight_characters_survives(before: str, secret: str, after: str) -> None:
    redactor = Redactor([Secret(secret)])

    assert secret not in redactor.redact(before + secret + after).replace("***", "\0")


def test_a_secret_cannot_be_printed_compared_or_stored_by_accident() -> None:
    secret = Secret(KEY)

    assert KEY not in f"{secret} {secret!r} {secret:>10} %s %r" % (secret, secret)
    assert secret != KEY
    assert secret == Secret(KEY)
    for store in (pickle.dumps, json.dumps):
        with pytest.raises(TypeError):
            store(secret)


def test_secrets_with_any_characters_compare() -> None:
    assert Secret("ключ\ud800").matches(Secret("ключ\ud800"))
    assert not Secret("ключ").matches(Secret("klyuch"))
