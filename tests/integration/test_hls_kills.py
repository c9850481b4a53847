"""kill -9 of a relay that keeps HLS on disk: what it lists afterwards is there, and whole.

A plain and a low-latency player watch all the time. After every kill the directory is looked at as it is, the relay is
started again, and the recording that it makes of the killed run is compared with what the players had got.
"""

from __future__ import annotations

import hashlib
import random
import re
import signal
import subprocess
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import m3u8
import pytest

from tests.integration import sources
from tests.integration.harness import LONG, Relay, ffmpeg9, relay, stream_table, wait_for
from tests.integration.hls_viewer import Viewer, again, is_whole, settle, stubborn, watching

pytestmark = pytest.mark.integration

KEY = "canary-2d9e6f71c3b8"
KILLS = 200 if LONG else 3


def check_directory(stream: Path) -> None:
    """Whatever has its name on the disk is whole, and what a playlist lists is there."""
    for path in stream.glob("*/*"):
        if path.name.startswith("."):
            continue  # not named yet
        if path.suffix == ".m3u8":
            text = path.read_text()
            for name in m3u8.loads(text).files + re.findall(r'URI="([^"]+)"', text):
                assert (path.parent / name).exists(), f"{path} lists {name}"
        elif path.name != "journal":
            assert is_whole(path.name, path.read_bytes()), path


def recorded(base: str, event: str) -> dict[str, str]:
    """Names and hashes of the segments of a recording, as a viewer gets them."""
    found: dict[str, str] = {}
    for variant in m3u8.loads(fetch(f"{base}@{event}/index.m3u8").decode()).playlists:
        text = fetch(f"{base}@{event}/{variant.uri}").decode()
        playlist = m3u8.loads(text)
        assert text.endswith("#EXT-X-ENDLIST\n")
        assert not any(segment.discontinuity for segment in playlist.segments[1:])
        for name in [*re.findall(r'#EXT-X-MAP:URI="([^"]+)"', text), *(str(one.uri) for one in playlist.segments)]:
            data = fetch(f"{base}@{event}/{name}")
            assert is_whole(name, data), name
            found[name] = hashlib.sha256(data).hexdigest()
    return found


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        data: bytes = answer.read()
        return data


def assert_ffmpeg_reads(url: str) -> None:
    """FFmpeg finds nothing wrong from the beginning to the end."""
    args = [ffmpeg9(), "-hide_banner", "-loglevel", "warning", "-i", url, "-c", "copy", "-f", "framehash", "-"]
    done = subprocess.run(args, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not re.search("corrupt|Invalid|non.monoton|error", done.stderr), done.stderr


@pytest.mark.parametrize("container", ["fmp4", *(["ts"] if LONG else [])])
def test_a_killed_relay_lists_nothing_that_is_torn_or_missing(tmp_path: Path, made: Path, container: str) -> None:
    rng, directory = random.Random(20261128), tmp_path / "hls"
    extra = f'[plugins.hls]\ncontainer = "{container}"\nsegment_s = 1\nwindow_s = 10\nmin_free_mb = 0\n'
    extra += f'directory = "{directory}"\n'
    lost: list[int] = []
    with relay(tmp_path, stream_table("town", KEY), plugins=("streamkeys",), extra=extra) as running:
        base = f"http://127.0.0.1:{running.http_port}/hls/town/"
        plain, eager = Viewer(base), Viewer(base)
        with (
            ExitStack() as stack,
            stubborn(running.publish_url(KEY), sources.small_h264_aac(made)),
            watching(plain.run, eager.run_blocking, viewers=[plain, eager]),
        ):
            wait_for(lambda: plain.last, "first segment", 20)
            for number in range(KILLS):
                time.sleep(rng.uniform(0.0, 1.5))
                lost.append(_kill(stack, running, plain, directory / "town", base))
                assert len(plain.discontinuities) == number + 2  # P21: one for each restart
    summary = f"{KILLS} kills, {len(plain.listed)} segments; lost of those that were listed: {sorted(lost)}"
    (tmp_path / "kills.txt").write_text(summary)

    assert plain.faults == []
    assert eager.faults == []
    assert max(lost) <= 1, summary  # the one that was complete a moment ago


def _kill(stack: ExitStack, running: Relay, viewer: Viewer, stream: Path, base: str) -> int:
    """Kill the relay, start it again, and return how many segments of the killed run are not in its recording."""
    event = max(path.name for path in stream.iterdir())
    running.program.signal(signal.SIGKILL)
    running.program.stop()
    before = viewer.listed[:]
    check_directory(stream)
    program = stack.enter_context(again(running))
    finished = (stream / event / "index.m3u8").exists
    wait_for(lambda: finished() or not program.running, "a recording of what there was", 20)
    assert program.running, program.tail
    settle(viewer, 1)
    kept = recorded(base, event)
    check_directory(stream)
    assert_ffmpeg_reads(f"{base}@{event}/index.m3u8")
    run = [name for name in before if name.partition("-")[0] == before[-1].partition("-")[0]]
    for name in run:
        assert kept.get(name, viewer.fetched.get(name)) == viewer.fetched.get(name), name
    missing = [name for name in run if name not in kept]
    assert missing == run[len(run) - len(missing) :]
    assert "Traceback" not in program.text, program.tail
    return len(missing)
