"""Targets between real programs: changed while the stream is live, cut to what they take, and delayed."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.integration import sources
from tests.integration.framehash import assert_same, framehash, recorded
from tests.integration.harness import (
    Nginx,
    Relay,
    ffmpeg9,
    nginx,
    publisher,
    relay,
    stream_table,
    wait_for,
)

pytestmark = pytest.mark.integration

KEY = "canary-5b9d1f3a7c2e"
HOP_ONE, HOP_TWO = "canary-hop-0000001", "canary-hop-0000002"
LOOPBACK = 'allow_networks = ["127.0.0.0/8"]\n'


def call(running: Relay, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Make an API call; return status and answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{running.http_port}/api/v1/streams/{path}",
        data=data,
        method=method,
        headers={"Content-Type": "application/json"} if data else {},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            text = response.read()
            return response.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def state(running: Relay, target: str) -> str:
    return str(call(running, "GET", f"town/targets/{target}")[1].get("state"))


def wait_state(running: Relay, target: str, wanted: str) -> None:
    wait_for(lambda: state(running, target) == wanted, f"{target} {wanted}")


def live(running: Relay, stream: str) -> bool:
    return bool(running.stream(stream).get("live_feed"))


def test_one_target_is_changed_while_live_and_the_others_notice_nothing(tmp_path: Path, made: Path) -> None:
    source = sources.small_h264_aac(made, 14)
    hops = stream_table("hop", HOP_ONE) + stream_table("hip", HOP_TWO)
    # The second relay keeps no stream without an encoder: what is live there is what the first one pushes now.
    hops += "[streams.hop.failover]\nhold_s = 0\n[streams.hip.failover]\nhold_s = 0\n"
    with nginx(tmp_path) as platform:
        with relay(tmp_path, hops) as second:
            url = f"rtmp://127.0.0.1:{second.port}/live"
            table = stream_table("town", KEY, targets={"fixed": platform.url})
            with relay(tmp_path, table, extra=LOOPBACK) as first:
                assert state(first, "fixed") == "waiting"
                assert call(first, "PUT", "town/targets/moving", {"url": url, "key": HOP_ONE})[1]["state"] == "waiting"
                with publisher(first.publish_url(KEY), source) as encoder:
                    wait_for(lambda: live(second, "hop"), "the target that was put before the stream")
                    wait_state(first, "fixed", "live")

                    assert call(first, "POST", "town/targets/moving/stop")[1]["state"] == "stopped"
                    wait_for(lambda: not live(second, "hop"), "the end of the stopped target")
                    assert call(first, "POST", "town/targets/moving/start")[0] == 200
                    wait_for(lambda: live(second, "hop"), "the target that was started again")

                    assert call(first, "PUT", "town/targets/moving", {"url": url, "key": HOP_TWO})[0] == 200
                    wait_for(lambda: live(second, "hip") and not live(second, "hop"), "the target under its new key")
                    assert call(first, "DELETE", "town/targets/moving") == (204, None)
                    wait_for(lambda: not live(second, "hip"), "the end of the deleted target")

                    status, problem = call(
                        first, "PUT", "town/targets/inside", {"url": "rtmp://10.0.0.1/live", "key": HOP_ONE}
                    )
                    assert (status, problem["code"]) == (400, "target.invalid")
                    fixed = call(first, "GET", "town/targets/fixed")[1]
                    assert (fixed["state"], fixed["attempts"], fixed["dropped_gops"]) == ("live", 1, 0)
                    assert encoder.wait(30) == 0
                wait_for(lambda: state(first, "fixed") == "waiting" or not live(first, "town"), "the end", 90)
                town = call(first, "GET", "town")[1]
                assert [one["name"] for one in town["targets"]] == ["fixed"]
                assert not town["sinks"], "targets are listed as targets"
                said = json.dumps(town)
            for text in (said, first.program.text, second.program.text):
                assert not re.search(f"{HOP_ONE}|{HOP_TWO}|{KEY}", text)
        assert_same(framehash(source), recorded(platform.finished("fixed")), what="the target that nobody touched")


def remuxed(source: Path, *maps: str) -> Path:
    """Return a file with some tracks of another."""
    path = source.with_name(f"{source.stem}{''.join(maps).replace(':', '')}.flv")
    options = [part for one in maps for part in ("-map", one)]
    args = [ffmpeg9(), "-hide_banner", "-loglevel", "error", "-y", "-i", str(source), *options, "-c", "copy", str(path)]
    subprocess.run(args, check=True, timeout=60)
    return path


def target(name: str, platform: Nginx, *options: str) -> str:
    lines = "\n".join(options)
    return f'[streams.town.restream.{name}]\nurl = "{platform.url}"\nkey = "{name}"\n{lines}\n'


def test_a_multitrack_stream_is_cut_to_what_old_servers_take(tmp_path: Path, made: Path) -> None:
    source = sources.multitrack(made)
    with nginx(tmp_path) as platform:
        table = stream_table("town", KEY)
        table += target("default", platform, 'tracks = "default"', 'enhanced_rtmp = "flatten"')
        table += target("second", platform, "video_track = 1", "audio_track = 1", 'enhanced_rtmp = "flatten"')
        with relay(tmp_path, table) as running, publisher(running.publish_url(KEY), source) as encoder:
            assert encoder.wait(30) == 0
        first, second = remuxed(source, "0:v:0", "0:a:0"), remuxed(source, "0:v:1", "0:a:1")
        assert_same(framehash(first), recorded(platform.finished("default")), what="default tracks")
        assert_same(framehash(second), recorded(platform.finished("second")), what="second tracks")


def test_missing_sound_is_made_up_in_step_with_the_picture(tmp_path: Path, small: Path) -> None:
    source = remuxed(small, "0:v:0")
    with nginx(tmp_path) as platform:
        table = stream_table("town", KEY) + target("quiet", platform, 'silent_audio = "on"')
        with relay(tmp_path, table) as running, publisher(running.publish_url(KEY), source) as encoder:
            assert encoder.wait(30) == 0
        wanted, got = framehash(source), recorded(platform.finished("quiet"))

    assert set(got.packets) == {0, 1}
    sound = got.packets[1]
    got.packets.pop(1)
    got.configs.pop(1)
    assert_same(wanted, got, what="the picture")
    assert len({digest for _, _, digest in sound}) == 1
    lasts = wanted.packets[0][-1][0] - wanted.packets[0][0][0]
    assert abs(sound[-1][0] - sound[0][0] - lasts) < 60


def test_a_delayed_target_gets_everything_later(tmp_path: Path, small: Path) -> None:
    with nginx(tmp_path) as platform:
        table = stream_table("town", KEY) + target("late", platform, "delay_s = 2.5") + target("now", platform)
        with relay(tmp_path, table) as running:
            with publisher(running.publish_url(KEY), small) as encoder:
                wait_state(running, "now", "live")
                assert state(running, "late") == "waiting"
                began = time.monotonic()
                wait_state(running, "late", "live")
                assert time.monotonic() - began > 1.5
                assert encoder.wait(30) == 0
            time.sleep(3.5)  # what waits goes out in its time; nothing says from outside when it has
        assert_same(framehash(small), recorded(platform.finished("late")), what="the delayed target")
        assert_same(framehash(small), recorded(platform.finished("now")), what="the other target")


def test_what_a_platform_does_not_take_is_refused_before_a_connection(tmp_path: Path, made: Path) -> None:
    source = sources.hevc_opus(made)
    with nginx(tmp_path) as platform:
        table = stream_table("town", KEY)
        table += f'[streams.town.restream.twitch]\npreset = "twitch"\nurl = "{platform.url}"\nkey = "twitch"\n'
        with relay(tmp_path, table) as running, publisher(running.publish_url(KEY), source) as encoder:
            wait_state(running, "twitch", "refused")
            answer = call(running, "GET", "town/targets/twitch")[1]
            assert answer["reason"] == "fit"
            assert answer["detail"].startswith("Twitch takes H.264 video, and this stream's is HEVC")
            assert answer["attempts"] == 0
            encoder.stop()
        assert not list(platform.directory.iterdir())
