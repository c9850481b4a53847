"""Two encoders, one programme: real processes are killed, and only what a destination received is looked at."""

from __future__ import annotations

import itertools
import signal
import subprocess
import time
from collections import defaultdict
from pathlib import Path

import pytest

from relay.media import flvfile
from tests.helpers import capture
from tests.integration import sources
from tests.integration.harness import LONG, Program, Relay, ffmpeg9, nginx, publisher, relay, wait_for

pytestmark = pytest.mark.integration

PRIMARY, BACKUP = "canary-primary-4be1", "canary-backup-90ac"


def table(platform: str, more: str = "") -> str:
    """Two keys, one target, and failover as it is by default unless *more* says otherwise."""
    return (
        f'[streams.show.streamkeys]\nprimary = "{PRIMARY}"\nbackup = "{BACKUP}"\n'
        f'[streams.show.restream.out]\nurl = "{platform}"\nkey = "out"\n[streams.show.failover]\n{more}\n'
    )


H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-b:v", "400k")
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:min-keyint=30:scenecut=0:bframes=0")


def encoder(
    running: Relay, key: str, color: str, gop: int, *, size: str = "320x180", codec: tuple[str, ...] = H264
) -> Program:
    """An FFmpeg that encodes and publishes until it is stopped; its keyframes are *gop* frames apart."""
    picture = f"testsrc2=size={size}:rate=30,drawbox=color={color}:t=8"
    args = [ffmpeg9(), "-hide_banner", "-nostats", "-loglevel", "warning", "-re", "-f", "lavfi", "-i", picture]
    args += ["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "120"]
    args += [*codec, "-g", str(gop), "-pix_fmt", "yuv420p"]
    return Program([*args, "-c:a", "aac", "-b:a", "96k", "-f", "flv", running.publish_url(key)])


def wait_on_air(running: Relay, feed: str | None, timeout: float = 10.0) -> None:
    """Wait until *feed* is live; None: until the slate is shown."""
    wait_for(lambda: bool(stream := running.stream("show")) and stream["live_feed"] == feed, f"{feed} on air", timeout)


def states(running: Relay) -> dict[str, str]:
    """Feed -> state."""
    feeds = running.stream("show").get("feeds", [])
    assert isinstance(feeds, list)
    return {feed["name"]: feed["state"] for feed in feeds}


def wait_ready(running: Relay, feed: str) -> None:
    """Wait until a standby has had a few keyframes."""

    def ready() -> bool:
        feeds = running.stream("show").get("feeds", [])
        assert isinstance(feeds, list)
        return any(one["name"] == feed and one["keyframe_interval_ms"] for one in feeds)

    wait_for(ready, f"{feed} standing by", 15)


def assert_one_programme(path: Path) -> dict[int, list[int]]:
    """Every track's time rises strictly, the first picture is a keyframe, and it decodes to the last frame."""
    times: dict[int, list[int]] = defaultdict(list)
    for tag in flvfile.read(path.read_bytes()):
        body = tag.body
        if tag.type_id in (8, 9) and len(body) > 2 and body[1] == 1:
            times[tag.type_id].append(tag.timestamp)
    for kind, moments in times.items():
        steps = [after - before for before, after in itertools.pairwise(moments)]
        assert min(steps) > 0, f"type {kind} runs back"
        assert max(steps) <= 2000, f"type {kind} has a hole of {max(steps)} ms"
    # In milliseconds: counted in frames, two pictures closer than 1/30 s would seem to have one time.
    as_they_are = ["-fps_mode", "passthrough", "-enc_time_base:v", "demux"]
    decoded = subprocess.run(
        [ffmpeg9(), "-v", "error", "-xerror", "-i", str(path), *as_they_are, "-f", "null", "-"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (decoded.returncode, decoded.stderr) == (0, "")
    return times


def attempts(running: Relay) -> int:
    """How often the relay connected to the destination."""
    targets = running.stream("show")["targets"]
    assert isinstance(targets, list)
    return int(targets[0]["attempts"])


def test_a_killed_primary_is_replaced_and_the_destination_keeps_its_session(tmp_path: Path) -> None:
    with nginx(tmp_path) as platform, relay(tmp_path, table(platform.url)) as running:
        with encoder(running, PRIMARY, "red", 60) as primary:
            wait_on_air(running, "primary")
            with encoder(running, BACKUP, "blue", 60) as backup:
                wait_ready(running, "backup")
                time.sleep(2.5)

                primary.signal(signal.SIGKILL)
                wait_on_air(running, "backup", 2)
                time.sleep(4)

                assert running.stream("show")["switches"] == 1
                assert attempts(running) == 1
                backup.signal(signal.SIGINT)
                backup.wait()
        times = assert_one_programme(platform.finished("out"))
        assert times[9][-1] > 6000
        assert len(list(platform.directory.glob("out*.flv"))) == 1


@pytest.mark.skipif(not LONG, reason="a light encoder is stopped in test_failover_faults.py; this one: RELAY_LONG=1")
def test_a_stopped_primary_is_left_within_a_second_and_a_half(tmp_path: Path) -> None:
    with nginx(tmp_path) as platform, relay(tmp_path, table(platform.url)) as running:
        with encoder(running, PRIMARY, "red", 60) as primary:
            wait_on_air(running, "primary")
            with encoder(running, BACKUP, "blue", 60) as backup:
                wait_ready(running, "backup")

                began = time.monotonic()
                primary.signal(signal.SIGSTOP)
                wait_on_air(running, "backup", 3)
                took = time.monotonic() - began
                time.sleep(1)
                primary.signal(signal.SIGCONT)
                time.sleep(3)

                assert 0.9 <= took <= 2.5
                assert running.stream("show")["live_feed"] == "backup"
                primary.signal(signal.SIGKILL)
                backup.signal(signal.SIGINT)
                backup.wait()
        assert_one_programme(platform.finished("out"))


def test_both_gone_and_one_back_within_the_hold(tmp_path: Path) -> None:
    with nginx(tmp_path) as platform, relay(tmp_path, table(platform.url, "hold_s = 20")) as running:
        with encoder(running, PRIMARY, "red", 30) as primary:
            wait_on_air(running, "primary")
            time.sleep(2)
            primary.signal(signal.SIGKILL)
            primary.wait()
        wait_for(lambda: running.stream("show").get("state") == "slate", "slate")
        time.sleep(3)
        with encoder(running, PRIMARY, "red", 30) as again:
            wait_on_air(running, "primary")
            time.sleep(2)

            assert attempts(running) == 1
            again.signal(signal.SIGINT)
            again.wait()
        assert_one_programme(platform.finished("out"))
        assert len(list(platform.directory.glob("out*.flv"))) == 1


def test_two_paths_of_one_encoder_are_merged_and_losing_one_loses_nothing(tmp_path: Path, made: Path) -> None:
    source = sources.small_h264_aac(made, 12)
    with nginx(tmp_path) as platform, relay(tmp_path, table(platform.url)) as running:
        with publisher(running.publish_url(PRIMARY), source) as one:
            wait_on_air(running, "primary")
            with publisher(running.publish_url(BACKUP), source) as two:
                wait_for(lambda: states(running).get("backup") == "merged", "merge", 10)

                one.signal(signal.SIGKILL)
                wait_on_air(running, "backup", 2)
                two.wait(30)
        times = assert_one_programme(platform.finished("out"))
        steps = [after - before for before, after in zip(times[9], times[9][1:], strict=False)]
        assert max(steps) <= 34, "a picture is missing"


KINDS: dict[str, dict[str, object]] = {"another codec": {"codec": HEVC}, "another size": {"size": "480x270"}}


@pytest.mark.parametrize("kind", KINDS if LONG else ["another codec"])
def test_a_backup_of_another_kind_sends_its_headers_first(tmp_path: Path, kind: str) -> None:
    """Fault F9, with `new_format` as it is by default: the destination keeps its connection."""
    with capture.Destination() as sink, relay(tmp_path, table(sink.url)) as running:
        with encoder(running, PRIMARY, "red", 30) as primary:
            wait_on_air(running, "primary")
            with encoder(running, BACKUP, "blue", 30, **KINDS[kind]) as backup:  # type: ignore[arg-type]
                wait_ready(running, "backup")
                primary.signal(signal.SIGKILL)
                wait_on_air(running, "backup", 2)
                time.sleep(2)
                backup.signal(signal.SIGINT)
                backup.wait()
        (session,) = sink.sessions
    headers = [number for number, tag in enumerate(session.tags) if tag.kind == 9 and packet_type(tag.body) == 0]
    assert len(headers) == 2
    frames = [tag for tag in session.tags[headers[1] :] if tag.kind == 9 and packet_type(tag.body) in (1, 3)]
    assert frames[0].body[0] >> 4 & 7 == 1, "a keyframe"
    for kind in (8, 9):
        times = [tag.timestamp for tag in session.tags if tag.kind == kind and packet_type(tag.body) in (1, 3)]
        assert all(before < after for before, after in itertools.pairwise(times))
    assert decoded(session, headers[1], tmp_path) >= 30


def packet_type(body: bytes) -> int:
    """0: a sequence header; 1 and 3: a frame. In the legacy form and the enhanced one."""
    return body[0] & 0xF if body[0] & 0x80 else body[1]


def decoded(session: capture.Session, since: int, tmp_path: Path) -> int:
    """Pictures that FFmpeg decodes, without a complaint, of what came from this message on."""
    tags = [flvfile.tag(tag.kind, tag.timestamp, tag.body) for tag in session.tags[since:] if tag.kind == 9]
    path = tmp_path / "backup.flv"
    path.write_bytes(flvfile.file_header() + b"".join(tags))
    args = [ffmpeg9(), "-v", "error", "-xerror", "-i", str(path), "-fps_mode", "passthrough", "-f", "rawvideo"]
    done = subprocess.run([*args, "-vf", "scale=1:1,format=gray", "-"], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    return len(done.stdout)
