"""The programme made by ourselves: its rate is exact and every decoder takes it."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import pytest

from relay.media import metadata, nal
from relay.media.configs import video_facts
from relay.media.packets import MediaKind, Packet
from relay.media.snow import GOP_FRAMES, MAX_KBPS, Snow
from tests.integration.harness import ffmpeg9

NOISE = bytes(range(256)) * 300


def made(kbps: int, seconds: float = 4.0, noise: bytes = NOISE) -> tuple[Snow, list[Packet]]:
    snow = Snow(kbps, noise)
    return snow, list(snow.until(seconds * 1000))


@pytest.mark.parametrize("kbps", [100, 6000, 50_000, MAX_KBPS])
def test_the_rate_is_exact(kbps: int) -> None:
    _, packets = made(kbps)

    assert sum(len(one.body) for one in packets) == pytest.approx(kbps * 1000 / 8 * 4, rel=0.01)


def test_times_rise_per_track_and_keyframes_come_every_two_seconds() -> None:
    _, packets = made(2000)
    pictures = [one for one in packets if one.kind is MediaKind.VIDEO]
    sound = [one for one in packets if one.kind is MediaKind.AUDIO]

    assert [number for number, one in enumerate(pictures) if one.keyframe] == [0, GOP_FRAMES]
    assert pictures[GOP_FRAMES].dts == 2000
    for track in (pictures, sound):
        assert all(before.dts < after.dts for before, after in itertools.pairwise(track))
    assert [one.dts for one in packets] == sorted(one.dts for one in packets)


def test_it_goes_on_where_it_stopped() -> None:
    snow, whole = made(3000)
    again = Snow(3000, NOISE)
    pieces = [one.body for ms in range(0, 4000, 7) for one in again.until(ms)]

    assert pieces == [one.body for one in whole][: len(pieces)]
    assert len(whole) - len(pieces) <= 2
    assert not list(snow.until(3990))


def test_the_headers_say_what_it_is() -> None:
    snow, _ = made(1000)
    video = snow.tracks.find(MediaKind.VIDEO)
    assert video is not None
    facts = video_facts(video)
    assert facts is not None
    assert snow.tracks.metadata is not None

    assert (facts.width, facts.height, facts.fps) == (1280, 720, 30)
    assert metadata.metadata_values(snow.tracks.metadata)["videodatarate"] == 1000


def test_noise_cannot_be_made_smaller_and_breaks_no_nal_unit() -> None:
    _, packets = made(6000, noise=bytes(1000))
    for one in packets:
        if one.kind is MediaKind.VIDEO:
            for unit in nal.split(one.payload):
                assert b"\x00\x00\x01" not in unit
                assert b"\x00\x00\x00" not in unit


@pytest.mark.parametrize("kbps", [0, -1, MAX_KBPS + 1])
def test_a_rate_that_cannot_be_made_is_refused(kbps: int) -> None:
    with pytest.raises(ValueError, match="kbit/s"):
        Snow(kbps, NOISE)


@pytest.mark.integration
def test_ffmpeg_decodes_it_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "snow.flv"
    snow, packets = made(6000, noise=os.urandom(65536))
    path.write_bytes(
        b"FLV\x01\x05\0\0\0\x09\0\0\0\0" + b"".join(_tag(one) for one in [*snow.tracks.opening(), *packets])
    )
    command = [ffmpeg9(), "-v", "warning", "-xerror", "-i", str(path), "-map", "0:v", "-f", "framemd5", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    pictures = [line for line in done.stdout.splitlines() if not line.startswith("#")]

    assert (done.returncode, done.stderr) == (0, "")
    assert len(pictures) == 120
    assert len({line.split(",")[-1] for line in pictures}) > 100


def _tag(packet: Packet) -> bytes:
    size = len(packet.body)
    head = bytes((packet.kind,)) + size.to_bytes(3, "big") + packet.dts.to_bytes(3, "big") + bytes(4)
    return head + packet.body + (size + 11).to_bytes(4, "big")
