"""HLS over HTTP: blocking reload, who may watch, ranges, and what is refused."""

from __future__ import annotations

import gzip
import re
from functools import cache
from typing import Any

import pytest

from twisted.web.http_headers import Headers

from relay.api import Allow, Deny, PlayRequest
from relay.testing import avc_frame
from relay_hls.serving import PIECE, send
from tests.helpers.hls import Stage, attribute, tag, uris
from tests.http.fakes import Answer, Peer


def playing(seconds: float = 30.3, **options: Any) -> Stage:
    """A stage on which a stream has been on for a while."""
    stage = Stage(**options)
    stage.start()
    stage.run(seconds)
    return stage


@cache
def shown(seconds: float = 9, *, locked: bool = False) -> Stage:
    """A stage that many tests look at and none changes."""
    return playing(seconds, answer=only_with_key if locked else None)


def last(stage: Stage) -> tuple[int, int]:
    """Number of the last complete segment, and how many parts the growing one has."""
    lines = stage.lines()
    number = int(tag(lines, "EXT-X-MEDIA-SEQUENCE")[0]) + len(uris(lines)) - 1
    ending = lines[max(i for i, line in enumerate(lines) if line in uris(lines)) :]
    return number, len(tag(ending, "EXT-X-PART"))


def begin(stage: Stage, path: str, host: str = "192.0.2.10") -> Peer:
    """Ask and do not wait."""
    peer = stage.peer(host)
    peer.begin("GET", f"/hls/{path}")
    stage.clock.advance(0)
    return peer


def answered(peer: Peer) -> bool:
    return bool(peer.transport.value())


# Blocking reload (RFC 8216bis 6.2.5.2).


@pytest.mark.parametrize(
    ("ahead", "part", "status"),
    [
        (-3, None, 200),
        (0, None, 200),
        (0, 0, 200),
        (0, 19, 200),
        (0, 20, 200),  # beyond its last part: the first of the next segment, which is there
        (0, 500, 200),
        (1, 0, 200),
        (1, None, None),
        (1, 19, None),
        (2, None, None),
        (2, 0, None),
        (3, None, 400),
        (9, 0, 400),
    ],
)
def test_a_playlist_is_held_until_it_has_what_is_asked_for(ahead: int, part: int | None, status: int | None) -> None:
    stage = shown(30.3)
    number, parts = last(stage)
    assert parts > 0
    peer = begin(stage, f"stage/main.m3u8?_HLS_msn={number + ahead}" + ("" if part is None else f"&_HLS_part={part}"))

    assert answered(peer) is (status is not None)
    if status is not None:
        assert peer.answer().status == status
    peer.hang_up()


@pytest.mark.parametrize(
    "query", ["_HLS_part=1", "_HLS_msn=x", "_HLS_msn=-1", "_HLS_msn=1.5", "_HLS_msn=", "_HLS_msn=1&_HLS_msn=2"]
)
def test_a_directive_that_is_none_is_refused(query: str) -> None:
    answer = shown().get(f"stage/main.m3u8?{query}")

    assert answer.status == 400
    assert answer.headers["cache-control"] == "no-store"


def test_unknown_directives_are_ignored() -> None:
    assert shown().get("stage/main.m3u8?_HLS_future=1&x=y").status == 200


def test_whoever_waits_for_a_part_gets_it_with_the_playlist_that_lists_it() -> None:
    stage = playing(10)
    number, parts = last(stage)
    peers = [begin(stage, f"stage/main.m3u8?_HLS_msn={number + 1}&_HLS_part={parts}") for _ in range(3)]
    [hint] = [attribute(value, "URI") for value in tag(stage.lines(), "EXT-X-PRELOAD-HINT")]
    hinted = begin(stage, f"stage/{hint}")
    assert not any(map(answered, [*peers, hinted]))
    stage.run(0.3)

    for peer in peers:
        answer = peer.answer()
        assert f'URI="{hint}"'.encode() in answer.body
        assert re.fullmatch(r"public, max-age=24", answer.headers["cache-control"])
        peer.hang_up()
    part = hinted.answer()
    assert part.status == 200
    assert part.body == stage.get(f"stage/{hint}").body
    hinted.hang_up()


def test_every_part_can_be_fetched_at_the_moment_it_is_listed() -> None:
    stage = playing(5)
    programme = stage.plugin.programme("stage")
    assert programme is not None
    [rendition] = programme.renditions()
    faults: list[str] = []

    def look() -> bool:
        text = stage.text("stage/main.m3u8")
        names = uris(text.splitlines())
        names += [attribute(line.partition(":")[2], "URI") for line in text.splitlines() if "URI=" in line[:90]]
        faults.extend(n for n in names if programme.file(n) is None and n not in text.rpartition("PRELOAD-HINT")[2])
        return False

    rendition.waiters.add(look, lambda good: None, 1000)
    stage.run(9)

    assert faults == []


def test_the_end_answers_everybody_who_waits() -> None:
    stage = playing(10)
    number, _ = last(stage)
    peer = begin(stage, f"stage/main.m3u8?_HLS_msn={number + 2}")
    [hint] = [attribute(value, "URI") for value in tag(stage.lines(), "EXT-X-PRELOAD-HINT")]
    hinted = begin(stage, f"stage/{hint}")
    stage.end()

    assert peer.answer().body.endswith(b"#EXT-X-ENDLIST\n")
    assert hinted.answer().status == 200
    peer.hang_up()
    hinted.hang_up()


def test_nobody_waits_longer_than_three_target_durations() -> None:
    stage = playing(10)
    number, _ = last(stage)
    peer = begin(stage, f"stage/main.m3u8?_HLS_msn={number + 2}")
    stage.end("closed")
    for _ in range(14):
        stage.clock.advance(1)
        stage.plugin.tick()
    stage.clock.advance(0)

    assert peer.answer().status == 503
    peer.hang_up()


def test_whoever_leaves_is_forgotten() -> None:
    stage = playing(10)
    number, _ = last(stage)
    programme = stage.plugin.programme("stage")
    assert programme is not None
    [rendition] = programme.renditions()
    peer = begin(stage, f"stage/main.m3u8?_HLS_msn={number + 2}")
    assert len(rendition.waiters) == 1
    peer.hang_up()

    assert len(rendition.waiters) == 0


def test_too_many_who_wait_are_refused() -> None:
    stage = playing(10)
    number, _ = last(stage)
    programme = stage.plugin.programme("stage")
    assert programme is not None
    [rendition] = programme.renditions()
    for _ in range(4_000):
        assert rendition.waiters.add(lambda: False, lambda good: None, 1000) is not None

    assert stage.get(f"stage/main.m3u8?_HLS_msn={number + 2}").status == 503


def test_a_delta_update_leaves_out_what_is_older_than_the_skip_boundary() -> None:
    stage = playing(50)
    full = stage.lines()
    delta = stage.lines("stage/main.m3u8?_HLS_skip=YES")
    [skipped] = tag(delta, "EXT-X-SKIP")
    count = int(skipped.removeprefix("SKIPPED-SEGMENTS="))

    assert count > 0
    assert uris(delta) == uris(full)[count:]
    assert 4 * len(uris(delta)) >= 24
    assert tag(delta, "EXT-X-MEDIA-SEQUENCE") == tag(full, "EXT-X-MEDIA-SEQUENCE")
    assert tag(full, "EXT-X-SKIP") == []


def test_a_delta_update_of_a_short_playlist_is_the_whole() -> None:
    stage = playing(20)

    assert stage.lines("stage/main.m3u8?_HLS_skip=YES") == stage.lines()


# Who may watch.

KEY = "play-key-0000000001"


def only_with_key(request: PlayRequest) -> Allow | Deny:
    key = request.query.get("key")
    return Allow() if key is not None and key.reveal() == KEY else Deny(public="this stream needs a play key")


def test_a_stream_for_everybody_has_plain_addresses_that_a_cache_may_keep() -> None:
    stage = playing(9)
    index = stage.get("stage/index.m3u8?key=whatever")

    assert "~" not in index.body.decode()
    assert index.headers["cache-control"] == "public, max-age=2"
    assert stage.get("stage/main.m3u8").headers["cache-control"] == "public, max-age=1"
    segment = stage.get("stage/" + uris(stage.lines())[0])
    assert segment.headers["cache-control"] == "public, max-age=120, immutable"


def test_a_key_opens_a_signed_address_that_carries_the_right_from_playlist_to_segment() -> None:
    stage = playing(9, answer=only_with_key)
    index = stage.get(f"stage/index.m3u8?key={KEY}")
    [media] = uris(index.body.decode().splitlines())
    token = media.partition("/")[0]
    playlist = stage.get(f"stage/{media}")
    [*_, segment] = uris(playlist.body.decode().splitlines())

    assert token.startswith("~")
    assert KEY not in index.body.decode() + playlist.body.decode()
    assert playlist.headers["cache-control"].startswith("private")
    assert stage.get(f"stage/{token}/{segment}").status == 200
    assert stage.get(f"stage/{token}/index.m3u8").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "index.m3u8",
        "index.m3u8?key=wrong",
        "main.m3u8",
        "main.m3u8?_HLS_msn=1",
        "{segment}",
        "{segment}?key=wrong",
        "~0.x/main.m3u8",
        "~/main.m3u8",
        "~ffffffff.AAAAAAAAAAAAAAAAAAAAAAAA/main.m3u8",
        "~zz.AAAAAAAAAAAAAAAAAAAAAAAA/{segment}",
    ],
)
def test_without_the_right_nothing_is_given(path: str) -> None:
    stage = shown(locked=True)
    programme = stage.plugin.programme("stage")
    assert programme is not None
    [rendition] = programme.renditions()
    answer = stage.get("stage/" + path.format(segment=rendition.listed[0].name))

    assert answer.status == 403
    assert answer.headers["cache-control"] == "no-store"


def test_a_token_is_for_one_stream_and_for_a_while() -> None:
    stage = playing(9, answer=only_with_key, access_s=60)
    stage.start("other")
    stage.run(9)
    [media] = uris(stage.text(f"stage/index.m3u8?key={KEY}").splitlines())

    assert stage.get(f"stage/{media}").status == 200
    assert stage.get(f"other/{media}").status == 403
    stage.clock.advance(61)
    assert stage.get(f"stage/{media}").status == 403


def test_a_media_playlist_asked_for_with_the_key_leads_to_its_signed_address() -> None:
    stage = playing(9, answer=only_with_key)
    answer = stage.get(f"stage/main.m3u8?key={KEY}")

    assert answer.status == 302
    assert stage.get("stage/" + answer.headers["location"]).status == 200


def test_whatever_is_asked_for_the_signed_address_is_one() -> None:
    location = playing(9, answer=only_with_key).get(f"stage/a%20b%3f%23.m3u8?key={KEY}").headers["location"]

    assert location.startswith("~")
    assert location.endswith("/a%20b%3F%23.m3u8")


def test_the_plugins_are_asked_once_in_a_while_and_told_who_asks() -> None:
    stage = playing(9)
    before = len(stage.gate.asked)
    for _ in range(20):
        stage.get("stage/main.m3u8")

    assert len(stage.gate.asked) == before + 1
    asked = stage.gate.asked[-1]
    assert (asked.stream_name, asked.peer, asked.tls, dict(asked.query)) == ("stage", "192.0.2.10", False, {})
    stage.clock.advance(11)
    stage.get("stage/main.m3u8")
    assert len(stage.gate.asked) == before + 2


def test_a_refusal_does_not_say_whether_there_is_such_a_stream() -> None:
    stage = playing(9, answer=only_with_key)

    assert stage.get("stage/index.m3u8").body == stage.get("nothing/index.m3u8").body


# HTTP.


@pytest.mark.parametrize(
    ("header", "first", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=10-", 10, None),
        ("bytes=-7", -7, None),
        ("bytes=5-999999999", 5, None),
        ("bytes=2000-6000", 2000, 6001),
    ],
)
def test_one_range_is_served(header: str, first: int, end: int | None) -> None:
    stage = shown()
    path = "stage/" + uris(stage.lines())[0]
    whole = stage.get(path).body
    answer = stage.get(path, Range=header)

    assert answer.status == 206
    assert answer.body == whole[first:end]
    start = first if first >= 0 else len(whole) + first
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(answer.body) - 1}/{len(whole)}"


@pytest.mark.parametrize(
    "header",
    ["bytes=0-,0-", "bytes=0-1,3-4", "bytes=9-2", "bytes=-", "items=0-1", "bytes=a-b", "bytes=" + "0-," * 2000],
)
def test_what_is_not_one_range_gets_the_whole(header: str) -> None:
    stage = shown()
    path = "stage/" + uris(stage.lines())[0]

    answer = stage.get(path, Range=header)
    assert answer.status == 200
    assert len(answer.body) == len(stage.get(path).body)


@pytest.mark.parametrize("header", ["bytes=999999999-", "bytes=-0"])
def test_a_range_of_nothing_is_refused(header: str) -> None:
    stage = shown()
    answer = stage.get("stage/" + uris(stage.lines())[0], Range=header)

    assert answer.status == 416
    assert answer.headers["content-range"].startswith("bytes */")


def test_a_range_of_what_somebody_had_before_is_the_whole() -> None:
    stage = shown()
    path = "stage/" + uris(stage.lines())[0]

    assert stage.get(path, Range="bytes=0-9", If_Range='"a"').status == 200  # RFC 9110 13.1.5: we gave no validator


@pytest.mark.parametrize("path", ["stage/index.m3u8", "stage/main.m3u8", "{segment}", "stage/none.m4s"])
def test_head_is_get_without_the_body(path: str) -> None:
    stage = shown()
    path = path.format(segment="stage/" + uris(stage.lines())[0])
    get, head = stage.get(path), stage.get(path, method="HEAD")

    assert head.body == b""
    assert (head.status, {**head.headers, "date": ""}) == (get.status, {**get.headers, "date": ""})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
def test_other_methods_are_refused(method: str) -> None:
    assert shown().get("stage/main.m3u8", method=method).status == 405


def test_a_page_of_another_site_may_read_everything_and_send_nothing() -> None:
    stage = shown()
    preflight = stage.get("stage/main.m3u8", method="OPTIONS", Origin="null")
    answers: list[Answer] = [
        preflight,
        stage.get("stage/main.m3u8", Origin="https://evil.example"),
        stage.get("stage/none.m4s", Origin="https://evil.example"),
    ]

    assert [answer.headers["access-control-allow-origin"] for answer in answers] == ["*"] * 3
    assert not any("access-control-allow-credentials" in answer.headers for answer in answers)
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-headers"] == "Range"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "stage",
        "stage/",
        "stage/main",
        "stage/main.m3u8/",
        "stage/../stage/main.m3u8",
        "stage/%2e%2e/main.m3u8",
        "stage//main.m3u8",
        "stage%2fmain.m3u8",
        "st%00age/main.m3u8",
        "stage/%ff.m4s",
        "stage/main.m3u8%0a#EXTM3U",
        "a/b/c/d/e/index.m3u8",
        "*/index.m3u8",
        "nothing/index.m3u8",
        "stage/6-main-1.m4s",
    ],
)
def test_there_is_nothing_but_what_is_listed(path: str) -> None:
    answer = shown().get(path)

    assert answer.status == 404
    assert answer.headers["cache-control"] == "no-store"


def test_a_playlist_is_compressed_for_those_who_like_it() -> None:
    stage = shown()
    packed = stage.get("stage/main.m3u8", Accept_Encoding="gzip, br")

    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(packed.body).decode() == stage.text("stage/main.m3u8")
    for header in ("gzip;q=0", "br, gzip; q=0.0", "identity", "xgzip"):
        assert "content-encoding" not in stage.get("stage/main.m3u8", Accept_Encoding=header).headers, header


def test_names_of_several_segments_work() -> None:
    stage = Stage()
    stage.start("tenant/room/stage")
    stage.run(9)

    assert uris(stage.text("tenant/room/stage/index.m3u8").splitlines()) == ["main.m3u8"]
    assert stage.get("tenant/room/stage/" + uris(stage.lines("tenant/room/stage/main.m3u8"))[0]).status == 200


def test_a_large_segment_goes_out_as_fast_as_the_viewer_reads() -> None:
    stage = Stage(part_ms=0)
    stage.start()
    stage.play(avc_frame(40 * n, keyframe=n % 25 == 0, size=20_000) for n in range(250))
    path = uris(stage.lines())[0]
    programme = stage.plugin.programme("stage")
    assert programme is not None
    file = programme.file(path)
    assert file is not None
    written: list[bytes] = []
    request = FakeRequest(written)
    send(request, file.pieces, file.size)
    before = sum(map(len, written))
    request.producer.resumeProducing()

    assert before <= PIECE < file.size
    assert sum(map(len, written)) - before <= PIECE
    while not request.finished:
        request.producer.resumeProducing()
    assert b"".join(written) == file.pieces[0]


class FakeRequest:
    """A request whose transport is full after each write."""

    method = b"GET"
    finished = False
    producer: Any = None

    def __init__(self, written: list[bytes]) -> None:
        self.responseHeaders = Headers()
        self._written = written

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self._written.append(data)
        self.producer.pauseProducing()

    def finish(self) -> None:
        self.finished = True
