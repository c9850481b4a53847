from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import DestinationError
from relay.net.addresses import AddressPolicy
from relay.net.endpoints import parse_url
from relay.net.way import MAX_HOPS, PushPlace, Way, leads_on, redirect_of
from relay.rtmp.auth import Credentials
from relay.rtmp.events import ConnectRejected
from relay.secret import Secret

BOB = Credentials(user="bob", password=Secret("secret"))
NEED = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : "


def way(url: str = "rtmps://one.example/live?token=abc", **options: Any) -> Way:
    place = PushPlace(url=parse_url(url), key=Secret("key"), **options)
    return Way(place, place.url, bytes)


def rejected(description: str = "no", **info: Any) -> ConnectRejected:
    return ConnectRejected(code="NetConnection.Connect.Rejected", description=description, info=info)


@pytest.mark.parametrize(
    ("where", "tc_url"),
    [
        ("", "rtmps://one.example/live?token=abc"),
        ("rtmps://two.example/live", "rtmps://two.example/live"),
        ("rtmps://two.example:4443/app/inst?token=x", "rtmps://two.example:4443/app/inst?token=x"),
        ("rtmps://two.example", "rtmps://two.example/live?token=abc"),
        ("rtmps://two.example/", "rtmps://two.example/live?token=abc"),
        ("/other", "rtmps://one.example/other"),
        ("other?a=b", "rtmps://one.example/other?a=b"),
        ("//two.example/live", "rtmps://two.example/live"),
    ],
)
def test_a_redirect_is_read_as_the_server_means_it(where: str, tc_url: str) -> None:
    one = way()

    one.follow(where)

    assert one.url.tc_url.reveal() == tc_url


@pytest.mark.parametrize(
    "where",
    [
        "file:///etc/passwd",
        "file:/etc/passwd",
        "http://two.example/live",
        "https://two.example/live",
        "rtmpe://two.example/live",
        "javascript:alert(1)",
        "rtmps://",
        "rtmps://user:pass@two.example/live",
        "rtmps://good.example\\@127.0.0.1/live",
        "rtmps://two.example:0/live",
        "rtmps://two.example:99999/live",
        "rtmps://two.example/live\r\nX: y",
        "rtmps://two.example/" + "a" * 5000,
        "rtmps://[::1/live",
    ],
)
def test_anything_else_is_refused_and_not_repeated(where: str) -> None:
    one = way()

    with pytest.raises(DestinationError) as caught:
        one.follow(where)

    assert caught.value.reason == "redirect-refused"
    assert "two.example" not in str(caught.value)
    assert one.url.host == "one.example"


def test_tls_is_never_given_up() -> None:
    with pytest.raises(DestinationError, match="shows the key"):
        way().follow("rtmp://one.example/live")
    up = way("rtmp://one.example/live")
    up.follow("rtmps://two.example/live")
    with pytest.raises(DestinationError, match="shows the key"):
        up.follow("rtmp://one.example/live")


def test_another_server_is_checked_and_the_same_one_is_not() -> None:
    policy = AddressPolicy((ip_network("10.1.0.0/16"),))
    one = way(redirects=policy)
    assert one.policy is None

    one.follow("rtmps://one.example:443/other")
    assert one.policy is None
    one.follow("rtmps://10.1.2.3/live")
    assert one.policy is policy
    one.follow("rtmps://one.example/live")
    assert one.policy is policy, "a name may have got another address meanwhile"


def test_a_loop_of_redirects_ends() -> None:
    one = way()
    for number in range(MAX_HOPS):
        one.follow(f"rtmps://s{number}.example/live")

    with pytest.raises(DestinationError, match=f"more than {MAX_HOPS} times"):
        one.follow("rtmps://one.example/live")


def test_a_login_is_part_of_app_and_address() -> None:
    one = way(login=BOB)

    one.rejected(rejected(NEED))

    peer = one.connection()
    assert peer._connect_object()["app"] == "live?token=abc&authmod=adobe&user=bob"
    assert peer._connect_object()["tcUrl"] == "rtmps://one.example/live?token=abc&authmod=adobe&user=bob"
    assert one.url.tc_url.reveal() == "rtmps://one.example/live?token=abc"


def test_another_server_gets_a_login_of_its_own() -> None:
    one = way(login=BOB)
    one.rejected(rejected(NEED))

    one.rejected(rejected(ex={"code": 302.0, "redirect": "rtmps://two.example/live"}))

    assert one.connection()._connect_object()["app"] == "live"
    one.rejected(rejected(NEED))
    assert one.connection()._connect_object()["app"] == "live?authmod=adobe&user=bob"


def test_a_login_without_a_user_says_what_to_write() -> None:
    with pytest.raises(DestinationError, match="user and password") as caught:
        way().rejected(rejected(NEED))

    assert caught.value.reason == "auth-needed"


def test_a_rejection_that_leads_nowhere_is_the_last_word() -> None:
    with pytest.raises(DestinationError, match=r"NetConnection\.Connect\.Rejected: no") as caught:
        way(login=BOB).rejected(rejected("no"))

    assert caught.value.reason == "connect-rejected"


@pytest.mark.parametrize("ex", [None, 5.0, "rtmp://x", [], {}, {"redirect": 5.0}, {"redirect": None}])
def test_odd_redirects_are_none(ex: Any) -> None:
    assert redirect_of({"ex": ex}) == ""


def test_a_server_that_leads_on_is_well() -> None:
    assert leads_on(rejected(NEED), BOB)
    assert leads_on(rejected(ex={"redirect": "rtmps://two.example/live"}), None)
    assert not leads_on(rejected(NEED), None)
    assert not leads_on(rejected("no"), BOB)


@given(st.text(max_size=60) | st.text(alphabet="rtmps:/@\\.?#[]1a", max_size=30))
def test_any_text_leads_to_rtmp_or_nowhere(where: str) -> None:
    one = way()
    with suppress(DestinationError):
        one.follow(where)

    assert one.url.scheme == "rtmps"
