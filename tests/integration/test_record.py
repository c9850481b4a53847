"""Recordings of a real relay, fed by FFmpeg and read by FFmpeg."""

from __future__ import annotations

import contextlib
import json
import random
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration import sources
from tests.integration.framehash import Hashes, compare, framehash, parse_framehash
from tests.integration.harness import LONG, Relay, ffmpeg9, need, player, publisher, relay, stream_table, wait_for

pytestmark = pytest.mark.integration

KEY = "canary-7e1f0b5d9a3c"
PLUGINS = ("streamkeys", "restream")
KILLS = 200 if LONG else 3


def record_table(directory: Path, *options: str) -> str:
    """TOML that enables recording."""
    lines = [f'directory = "{directory}"', "min_free_mb = 0", *options]
    return "[plugins.record]\n" + "".join(line + "\n" for line in lines)


def files(directory: Path, stream: str = "town", suffix: str = "") -> list[Path]:
    """Media files of a stream, in order."""
    return sorted(path for path in (directory / stream).glob(f"*{suffix}") if path.suffix in (".mp4", ".flv", ".ts"))


def sidecar(directory: Path, stream: str = "town") -> dict[str, Any]:
    """The only sidecar of a stream."""
    (path,) = (directory / stream).glob("*.json")
    document = json.loads(path.read_text())
    assert isinstance(document, dict)
    return document


def media(path: Path) -> Hashes:
    """What FFmpeg reads, in milliseconds whatever the container's clock is."""
    args = [ffmpeg9(), "-hide_banner", "-loglevel", "error", "-i", str(path), "-map", "0:v?", "-map", "0:a?"]
    args += ["-c", "copy", "-f", "framehash", "-"]
    done = subprocess.run(args, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{path} ({path.stat().st_size} bytes): {done.stderr}"
    assert not done.stderr, f"{path.name}: {done.stderr}"
    hashes = parse_framehash(done.stdout)
    for track, scale in re.findall(r"^#tb (\d+): 1/(\d+)$", done.stdout, re.MULTILINE):
        packets = hashes.packets.get(int(track), [])
        hashes.packets[int(track)] = [(round(dts * 1000 / int(scale)), size, value) for dts, size, value in packets]
    return hashes


def decoded(path: Path) -> list[str]:
    """The checksum of every picture."""
    args = [ffmpeg9(), "-hide_banner", "-loglevel", "error", "-i", str(path), "-map", "0:v", "-fps_mode", "passthrough"]
    done = subprocess.run([*args, "-f", "framemd5", "-"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [line.split(",")[5].strip() for line in done.stdout.splitlines() if not line.startswith("#")]


def duration(path: Path) -> float:
    """Seconds, as the container's head says."""
    said = subprocess.run([ffmpeg9(), "-hide_banner", "-i", str(path)], capture_output=True, text=True, timeout=30)
    found = re.search(r"Duration: (\d+):(\d+):([0-9.]+)", said.stderr)
    assert found, said.stderr
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])


def recording(running: Relay, stream: str = "town") -> dict[str, Any]:
    """What the API says of the recording."""
    answer = running.stream(stream).get("recording")
    return answer if isinstance(answer, dict) else {}


def wait_state(running: Relay, wanted: str) -> None:
    wait_for(lambda: recording(running).get("state") == wanted, f"{wanted} ({recording(running)})")


def record(tmp_path: Path, sources: Mapping[str, Path], options: Mapping[str, str]) -> dict[str, Path]:
    """Record each source whole, as the stream of its name, at the same time; return the only file of each."""
    directory = tmp_path / "recordings"
    table = "".join(f"{stream_table(name, KEY + name)}[streams.{name}.record]\n{options[name]}\n" for name in sources)
    with (
        relay(tmp_path, table, extra=record_table(directory), plugins=PLUGINS) as running,
        contextlib.ExitStack() as stack,
    ):
        encoders = [
            stack.enter_context(publisher(running.publish_url(KEY + name), source)) for name, source in sources.items()
        ]
        assert all(encoder.wait(40) == 0 for encoder in encoders)
        wait_for(lambda: not torn(directory) and all(files(directory, name) for name in sources), "finished files")
    assert not torn(directory)
    found = {name: files(directory, name) for name in sources}
    assert all(len(paths) == 1 for paths in found.values()), found
    return {name: paths[0] for name, paths in found.items()}


def torn(directory: Path) -> list[Path]:
    """Files that are not finished."""
    return list(directory.glob("*/*.part"))


FORMS = ("flv", "fmp4", "ts")


def test_a_recording_is_the_stream_packet_by_packet(tmp_path: Path, small: Path) -> None:
    forms = dict.fromkeys(FORMS, small)
    recorded = record(tmp_path, forms, {form: f'format = "{form}"' for form in forms})
    wanted = media(small)

    for form in ("flv", "fmp4"):
        found = compare(wanted, media(recorded[form]), tolerance_ms=1)
        assert not found.faults, form
        assert {*found.first.values(), *found.behind.values()} == {0}, form
    assert decoded(recorded["ts"]) == decoded(small)  # Annex B and ADTS: other bytes, the same pictures
    for form, path in recorded.items():
        assert abs(duration(path) - duration(small)) < 0.1, form
        assert path.stat().st_mode & 0o777 == 0o600
        assert KEY not in str(path)
        (part,) = sidecar(path.parents[1], form)["parts"]
        assert (part["file"], part["state"], part["good_bytes"]) == (path.name, "finished", path.stat().st_size)


def test_every_codec_and_track_is_recorded(tmp_path: Path, made: Path) -> None:
    makes = {"multitrack": sources.multitrack, "hevc": sources.hevc_opus, "av1": sources.av1_opus}
    inputs = {f"{name}-{form}": make(made) for name, make in makes.items() for form in ("flv", "fmp4")}
    recorded = record(tmp_path, inputs, {name: f'format = "{name.partition("-")[2]}"' for name in inputs})

    for name, source in inputs.items():
        wanted, got = media(source), media(recorded[name])
        assert got.packets.keys() == wanted.packets.keys(), name
        for track, packets in wanted.packets.items():
            # The stream begins with its first keyframe; sound that came before its own header was is not in it.
            assert len(packets) - 2 <= len(got.packets[track]) <= len(packets), name
            if name != "av1-fmp4" or track:  # MP4 holds AV1 without temporal delimiters
                hashes = [packet[2] for packet in packets]
                assert [packet[2] for packet in got.packets[track]] == hashes[-len(got.packets[track]) :], name


def test_segments_hold_every_frame_once(tmp_path: Path, small: Path) -> None:
    directory = tmp_path / "recordings"
    extra = record_table(directory, 'format = "flv"', "segment_s = 1", 'exec = ["/bin/cp", "{path}", "{path}.copy"]')
    with relay(tmp_path, stream_table("town", KEY), extra=extra, plugins=PLUGINS) as running:
        with publisher(running.publish_url(KEY), small) as encoder:
            wait_state(running, "recording")
            assert post(running, "town/recording/start")["state"] == "recording"
            assert encoder.wait(30) == 0
        wait_for(lambda: files(directory) and not torn(directory), "finished files")
        wait_for(lambda: len(list(directory.glob("*/*.copy"))) == len(files(directory)), "the program for each file")
    recorded = files(directory)
    assert len(recorded) >= 4

    wanted, parts = framehash(small), [framehash(path) for path in recorded]

    for track, packets in wanted.packets.items():
        assert [p[2] for part in parts for p in part.packets[track]] == [p[2] for p in packets]
    assert [part["file"] for part in sidecar(directory)["parts"]] == [path.name for path in recorded]


def test_a_finished_file_becomes_a_progressive_one(tmp_path: Path, small: Path) -> None:
    directory = tmp_path / "recordings"
    extra = record_table(directory, "remux = true")
    with relay(tmp_path, stream_table("town", KEY), extra=extra, plugins=PLUGINS) as running:
        with publisher(running.publish_url(KEY), small) as encoder:
            assert encoder.wait(30) == 0
        wait_for(lambda: files(directory), "a finished file")
        wait_for(lambda: sidecar(directory)["parts"][0].get("progressive"), "a progressive file")
    (recorded,) = files(directory)

    assert not compare(media(small), media(recorded), tolerance_ms=1).faults
    assert b"moof" not in recorded.read_bytes()
    assert abs(duration(recorded) - duration(small)) < 0.1


def test_a_full_disk_ends_the_recording_and_nothing_else(tmp_path: Path, full_hd: Path) -> None:
    directory, shown = tmp_path / "recordings", tmp_path / "shown"
    directory.mkdir()
    need("mount", "apt install mount")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs: run as root")
    try:
        _fill_the_disk(tmp_path, directory, full_hd, shown)
        wanted = media(full_hd)
        for path in files(directory):
            assert not compare(wanted, media(path), tolerance_ms=1).faults
        assert not compare(wanted, parse_framehash(shown.read_text())).faults
    finally:
        subprocess.run(["umount", directory], check=True)


def _fill_the_disk(tmp_path: Path, directory: Path, source: Path, shown: Path) -> None:
    table, extra = stream_table("town", KEY), record_table(directory)
    with (
        relay(tmp_path, table, extra=extra, plugins=PLUGINS) as running,
        publisher(running.publish_url(KEY), source) as encoder,
        player(running.play_url("town"), shown) as viewer,
    ):
        wait_state(running, "degraded")
        for path in directory.glob("*/*"):
            path.unlink()
        freed = time.monotonic()
        wait_state(running, "recording")
        assert time.monotonic() - freed < 5  # P20
        assert encoder.wait(40) == 0
        viewer.wait(20)


def test_a_relay_that_is_stopped_finishes_its_files(tmp_path: Path, small: Path) -> None:
    directory = tmp_path / "recordings"
    with (
        relay(tmp_path, stream_table("town", KEY), extra=record_table(directory), plugins=PLUGINS) as running,
        publisher(running.publish_url(KEY), small),
    ):
        wait_state(running, "recording")
        time.sleep(0.5)
        running.program.signal(signal.SIGTERM)
        assert running.program.wait(5) == 0
    (recorded,) = files(directory)

    assert not torn(directory)
    found = compare(media(small), media(recorded), tolerance_ms=1)
    assert not found.faults
    assert sidecar(directory)["parts"][0]["state"] == "finished"


def test_a_recording_goes_on_after_the_relay_was_killed_and_after_it_was_stopped(tmp_path: Path, small: Path) -> None:
    directory, seen = tmp_path / "recordings", []
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGTERM):
        with (
            relay(tmp_path, stream_table("town", KEY), extra=record_table(directory), plugins=PLUGINS) as running,
            publisher(running.publish_url(KEY), small),
        ):
            wait_for(lambda: recording(running).get("bytes_written", 0) > 30_000, "a file with media in it")
            seen.append(recording(running)["recording"])
            running.program.signal(number)
            running.program.wait(5)

    assert len(set(seen)) == 1
    wanted = [f"{seen[0]}_00{number}.mp4" for number in (1, 2, 3)]
    assert [path.name for path in files(directory)] == wanted
    for path in files(directory):
        assert not compare(media(small), media(path), tolerance_ms=1).faults
    parts = sidecar(directory)["parts"]
    assert sorted((part["file"], part["state"]) for part in parts) == list(
        zip(wanted, ("recovered", "finished", "finished"), strict=True)
    )


HANG = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* write(2) to a file that is being recorded waits for as long as the file RELAY_HANG exists. */
ssize_t write(int fd, const void *data, size_t size)
{
    static ssize_t (*real)(int, const void *, size_t);
    char link[64], path[4096];
    if (!real)
        real = dlsym(RTLD_NEXT, "write");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n > 5 && !strncmp(path + n - 5, ".part", 5))
        while (!access(getenv("RELAY_HANG"), F_OK))
            usleep(10000);
    return real(fd, data, size);
}
"""


def test_a_disk_that_hangs_is_noticed_by_nobody_else(tmp_path: Path, made: Path) -> None:
    compiler = need("cc", "apt install gcc libc6-dev")
    hang_s = 30 if LONG else 3
    source = sources.small_h264_aac(made, hang_s + 4)
    directory, shown, flag, shim = (tmp_path / name for name in ("recordings", "shown", "hang", "hang.so"))
    (tmp_path / "hang.c").write_text(HANG)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, tmp_path / "hang.c", "-ldl"], check=True)
    env = {"LD_PRELOAD": str(shim), "RELAY_HANG": str(flag)}
    with (
        relay(tmp_path, stream_table("town", KEY), extra=record_table(directory), plugins=PLUGINS, env=env) as running,
        publisher(running.publish_url(KEY), source) as encoder,
        player(running.play_url("town"), shown) as viewer,
    ):
        wait_state(running, "recording")
        flag.write_text("")
        time.sleep(hang_s)
        waiting = recording(running)["queue_bytes"]
        assert waiting > 50_000 * hang_s / 2
        flag.unlink()
        wait_for(lambda: recording(running)["queue_bytes"] < 100_000, "the disk has caught up")
        assert encoder.wait(40) == 0
        viewer.wait(20)
        wait_for(lambda: files(directory), "a finished file")
    (recorded,) = files(directory)

    wanted = media(source)
    assert not compare(wanted, parse_framehash(shown.read_text())).faults
    assert not compare(wanted, media(recorded), tolerance_ms=1).faults


def test_a_killed_relay_leaves_files_that_open(tmp_path: Path, made: Path) -> None:
    source = sources.small_h264_aac(made, 20)
    wanted, rng, directory = media(source), random.Random(20261128), tmp_path / "recordings"
    times = {value: time for time, _, value in wanted.packets[0]}
    table = "".join(f'{stream_table(form, KEY + form)}[streams.{form}.record]\nformat = "{form}"\n' for form in FORMS)
    lost: list[float] = []
    shown: tuple[str, int] = ("", 0)
    for number in range(KILLS + 1):
        with relay(tmp_path, table, extra=record_table(directory), plugins=PLUGINS) as running:
            if number:
                wait_for(lambda: not torn(directory), "recovery")
                lost.append(shown[1] - _check_and_delete(directory, wanted, times, shown[0]))
            if number < KILLS:
                shown = _kill_in_mid_stream(running, source, FORMS[number % 3], tmp_path / "shown", times, rng)
    summary = f"{KILLS} kills: lost of what a viewer had got: {sorted(lost)} ms"
    (tmp_path / "kills.txt").write_text(summary)
    assert max(lost) <= 200, summary


def _kill_in_mid_stream(
    running: Relay, source: Path, form: str, output: Path, times: Mapping[str, int], rng: random.Random
) -> tuple[str, int]:
    """Publish to all streams and kill the relay; return which stream was looked at, and the last time that came."""
    with contextlib.ExitStack() as stack:
        encoders = [stack.enter_context(publisher(running.publish_url(KEY + one), source)) for one in FORMS]
        for one in FORMS:
            wait_for(lambda one=one: recording(running, one).get("state") == "recording", one)
        output.write_text("")
        viewer = stack.enter_context(player(running.play_url(form), output))
        wait_for(lambda: len(parse_framehash(output.read_text()).packets.get(0, [])) > 5, "media")
        time.sleep(rng.uniform(0.0, 1.0))
        running.program.signal(signal.SIGKILL)
        viewer.wait()
        for encoder in encoders:
            encoder.stop()
    return form, times[parse_framehash(output.read_text()).packets[0][-1][2]]


def _check_and_delete(directory: Path, wanted: Hashes, times: Mapping[str, int], looked_at: str) -> int:
    """Check the recordings of all streams; return where the one that was looked at ends."""
    ends = {}
    for form in FORMS:
        (path,) = files(directory, form)
        if form == "ts":
            ends[form] = wanted.packets[0][len(decoded(path)) - 1][0]
        else:
            got = media(path)
            assert not compare(wanted, got, tolerance_ms=1).faults, form
            ends[form] = times[got.packets[0][-1][2]]
            assert abs(duration(path) * 1000 - (ends[form] - wanted.packets[0][0][0])) < 150, form
        assert sidecar(directory, form)["parts"][0]["state"] == "recovered", form
        for file in (directory / form).iterdir():
            file.unlink()
    return ends[looked_at]


def post(running: Relay, path: str) -> dict[str, Any]:
    """Make an API call."""
    request = urllib.request.Request(f"http://127.0.0.1:{running.http_port}/api/v1/streams/{path}", method="POST")
    with urllib.request.urlopen(request, timeout=5) as response:
        answer = json.load(response)
    assert isinstance(answer, dict)
    return answer
