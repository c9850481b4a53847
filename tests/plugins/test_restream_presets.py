"""What is known about services, and the nearest server of those that publish a list."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from relay.api import Codec, Secret, parse_url
from relay.cli import main
from relay.testing import host_for
from relay_restream import RestreamPlugin
from relay_restream.ingests import AGAIN_S, FRESH_S, MAX_BYTES, IngestLists, fetch_with, nearest_of
from relay_restream.options import ApiTarget, Targets, Wanted
from relay_restream.presets import Preset, find_preset, preset_file, presets
from tests.helpers.reactor import NetTestCase, reactor

NAMED = ["youtube", "twitch", "facebook", "kick", "ivs", "x", "linkedin", "vimeo", "tiktok", "restream", "generic"]


def test_the_large_platforms_and_more_than_25_others_are_there() -> None:
    assert set(NAMED) <= set(presets())
    assert len(set(presets()) - set(NAMED)) >= 25
    assert re.fullmatch(r"20\d\d-\d\d", preset_file().checked)


@pytest.mark.parametrize("name", presets())
def test_a_preset_can_be_used(name: str) -> None:
    preset = find_preset(name)

    assert preset.source
    assert re.fullmatch(r"[a-z0-9-]+", name)
    for url in (preset.url, preset.backup_url):
        if url is not None:
            assert parse_url(url).display
    for codec in (*preset.video, *preset.audio):
        assert Codec(codec)
    assert preset.keyframe_limit_s is None or preset.keyframe_limit_s >= (preset.keyframe_s or 0)
    assert preset.url is not None or preset.note or name == "generic", "say where the address comes from"
    if name != "generic":
        assert preset.enhanced or set(preset.video) <= {"avc1"}, "other codecs exist in Enhanced RTMP only"
        assert preset.keyframe_limit_s is None or preset.keyframe_limit_s <= 8
    if preset.ingests is not None:
        assert preset.ingests.startswith("https://")
        assert preset.ingest_domains


def test_the_backup_of_youtube_keeps_its_query_apart_from_the_key() -> None:
    backup = parse_url(find_preset("youtube").backup_url or "")

    assert (backup.host, backup.app.reveal()) == ("b.rtmps.youtube.com", "live2?backup=1")


def test_presets_are_listed_one_a_line() -> None:
    lines = list(RestreamPlugin.preset_lines())

    assert [line.split()[0] for line in lines] == list(presets())
    assert lines[1].split()[-1] == "rtmps://a.rtmps.youtube.com:443/live2"


def test_the_command_line_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    assert capsys.readouterr().out.splitlines() == list(RestreamPlugin.preset_lines())


@pytest.mark.parametrize(
    ("preset", "options", "wanted"),
    [
        ("twitch", {}, (False, True, False)),
        ("youtube", {}, (False, False, True)),
        ("generic", {"url": "rtmp://8.8.8.8/a"}, (True, False, False)),
        ("twitch", {"tracks": "all", "enhanced_rtmp": "keep", "silent_audio": "on"}, (True, False, True)),
        ("youtube", {"enhanced_rtmp": "flatten", "silent_audio": "off"}, (False, True, False)),
    ],
)
def test_options_win_over_what_the_preset_says(preset: str, options: dict[str, Any], wanted: tuple[bool, ...]) -> None:
    target = ApiTarget.model_validate({"preset": preset, "key": "k", **options}, strict=True)
    tailoring = Wanted(name="t", options=target, trusted=True).tailoring

    assert (tailoring.multitrack, tailoring.legacy, tailoring.silent_audio) == wanted


# Lists of ingest servers.


def server(host: str, priority: float = 0, name: str = "x", *, secure: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "priority": priority,
        "url_template": f"rtmp://{host}/app/{{stream_key}}",
    }
    if secure:
        found["url_template_secure"] = f"rtmps://{host}:443/app/{{stream_key}}"
    return found


def body_of(*servers: Any) -> bytes:
    return json.dumps({"ingests": list(servers)}).encode()


@pytest.mark.parametrize(
    ("body", "nearest"),
    [
        (body_of(server("far.twitch.tv", 9), server("near.twitch.tv", 1)), "rtmps://near.twitch.tv:443/app"),
        (body_of(server("a.contribute.live-video.net", secure=False)), "rtmp://a.contribute.live-video.net/app"),
        (
            body_of(server("old.twitch.tv", 0, "EU (Deprecated)"), server("new.twitch.tv", 1)),
            "rtmps://new.twitch.tv:443/app",
        ),
        (body_of(server("old.twitch.tv", 0, "EU depracated")), None),
        (body_of(server("evil.example", 0), server("ok.twitch.tv", 1)), "rtmps://ok.twitch.tv:443/app"),
        (body_of(server("nottwitch.tv", 0)), None),
        (body_of(server("127.0.0.1", 0)), None),
        (body_of({"name": "x"}, {"url_template": 5}, server("ok.twitch.tv")), "rtmps://ok.twitch.tv:443/app"),
        (body_of("x"), None),
        (body_of(), None),
        (b'{"ingests": 5}', None),
        (b'{"ingests": [{"priority": "near"}]}', None),
        (b"[]", None),
        (b"", None),
        (b"[" * 100_000, None),
        (b"<html>", None),
    ],
)
def test_the_nearest_server_of_a_list(body: bytes, nearest: str | None) -> None:
    assert nearest_of(body, find_preset("twitch")) == nearest


class Web:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.waiting: list[Deferred[bytes]] = []
        self.now = 500.0
        self.jobs = 0
        self.wall = 1_800_000_000.0

    def __call__(self, url: str) -> Deferred[bytes]:
        self.asked.append(url)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def lists(self, directory: Path | None = None, *, offline: bool = False) -> IngestLists:
        fetch = None if offline else self
        return IngestLists(
            fetch=fetch,
            seconds=lambda: self.now,
            wall_clock=lambda: self.wall,
            directory=directory,
            log=Logger(),
            thread=self.thread,
        )

    def thread(self, work: Callable[..., object], *arguments: object) -> Deferred[Any]:
        self.jobs += 1
        return maybeDeferred(work, *arguments)


TWITCH = find_preset("twitch")
GOOD = body_of(server("near.twitch.tv"))
NEAR = "rtmps://near.twitch.tv:443/app"


def test_a_list_is_asked_for_once_and_used_when_it_is_there() -> None:
    web = Web()
    lists = web.lists()

    assert lists.nearest(find_preset("youtube")) is None
    assert lists.nearest(TWITCH) is None, "nobody waits"
    assert lists.nearest(TWITCH) is None
    assert web.asked == ["https://ingest.twitch.tv/ingests"]
    web.waiting[0].callback(GOOD)
    assert lists.nearest(TWITCH) == NEAR
    web.now += FRESH_S - 1
    assert lists.nearest(TWITCH) == NEAR
    assert len(web.asked) == 1
    web.now += 1
    assert lists.nearest(TWITCH) == NEAR, "an old one is better than none"
    assert len(web.asked) == 2


@pytest.mark.parametrize("answer", [ValueError("no"), b"rubbish"])
def test_a_list_that_does_not_come_is_asked_for_again_later(answer: Any) -> None:
    web = Web()
    lists = web.lists()
    lists.nearest(TWITCH)
    (web.waiting[0].callback if isinstance(answer, bytes) else web.waiting[0].errback)(answer)
    web.now += AGAIN_S - 1

    assert lists.nearest(TWITCH) is None
    assert len(web.asked) == 1
    web.now += 1
    lists.nearest(TWITCH)
    assert len(web.asked) == 2
    web.waiting[1].callback(GOOD)
    assert lists.nearest(TWITCH) == NEAR


def test_a_list_is_kept_on_disk_for_the_next_start(tmp_path: Path) -> None:
    web = Web()
    directory = tmp_path / "cache"
    lists = web.lists(directory)
    lists.nearest(TWITCH)
    web.waiting[0].callback(GOOD)
    again = web.lists(directory)

    assert again.nearest(TWITCH) == NEAR
    assert len(web.asked) == 1
    assert web.lists(directory, offline=True).nearest(TWITCH) == NEAR
    assert [path.suffix for path in directory.iterdir()] == [".json"]
    assert web.jobs == 1, "the disk is written to in a thread"
    web.wall += FRESH_S
    assert web.lists(directory).nearest(TWITCH) == NEAR, "an old one is better than none"
    assert len(web.asked) == 2


def test_a_date_that_is_set_does_not_keep_a_list_from_being_asked_for() -> None:
    web = Web()
    lists = web.lists()
    lists.nearest(TWITCH)
    web.waiting[0].callback(GOOD)
    web.wall -= 365 * 86_400
    web.now += FRESH_S
    lists.nearest(TWITCH)

    assert len(web.asked) == 2


@pytest.mark.parametrize(
    "kept",
    [
        "",
        "{}",
        "[]",
        '{"at": "x", "url": "rtmps://near.twitch.tv/app"}',
        '{"at": 1e12, "url": "rtmps://near.twitch.tv/app"}',
        '{"at": 1.0, "url": "rtmps://evil.example/app"}',
        '{"at": 1.0, "url": 5}',
    ],
)
def test_what_was_kept_is_not_believed_blindly(tmp_path: Path, kept: str) -> None:
    (tmp_path / "ingests-twitch.json").write_text(kept)

    assert Web().lists(tmp_path).nearest(TWITCH) is None


def test_a_directory_that_cannot_be_written_to_costs_nothing_but_the_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    web = Web()
    lists = web.lists(tmp_path / "file" / "below")
    lists.nearest(TWITCH)
    web.waiting[0].callback(GOOD)

    assert lists.nearest(TWITCH) == NEAR


class Answer(Resource):
    isLeaf = True

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__()
        self.status, self.body = status, body

    def render_GET(self, request: Request) -> bytes:
        request.setResponseCode(self.status)
        if self.status == 302:
            request.setHeader(b"Location", b"http://127.0.0.1:1/")
        return self.body


class TestFetching(NetTestCase):
    async def fetch(self, status: int, body: bytes) -> object:
        port = self.listen(Site(Answer(status, body)))  # type: ignore[no-untyped-call]
        try:
            return await fetch_with(reactor)(f"http://127.0.0.1:{port}/ingests")
        except Exception as error:
            return type(error).__name__

    async def test_a_list_is_fetched(self) -> None:
        assert await self.fetch(200, GOOD) == GOOD

    async def test_anything_else_is_an_error(self) -> None:
        assert await self.fetch(404, GOOD) == "ValueError"
        assert await self.fetch(302, GOOD) == "ValueError", "nobody is sent elsewhere"
        assert await self.fetch(200, b" " * (MAX_BYTES + 1)) == "ValueError"


def test_a_target_without_a_list_goes_to_the_presets_own_address() -> None:
    options = ApiTarget.model_validate({"preset": "twitch", "key": "k"}, strict=True)
    wanted = Wanted(name="t", options=options, trusted=True)

    assert wanted.url() == "rtmps://live.twitch.tv:443/app"
    assert wanted.url(NEAR) == NEAR
    assert isinstance(wanted.options.key.secret, Secret)
    assert isinstance(wanted.preset, Preset)


def test_a_list_is_asked_for_before_the_first_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(url: str) -> Deferred[bytes]:
        asked.append(url)
        return Deferred()

    monkeypatch.setattr("relay_restream.fetch_with", lambda clock: fetch)
    clock = Clock()
    streams = {"stage": {"own": {"preset": "twitch", "url": "rtmp://a.example/app", "key": "1"}}}
    host_for(RestreamPlugin, name="restream", streams=streams, clock=clock)
    clock.advance(0)
    assert asked == [], "it has an address of its own"

    streams["stage"]["twitch"] = {"preset": "twitch", "key": "2"}
    host_for(RestreamPlugin, name="restream", streams=streams, clock=clock)
    assert asked == [], "not before the reactor runs"
    clock.advance(0)

    assert asked == ["https://ingest.twitch.tv/ingests"]


def test_everything_that_is_known_of_a_preset_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "youtube"]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())

    assert (told["port"], told["keyframe_max_s"], told["end_on_fault"]) == ("443", "4.0", "clean")
    assert told["checked"] == preset_file().checked
    assert set(told) == {*Preset.model_fields, "port", "checked"}
    assert main(["presets", "yutube"]) == 2
    assert "did you mean youtube?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "title", "query"),
    [
        ("rtmp://live.twitch.tv/app", "Twitch", "bandwidthtest=true"),
        ("rtmps://fra05.contribute.twitch.tv:443/app", "Twitch", "bandwidthtest=true"),
        ("rtmps://fa723fc1b171.global-contribute.live-video.net:443/app", "Kick", ""),
        ("rtmps://b.rtmps.youtube.com:443/live2?backup=1", "YouTube Live", ""),
        ("rtmps://0123456789ab.global-contribute.live-video.net:443/app", None, ""),
        ("rtmp://live.twitch.tv.example/app", None, ""),
        ("rtmp://archive.example/live", None, ""),
    ],
)
def test_a_check_knows_a_service_by_its_address(url: str, title: str | None, query: str) -> None:
    place = RestreamPlugin.address_to_check(url)

    assert (None if place is None else place.title) == title
    assert place is None or (place.urls, place.test_query) == ([url], query)


def test_a_target_without_a_preset_is_tested_as_its_service_allows() -> None:
    targets = Targets.model_validate({"t": {"url": "rtmp://live.twitch.tv/app", "key": "k"}})

    place = RestreamPlugin.target_to_check(targets, "t")

    assert (place.title, place.test_query) == ("t", "bandwidthtest=true")
