from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from twisted.internet.task import Clock
from twisted.web.resource import Resource

from relay.http.site import RelaySite, make_site
from relay.secret import Secret
from tests.http.fakes import FakeState, ask, site_of

STATIC = Path(__file__).parents[2] / "relay" / "http" / "static"
VENDORED = sorted(STATIC.glob("vendor/*/vendor.json"))
PAGES = ["/", "/watch/townhall"]


def framed_site(clock: Clock, *sites: str) -> RelaySite:
    return make_site(FakeState(), token=None, resources={}, clock=clock, embed_in=sites)


@pytest.mark.parametrize("path", [*PAGES, "/static/watch.js", "/static/base.css"])
@pytest.mark.parametrize("token", [None, "canary-0123456789abcdef"])
def test_pages_need_no_token_and_are_answered_to_any_name(clock: Clock, path: str, token: str | None) -> None:
    answer = ask(site_of(clock, token=token), path, Host="relay.example")

    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-cache"


def test_the_list_of_streams_stays_behind_the_token(clock: Clock) -> None:
    site = make_site(FakeState(), token=Secret("canary-0123456789abcdef"), resources={}, clock=clock)

    assert b"townhall" not in ask(site, "/").body
    assert ask(site, "/api/v1/streams").status == 401


@pytest.mark.parametrize("name", ["townhall", "a/b/c/d", "A-Z_0.9", "not-on-air"])
def test_every_possible_stream_has_a_watch_page(clock: Clock, name: str) -> None:
    answer = ask(site_of(clock), f"/watch/{name}?key=canary-key")

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert b"canary-key" not in answer.body


@pytest.mark.parametrize("name", ["", "a/", "a/b/c/d/e", ".hidden", "a%20b", "%3Cscript%3E", "a%2fb", "x" * 129, "%ff"])
def test_what_cannot_be_a_stream_has_none(clock: Clock, name: str) -> None:
    assert ask(site_of(clock), f"/watch/{name}").status == 404


def test_the_page_knows_whether_there_are_playlists(clock: Clock) -> None:
    assert b'data-hls="off"' in ask(site_of(clock), "/watch/x").body
    assert b'data-hls="on"' in ask(site_of(clock, resources={"hls": Resource()}), "/watch/x").body


# Frames.


def test_only_the_watch_page_can_be_framed(clock: Clock) -> None:
    site = site_of(clock)

    assert "frame-ancestors 'self' *" in ask(site, "/watch/x").headers["content-security-policy"]
    assert "x-frame-options" not in ask(site, "/watch/x").headers
    for path in ("/", "/static/watch.js", "/healthz", "/watch", "/watch/.."):
        answer = ask(site, path)
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"


def test_frames_can_be_limited_to_some_sites(clock: Clock) -> None:
    answer = ask(framed_site(clock, "https://www.example", "https://*.other.example"), "/watch/x")

    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'self' https://www.example https://*.other.example" in policy


def test_frames_can_be_forbidden(clock: Clock) -> None:
    answer = ask(framed_site(clock), "/watch/x")

    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-frame-options"] == "DENY"


# Files.


def test_a_file_is_compressed_for_who_can_take_it(clock: Clock) -> None:
    site = site_of(clock)
    plain = ask(site, "/static/watch.js")

    packed = ask(site, "/static/watch.js", Accept_Encoding="br, gzip;q=0.8")

    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(packed.body) == plain.body == (STATIC / "watch.js").read_bytes()


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_browser_that_has_a_file_is_told_so(clock: Clock, coding: str) -> None:
    site = site_of(clock)
    first = ask(site, "/watch/x", Accept_Encoding=coding)

    again = ask(site, "/watch/x", Accept_Encoding=coding, If_None_Match=first.headers["etag"])

    assert (again.status, again.body) == (304, b"")
    assert "frame-ancestors 'self' *" in again.headers["content-security-policy"]


def test_vendored_files_are_kept_for_ever(clock: Clock) -> None:
    path = next(STATIC.glob("vendor/hls-*/hls.min.mjs")).relative_to(STATIC)

    answer = ask(site_of(clock), f"/static/{path}")

    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("path", PAGES)
def test_head_is_get_without_its_body(clock: Clock, path: str) -> None:
    site = site_of(clock)

    head = ask(site, path, "HEAD")

    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(ask(site, path).body))
    assert ask(site, path, "POST").status == 405


# What the files hold.


def test_vendored_files_are_what_was_recorded() -> None:
    assert VENDORED
    for record_file in VENDORED:
        record = json.loads(record_file.read_text())
        found = {path.name for path in record_file.parent.iterdir()} - {"vendor.json"}
        assert set(record["sha256"]) == found
        assert "LICENSE" in found
        for name, digest in record["sha256"].items():
            content = (record_file.parent / name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == digest, name
            assert b"sourceMappingURL" not in content


def test_the_pages_name_the_vendored_version_that_is_there() -> None:
    named = re.findall(r"/static/(vendor/[^/\"]+)/", (STATIC / "engines.js").read_text())

    assert named
    assert all((STATIC / folder / "vendor.json").exists() for folder in named)


OWN = sorted(path for path in STATIC.glob("*.*") if path.suffix in {".html", ".js", ".css"})


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_no_page_has_inline_code_or_foreign_addresses(path: Path) -> None:
    text = path.read_text()

    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=\"|javascript:", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    assert not re.search(r"localStorage|sessionStorage|document\.cookie|indexedDB", text)
    assert not re.search(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_every_file_that_a_page_names_exists(path: Path) -> None:
    for name in re.findall(r"[\"'(]/static/([^\"'`)$]+\.[a-z]+)[\"')]", path.read_text()):
        assert (STATIC / name).is_file(), name
