from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted.internet.testing import MemoryReactorClock

from relay.errors import ConfigError
from relay.net.endpoints import endpoint_for, parse_url
from relay.net.trust import Trust

KEY = "canary-9f8e7d6c5b4a"


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "app", "tc_url"),
    [
        ("rtmp://a.example/live", "rtmp", "a.example", 1935, "live", "rtmp://a.example/live"),
        ("rtmp://a.example:1935/live", "rtmp", "a.example", 1935, "live", "rtmp://a.example/live"),
        ("rtmp://a.example:1936/live", "rtmp", "a.example", 1936, "live", "rtmp://a.example:1936/live"),
        ("rtmps://a.example/live", "rtmps", "a.example", 443, "live", "rtmps://a.example/live"),
        ("rtmps://a.example:443/rtmp/", "rtmps", "a.example", 443, "rtmp", "rtmps://a.example/rtmp"),
        ("rtmps://a.example:1935/live", "rtmps", "a.example", 1935, "live", "rtmps://a.example:1935/live"),
        ("RTMPS://A.Example/Live", "rtmps", "a.example", 443, "Live", "rtmps://a.example/Live"),
        ("rtmp://192.0.2.7/a/b", "rtmp", "192.0.2.7", 1935, "a/b", "rtmp://192.0.2.7/a/b"),
        ("rtmp://[2001:db8::7]/live", "rtmp", "2001:db8::7", 1935, "live", "rtmp://[2001:db8::7]/live"),
        ("rtmp://[::1]:19350/live", "rtmp", "::1", 19350, "live", "rtmp://[::1]:19350/live"),
        (
            "rtmp://b.rtmp.youtube.com/live2?backup=1",
            "rtmp",
            "b.rtmp.youtube.com",
            1935,
            "live2?backup=1",
            "rtmp://b.rtmp.youtube.com/live2?backup=1",
        ),
        (
            f"rtmps://a.example/live?sig={KEY}&x=a?b",
            "rtmps",
            "a.example",
            443,
            f"live?sig={KEY}&x=a?b",
            f"rtmps://a.example/live?sig={KEY}&x=a?b",
        ),
    ],
)
def test_good_addresses(text: str, scheme: str, host: str, port: int, app: str, tc_url: str) -> None:
    url = parse_url(text)

    assert (url.scheme, url.host, url.port, url.app.reveal()) == (scheme, host, port, app)
    assert url.tc_url.reveal() == tc_url
    assert url.tls is (scheme == "rtmps")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must start with rtmp"),
        ("a.example/live", "must start with rtmp"),
        ("http://a.example/live", "must start with rtmp"),
        ("rtmpt://a.example/live", "must start with rtmp"),
        ("file:///etc/passwd", "must start with rtmp"),
        ("rtmp:a.example/live", "names no host"),
        ("rtmp:///live", "names no host"),
        ("rtmp://:1935/live", "names no host"),
        ("rtmp://a.example", "names no app"),
        ("rtmp://a.example/", "names no app"),
        ("rtmp://a.example//", "names no app"),
        ("rtmp://a.example/?key=x", "names no app"),
        ("rtmp://a.example:0/live", "port"),
        ("rtmp://a.example:65536/live", "not an address"),
        ("rtmp://a.example:-1/live", "not an address"),
        ("rtmp://a.example:x/live", "not an address"),
        ("rtmp://[::1/live", "not an address"),
        ("rtmp://user@a.example/live", "user name"),
        (f"rtmp://user:{KEY}@a.example/live", "user name"),
        ("rtmp://@a.example/live", "user name"),
        ("rtmp://good\\@127.0.0.1/live", "backslashes"),
        (f"rtmp://a.example/{'a' * 4096}", "at most 4096 characters"),
        ("rtmp://a.example/live key", "spaces"),
        ("rtmp://a.example/live\n", "control"),
        ("rtmp://a.example/live\x00", "control"),
        ("rtmp://a.example/live\x7f", "control"),
        ("rtmp://a.example/live#x", "'#'"),
        ("rtmp://a..example/live", "host"),
        ("rtmp://" + "a" * 64 + ".example/live", "host"),
        ("rtmp://.example/live", "host"),
    ],
)
def test_bad_addresses_are_refused_with_what_to_write_instead(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse_url(text, "streams.show.restream.x.url")

    assert caught.value.path == "streams.show.restream.x.url"
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtmp://a.example/live", "rtmp://a.example/live"),
        (f"rtmps://a.example:444/live?key={KEY}", "rtmps://a.example:444/live"),
        (f"rtmp://a.example/live/{KEY}", "rtmp://a.example/live/***"),
        (f"rtmp://a.example//{KEY}", "rtmp://a.example//***"),
        ("rtmp://[::1]/live/", "rtmp://[::1]/live"),
    ],
)
def test_what_is_printed_never_holds_a_query_or_what_may_be_a_key(text: str, shown: str) -> None:
    url = parse_url(text)

    assert url.display == shown
    assert KEY not in repr(url)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    for candidate in (text, f"rtmp://{text}", f"rtmps://a.example/{text}"):
        try:
            url = parse_url(candidate)
        except ConfigError:
            continue
        assert url.host
        assert url.app.reveal()
        assert "?" not in url.display
        endpoint_for(MemoryReactorClock(), url, timeout_s=1)


@pytest.mark.parametrize("option", ["ca_file", "crl_file"])
@pytest.mark.parametrize("content", [None, "", "no certificate", "-----BEGIN X509 CRL-----\nx\n-----END X509 CRL-----"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, option: str, content: str | None) -> None:
    path = tmp_path / "some.pem"
    if content is not None:
        path.write_text(content)
    reactor: Any = MemoryReactorClock()

    with pytest.raises(ConfigError, match=rf"^{option}: .*some\.pem") as raised:
        endpoint_for(reactor, parse_url("rtmps://a.example/live"), trust=Trust(**{option: path}), timeout_s=1)

    assert ("No such file" in str(raised.value)) == (content is None)
