"""`/watch/STREAM` over playlists that FFmpeg wrote: what the page does about streams, keys, choices and people."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Browser, wait_for
from tests.browser.conftest import Site
from tests.integration.harness import Program, ffmpeg9

pytestmark = pytest.mark.integration

STATE = "document.getElementById('player')?.dataset.state"
PLAYS = f"return {STATE} === 'playing' && document.getElementById('video').currentTime > 0"


MULTIVARIANT = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="Floor",LANGUAGE="en",DEFAULT=YES,CHANNELS="1",URI="media-2.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="<img src=/xss>Fr",LANGUAGE="fr",DEFAULT=NO,CHANNELS="1",URI="media-3.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=400000,RESOLUTION=320x180,CODECS="avc1.42C00C,mp4a.40.2",AUDIO="a"
media-0.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=200000,RESOLUTION=160x90,CODECS="avc1.42C00B,mp4a.40.2",AUDIO="a"
media-1.m3u8
"""


@pytest.fixture(scope="session")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A live stream `show` of two qualities and two sound tracks, as a folder of playlists that goes on."""
    folder = tmp_path_factory.mktemp("ladder")
    source, show = folder / "source.mkv", folder / "show"
    show.mkdir()
    quiet = [ffmpeg9(), "-nostdin", "-loglevel", "error", "-y"]
    video = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "15", "-bf", "0", "-pix_fmt", "yuv420p"]
    sizes = ["-s:v:0", "320x180", "-s:v:1", "160x90", "-b:v:0", "300k", "-b:v:1", "100k"]
    made = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15", "-f", "lavfi", "-i", "sine=sample_rate=48000"]
    maps = ["-map", "0:v", "-map", "0:v", "-map", "1:a", "-map", "1:a"]
    subprocess.run(
        [*quiet, *made, "-t", "10", *maps, *video, *sizes, "-c:a", "aac", "-b:a", "64k", source], check=True, timeout=60
    )
    tracks = "v:0,agroup:a v:1,agroup:a a:0,agroup:a,language:en,default:yes a:1,agroup:a,language:fr"
    hls = ["-hls_time", "1", "-hls_list_size", "12", "-hls_segment_type", "fmp4"]
    hls += ["-hls_flags", "delete_segments+program_date_time+independent_segments", "-var_stream_map", tracks]
    hls += ["-hls_fmp4_init_filename", "init-%v.mp4", "-hls_segment_filename", str(show / "s-%v-%d.m4s")]
    copy = ["-re", "-stream_loop", "-1", "-i", str(source), "-map", "0", "-c", "copy", "-f", "hls", *hls]
    with Program([*quiet, *copy, str(show / "media-%v.m3u8")]) as program:
        wait_for((show / "s-0-2.m4s").exists, "live playlist")
        (show / "index.m3u8").write_text(MULTIVARIANT)
        yield folder
        assert program.running, program.tail


@pytest.fixture
def stage(ladder: Path) -> Iterator[Path]:
    """Its `status` file decides what playlists are answered with; it is gone after the test."""
    status = ladder / "status"
    status.unlink(missing_ok=True)
    yield status
    status.unlink(missing_ok=True)


def test_a_programme_that_is_not_on_air_starts_by_itself(
    browser: Browser, site: Callable[..., Site], ladder: Path, stage: Path
) -> None:
    stage.write_text("404")
    page = site(hls=ladder)
    browser.open(page.url("/watch/show"))
    browser.wait(f"return {STATE} === 'off-air'", "words for a stream that is not there")
    assert browser.text("#message") == "Not on air"

    stage.unlink()
    browser.wait(PLAYS, "picture")

    assert browser.text("#badge") == "Live"
    assert browser.complaints() == []


def test_a_key_reaches_the_playlist_and_nothing_else(
    browser: Browser, site: Callable[..., Site], ladder: Path, stage: Path
) -> None:
    page = site(hls=ladder)

    browser.open(page.url("/watch/show?key=canary%26+key&other=x"))
    browser.wait(PLAYS, "picture")

    keyed = {path for path in page.asked if "canary" in path}
    assert keyed == {"/watch/show?key=canary%26+key&other=x", "/hls/show/index.m3u8?key=canary%26+key"}
    assert browser.run("return document.cookie + JSON.stringify([localStorage, sessionStorage])") == "[{},{}]"
    assert "canary" not in browser.run("return document.documentElement.outerHTML")


@pytest.mark.parametrize(
    ("query", "words"), [("", "This programme needs a key"), ("?key=wrong", "The key in this link is not accepted")]
)
def test_a_refused_viewer_is_told_why(
    browser: Browser, site: Callable[..., Site], ladder: Path, stage: Path, query: str, words: str
) -> None:
    stage.write_text("403")

    browser.open(site(hls=ladder).url(f"/watch/show{query}"))

    browser.wait(f"return {STATE} === 'refused'", "refusal")
    assert browser.text("#message") == words


def test_without_playlists_the_page_says_what_to_do(browser: Browser, site: Callable[..., Site]) -> None:
    browser.open(site().url("/watch/show"))

    browser.wait(f"return {STATE} === 'no-hls'", "explanation")
    assert "[plugins.hls]" in browser.text("#hint")
    assert browser.complaints() == []


def test_who_comes_after_the_end_sees_that_it_is_over(
    browser: Browser, site: Callable[..., Site], ladder: Path, tmp_path: Path
) -> None:
    over = tmp_path / "show"
    over.mkdir()
    for path in (ladder / "show").iterdir():
        (over / path.name).write_bytes(path.read_bytes())
    for path in over.glob("media-*.m3u8"):
        path.write_text(path.read_text() + "#EXT-X-ENDLIST\n")

    browser.open(site(hls=tmp_path).url("/watch/show"))

    browser.wait(f"return {STATE} === 'ended'", "end")
    assert browser.run("return document.getElementById('video').currentTime") == 0


def test_quality_and_sound_can_be_chosen(
    browser: Browser, site: Callable[..., Site], ladder: Path, stage: Path
) -> None:
    browser.open(site(hls=ladder).url("/watch/show"))
    browser.wait(PLAYS, "picture")

    names = "return [...document.getElementById(arguments[0]).options].map((option) => option.text.split(',')[0])"
    choose = (
        "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('change'))"
    )
    assert browser.run(names, "quality") == ["Automatic", "180p", "90p"]
    assert browser.run(names, "audio") == ["Floor", "<img src=/xss>Fr"]
    browser.run(choose, "quality", "0")
    browser.run(choose, "audio", "1")

    browser.wait("return document.getElementById('video').videoHeight === 90", "small picture")
    browser.wait("return document.getElementById('audio').value === '1'", "other sound")
    browser.wait(PLAYS, "picture after the choice")


def test_everything_works_by_keyboard(browser: Browser, site: Callable[..., Site], ladder: Path, stage: Path) -> None:
    browser.open(site(hls=ladder).url("/watch/show"))
    browser.wait(PLAYS, "picture")
    video = "document.getElementById('video')"

    browser.keys("m")
    browser.wait(f"return !{video}.muted && document.getElementById('unmute').hidden", "sound")
    browser.keys("\ue015")  # arrow down
    assert browser.run(f"return {video}.volume") == pytest.approx(0.95)
    browser.keys(" ")
    browser.wait(f"return {video}.paused", "pause")
    browser.keys(" ")
    browser.wait(f"return !{video}.paused", "play")
    before = browser.run(f"return {video}.currentTime")
    browser.keys("\ue012")  # arrow left
    browser.wait(f"return {video}.currentTime < {before} - 2", "earlier picture")
    browser.keys("l")
    browser.wait(f"return {video}.currentTime > {before}", "live picture")
    browser.keys("f")
    browser.wait("return document.fullscreenElement?.id === 'player'", "full screen")
    browser.keys("f")
    browser.wait("return !document.fullscreenElement", "window")


def test_every_control_can_be_reached_and_has_a_name(
    browser: Browser, site: Callable[..., Site], ladder: Path, stage: Path
) -> None:
    browser.open(site(hls=ladder).url("/watch/show"))
    browser.wait(PLAYS, "picture")
    seen = []
    for _ in range(12):
        browser.keys("\ue004")  # tab
        seen.append(browser.focused())

    assert [name for name in seen if name][:8] == [
        "unmute",
        "play",
        "mute",
        "volume",
        "live",
        "audio",
        "quality",
        "full",
    ]
    unnamed = """return [...document.querySelectorAll('button, input, select')].filter((e) => !(
        e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.[0]?.textContent.trim())).map((e) => e.id)"""
    assert browser.run(unnamed) == []
    visible = "return getComputedStyle(document.activeElement).outlineStyle"
    browser.run("document.getElementById('play').focus({ focusVisible: true })")
    assert browser.run(visible) == "solid"


def test_another_site_can_embed_the_player(
    browser: Browser, site: Callable[..., Site], ladder: Path, stage: Path, tmp_path: Path
) -> None:
    page = site(hls=ladder)
    (tmp_path / "page.html").write_text(f'<iframe src="{page.url("/watch/show")}" allow="autoplay"></iframe>')
    server = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), "0"]
    with Program(server) as program:
        port = wait_for(lambda: re.search(r"port (\d+)", program.text), "port of the other site")[1]
        browser.open(f"http://127.0.0.1:{port}/page.html")
    browser.driver.switch_to.frame(0)
    try:
        browser.wait(PLAYS, "picture")
        assert browser.run("return getComputedStyle(document.querySelector('.top')).display") == "none"
    finally:
        browser.driver.switch_to.default_content()


def test_a_browser_without_media_source_plays_by_its_own_means(
    browser: Browser, site: Callable[..., Site], ladder: Path, stage: Path
) -> None:
    end = browser.before_pages(
        "delete window.MediaSource; delete window.ManagedMediaSource; delete window.WebKitMediaSource;"
    )
    try:
        browser.open(site(hls=ladder).url("/watch/show"))
        if not browser.run("return document.createElement('video').canPlayType('application/vnd.apple.mpegurl')"):
            browser.wait(f"return {STATE} === 'unsupported'", "words for an old browser")
        else:
            browser.wait(PLAYS, "picture")
    finally:
        end()
