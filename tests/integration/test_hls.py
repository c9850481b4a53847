"""HLS between programs that other people wrote: what FFmpeg reads is what an encoder sent, and it never tears."""

from __future__ import annotations

import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import m3u8
import pytest

from tests.integration import sources
from tests.integration.framehash import Hashes, framehash, parse_framehash
from tests.integration.harness import Relay, ffmpeg5, ffmpeg9, publisher, relay, stream_table, wait_for

pytestmark = pytest.mark.integration

SECONDS = 5.0
KEY = "canary-5b1d7e90a2c4"


def address(running: Relay, file: str = "index.m3u8", stream: str = "town") -> str:
    return f"http://127.0.0.1:{running.http_port}/hls/{stream}/{file}"


def fetch(url: str, timeout: float = 15.0) -> bytes:
    """What is at *url*."""
    with urllib.request.urlopen(url, timeout=timeout) as response:
        body: bytes = response.read()
        return body


def read(binary: str, place: str) -> Hashes:
    """Every packet that an FFmpeg reads from the whole playlist."""
    args = [binary, "-hide_banner", "-loglevel", "warning", "-live_start_index", "0", "-i", place]
    args += ["-map", "0:v?", "-map", "0:a?", "-c", "copy", "-f", "framehash", "-"]
    done = subprocess.run(args, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for word in ("corrupt", "Invalid", "non monoton", "error while"):
        assert word not in done.stderr, done.stderr
    return parse_framehash(done.stdout)


def publish_all(*shows: tuple[Relay, Mapping[str, Path]]) -> None:
    """Publish every source as the stream of its name, all at once, and wait for the ends of their playlists."""
    with ExitStack() as stack:
        encoders = [
            stack.enter_context(publisher(running.publish_url(KEY + name), source))
            for running, streams in shows
            for name, source in streams.items()
        ]
        for encoder in encoders:
            assert encoder.wait(60) == 0, encoder.tail
    for running, streams in shows:
        for name in streams:
            index = m3u8.loads(fetch(address(running, stream=name)).decode())
            place = address(running, index.playlists[0].uri, name)
            wait_for(lambda place=place: b"#EXT-X-ENDLIST" in fetch(place), "end of the playlist")  # type: ignore[misc]


def assert_same_frames(source: Hashes, got: Hashes, *, kinds: int) -> None:
    """Every frame is there, bit for bit, in order."""
    assert len(got.packets) == kinds
    for track, packets in source.packets.items():
        wanted = [packet[1:] for packet in packets]
        have = [packet[1:] for packet in got.packets[track]]
        assert have == wanted, f"track {track}: {len(have)} packets instead of {len(wanted)}"


def decoded(binary: str, place: str) -> dict[int, list[str]]:
    """The hash of every picture and sound that a decoder makes of it; containers may differ in what surrounds them."""
    args = [binary, "-hide_banner", "-loglevel", "error", "-live_start_index", "0"] if ":" in place else [binary]
    args += ["-i", place, "-map", "0:v?", "-map", "0:a?", "-fps_mode", "passthrough", "-f", "framehash", "-"]
    done = subprocess.run(args, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[int, list[str]] = {}
    for line in done.stdout.splitlines():
        if not line.startswith("#"):
            fields = [part.strip() for part in line.split(",")]
            found.setdefault(int(fields[0]), []).append(fields[5])
    return found


def alone(directory: Path, seconds: float) -> Path:
    """Sound without a picture."""
    return sources.make_source(directory, "alone", seconds, "-vn", "-c:a", "aac", "-b:a", "96k")


SOURCES = {
    "h264": sources.small_h264_aac,
    "hevc": sources.hevc_opus,
    "av1": sources.av1_opus,
    "alone": alone,
    "several": sources.multitrack,
}
CODECS = {"h264": "avc1.", "hevc": "hvc1.", "av1": "av01."}
TABLES = "".join(stream_table(name, KEY + name) for name in SOURCES)
NAMES = '[streams.several.hls]\naudio_names = ["Floor", "Interprète"]\naudio_languages = ["en", "fr"]\n'


@dataclass
class Shown:
    """Two relays on which everything was shown, and is still served."""

    fmp4: Relay
    ts: Relay
    files: dict[str, Path]


@pytest.fixture(scope="module")
def shown(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """Show every source as fMP4, and one as TS."""
    files = {name: make(made, SECONDS) for name, make in SOURCES.items()}
    extra = '[plugins.hls]\ncontainer = "ts"\npart_ms = 0\nsegment_s = 2\n'
    directory = tmp_path_factory.mktemp("shown")
    with (
        relay(directory, TABLES + NAMES, plugins=("streamkeys", "hls")) as fmp4,
        relay(directory, TABLES, plugins=("streamkeys",), extra=extra) as ts,
    ):
        publish_all((fmp4, files), (ts, {"h264": files["h264"]}))
        yield Shown(fmp4, ts, files)


@pytest.mark.parametrize("name", CODECS)
def test_what_ffmpeg_reads_is_bit_for_bit_what_was_sent(shown: Shown, name: str) -> None:
    running, files = shown.fmp4, shown.files
    index = m3u8.loads(fetch(address(running, stream=name)).decode())
    wanted = framehash(files[name])
    if name == "av1":  # fMP4 has no temporal delimiters (AV1 in ISOBMFF 2.4), so the pictures are compared
        assert decoded(ffmpeg9(), address(running, stream=name))[0] == decoded(ffmpeg9(), str(files[name]))[0]
        del wanted.packets[0]
    for binary in (ffmpeg9(), ffmpeg5()):
        assert_same_frames(wanted, read(binary, address(running, stream=name)), kinds=2)

    [variant] = index.playlists
    assert variant.stream_info.codecs.startswith(CODECS[name])
    assert variant.stream_info.resolution == (320, 180)
    assert variant.stream_info.frame_rate == 30


def test_sound_alone_is_a_variant_without_a_picture(shown: Shown) -> None:
    running, files = shown.fmp4, shown.files
    index = m3u8.loads(fetch(address(running, stream="alone")).decode())

    assert_same_frames(framehash(files["alone"]), read(ffmpeg9(), address(running, stream="alone")), kinds=1)
    assert index.playlists[0].stream_info.codecs == "mp4a.40.2"
    assert index.playlists[0].stream_info.resolution is None


def test_several_pictures_are_variants_and_several_sounds_renditions(shown: Shown) -> None:
    running, files = shown.fmp4, shown.files
    index = m3u8.loads(fetch(address(running, stream="several")).decode())
    wanted = framehash(files["several"])
    for number, name in enumerate(("v0", "v1", "a0", "a1")):
        got = read(ffmpeg9(), address(running, f"{name}.m3u8", "several"))
        assert_same_frames(Hashes(packets={0: wanted.packets[number]}), got, kinds=1)

    assert [p.stream_info.resolution for p in index.playlists] == [(320, 180), (160, 90)]
    assert [(one.uri, one.default, one.name, one.language) for one in index.media] == [
        ("a0.m3u8", "YES", "Floor", "en"),
        ("a1.m3u8", "NO", "Interprète", "fr"),
    ]
    for binary in (ffmpeg9(), ffmpeg5()):
        args = [binary, "-hide_banner", "-i", address(running, stream="several")]
        said = subprocess.run(args, capture_output=True, timeout=30).stderr.decode()
        for name, language in (("Floor", "eng?"), ("Interprète", "fra?")):
            assert re.search(rf"\({language}\): Audio:[^#]*comment +: {name}\n", said), said
    assert {p.stream_info.audio for p in index.playlists} == {index.media[0].group_id}
    assert all(p.stream_info.codecs.endswith(",mp4a.40.2") for p in index.playlists)


def test_ts_is_read_by_both(shown: Shown) -> None:
    for binary in (ffmpeg9(), ffmpeg5()):
        assert decoded(binary, address(shown.ts, stream="h264")) == decoded(binary, str(shown.files["h264"]))
