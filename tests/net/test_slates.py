"""The operator's own slate: encoded to fit the stream, shown in place of the last picture, and no danger to anybody."""

from __future__ import annotations

import itertools
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from relay.media import flvfile
from relay.media.errors import MediaError
from relay.media.flv import FlvDemuxer
from relay.media.packets import Codec, MediaKind, Packet, Role, Track, TrackSet
from relay.net import slates
from relay.net.encoderchild import ChildError, EncoderChild
from relay.stream.clip import Clip, make_clip
from relay.stream.slate import Slate
from tests.integration.harness import ffmpeg9

SIZE = (320, 180)
"""Not a multiple of 16: the stream's own cropping must be kept."""


def ffmpeg(*args: str | Path) -> bytes:
    done = subprocess.run([ffmpeg9(), "-v", "error", "-y", *map(str, args)], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def tracks_of(data: bytes) -> tuple[TrackSet, list[flvfile.Tag]]:
    """The tracks of an FLV file, and its tags."""
    tags = [tag for tag in flvfile.read(data) if tag.type_id in (8, 9)]
    found = []
    for kind, codec, offset in ((MediaKind.VIDEO, Codec.AVC, 5), (MediaKind.AUDIO, Codec.AAC, 2)):
        body = next((tag.body for tag in tags if tag.type_id == kind and tag.body[1] == 0), None)
        if body is not None:
            header = Packet(kind, 0, codec, Role.HEADER, False, 0, 0, body, offset)
            found.append(Track(kind=kind, track_id=0, codec=codec, header=header))
    return TrackSet(tuple(found)), tags


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slates")


@pytest.fixture(scope="module")
def red(place: Path) -> Path:
    """A picture that nobody can mistake."""
    path = place / "red.png"
    ffmpeg("-f", "lavfi", "-i", "color=red:size=200x200", "-frames:v", "1", path)
    return path


STREAMS = {
    "high-b-frames": "-preset veryfast -bf 3",
    "baseline": "-profile:v baseline -preset veryfast",
    "main-cabac-weighted": "-profile:v main -preset medium -bf 0 -x264-params weightp=2:ref=4:interlaced=0",
    "no-8x8-offsets": "-preset fast -x264-params 8x8dct=0:chroma-qp-offset=4:psy=0:constrained-intra=1",
    "zero-latency": "-preset ultrafast -tune zerolatency -x264-params keyint=300:sliced-threads=1",
    "no-vui-timing": "-preset faster -x264-params force-cfr=0:colorprim=bt709:transfer=bt709:colormatrix=bt709",
}


def stream(options: str, *, rate: int = 44100) -> bytes:
    """One second of what an encoder sends."""
    picture = f"testsrc2=size={SIZE[0]}x{SIZE[1]}:rate=30"
    args = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", f"sine=sample_rate={rate}", "-t", "1", "-c:v", "libx264"]
    return ffmpeg(*args, "-pix_fmt", "yuv420p", *options.split(), "-c:a", "aac", "-ac", "2", "-f", "flv", "-")


def shown(tracks: TrackSet, clip: Clip, seconds: float) -> list[Packet]:
    """What the slate gives in so many seconds."""
    slate = Slate(tracks, (), start=5000, now=0.0, clip=clip)
    return [packet for step in range(round(seconds * 10)) for packet in slate.due(step / 10)]


def rows(path: Path) -> list[tuple[int, int, int]]:
    """Decode; the colour in the middle of each picture. The decoder must not complain."""
    done = subprocess.run(
        [
            ffmpeg9(),
            "-v",
            "error",
            "-xerror",
            "-i",
            str(path),
            "-an",
            "-vf",
            "crop=2:2,format=rgb24",
            "-fps_mode",
            "passthrough",
            "-enc_time_base",
            "1:1000",
            "-f",
            "rawvideo",
            "-",
        ],
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    return [tuple(done.stdout[at : at + 3]) for at in range(0, len(done.stdout), 12)]  # type: ignore[misc]


@pytest.mark.parametrize("kind", STREAMS)
def test_a_picture_decodes_with_the_parameter_sets_of_the_stream(kind: str, red: Path, tmp_path: Path) -> None:
    tracks, tags = tracks_of(stream(STREAMS[kind]))

    clip = slates.encode_file(EncoderChild(), red, tracks)
    packets = shown(tracks, clip, 3)

    assert clip.fits(tracks)
    last = max(tag.timestamp for tag in tags) + 200
    slate = [flvfile.tag(one.kind, last + one.dts - 5000, one.body) for one in packets]
    live = [flvfile.tag(tag.type_id, tag.timestamp, tag.body) for tag in tags]
    again = [flvfile.tag(tag.type_id, last + 3200 + tag.timestamp, tag.body) for tag in tags if tag.body[1] == 1]
    file = tmp_path / "all.flv"
    file.write_bytes(flvfile.file_header() + b"".join([*live, *slate, *again]))
    colours = rows(file)
    pictures = [one for one in packets if one.kind is MediaKind.VIDEO]
    assert len(colours) == 60 + len(pictures)
    for red_part, green, blue in colours[31 : 30 + len(pictures)]:
        assert red_part > 220, "red"
        assert max(green, blue) < 40, "not green"
    keyframes = [one.dts for one in pictures if one.keyframe]
    assert max(after - before for before, after in itertools.pairwise(keyframes)) <= 1000


def test_a_clip_brings_its_sound_in_the_configuration_of_the_stream(place: Path, tmp_path: Path) -> None:
    clip_file = place / "clip.mp4"
    picture = ["-f", "lavfi", "-i", "color=blue:size=640x480:rate=25", "-f", "lavfi", "-i", "sine=frequency=1000"]
    ffmpeg(*picture, "-t", "2", "-c:v", "libx264", "-c:a", "aac", "-ar", "32000", "-ac", "1", clip_file)
    tracks, _ = tracks_of(stream("-preset veryfast"))

    clip = slates.encode_file(EncoderChild(), clip_file, tracks)
    packets = shown(tracks, clip, 5)

    sound = tracks.find(MediaKind.AUDIO)
    assert sound is not None
    assert clip.has_sound_for(sound)
    file = tmp_path / "slate.flv"
    opening = [flvfile.packet_tag(packet) for packet in tracks.opening()]
    file.write_bytes(flvfile.file_header() + b"".join([*opening, *(flvfile.packet_tag(one, 5000) for one in packets)]))
    levels = subprocess.run(
        [ffmpeg9(), "-hide_banner", "-i", str(file), "-af", "volumedetect", "-vn", "-f", "null", "-"],
        capture_output=True,
        text=True,
        timeout=60,
    ).stderr
    assert "mean_volume: -2" in levels, levels
    for kind in (MediaKind.VIDEO, MediaKind.AUDIO):
        times = [one.dts for one in packets if one.kind is kind]
        assert all(before < after for before, after in itertools.pairwise(times))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("-preset veryfast -x264-params interlaced=1", "interlaced"),
        ("-preset veryfast -x264-params cqm=jvt", "scaling matrices"),
    ],
)
def test_what_cannot_fit_is_refused_with_the_reason(options: str, why: str, red: Path) -> None:
    tracks, _ = tracks_of(stream(options))

    with pytest.raises(Exception, match=why):
        slates.encode_file(EncoderChild(), red, tracks)


HEVC_STREAMS = {
    "medium": ("yuv420p", (320, 180), "-preset medium -x265-params log-level=error:bframes=3"),
    "ultrafast": ("yuv420p", (320, 180), "-preset ultrafast -x265-params log-level=error"),
    "other-tools": (
        "yuv420p",
        (640, 360),
        "-preset fast -x265-params log-level=error:ctu=32:tskip=1:cbqpoffs=3:crqpoffs=-2:signhide=0:wpp=0:aq-mode=0:"
        "cutree=0:tu-intra-depth=3:no-strong-intra-smoothing=1:max-tu-size=16",
    ),
    "small-blocks-groups": ("yuv420p", (320, 180), "-preset fast -x265-params log-level=error:ctu=16:qg-size=8"),
    "10-bit": ("yuv420p10le", (320, 180), "-preset fast -x265-params log-level=error:deblock=2,-2"),
}


def hevc_stream(pixels: str, size: tuple[int, int], options: str) -> bytes:
    """One second of what an HEVC encoder sends."""
    picture = f"testsrc2=size={size[0]}x{size[1]}:rate=30"
    args = ["-f", "lavfi", "-i", picture, "-t", "1", "-c:v", "libx265", "-pix_fmt", pixels, *options.split()]
    return ffmpeg(*args, "-f", "flv", "-")


def hevc_tracks(data: bytes) -> tuple[TrackSet, list[Packet]]:
    """The track of an FLV file, and its pictures."""
    demuxer = FlvDemuxer()
    packets = [p for tag in flvfile.read(data) for p in demuxer.read_many(tag.type_id, tag.timestamp, tag.body)]
    header = next(packet for packet in packets if packet.role is Role.HEADER)
    track = Track(kind=MediaKind.VIDEO, track_id=0, codec=Codec.HEVC, header=header)
    return TrackSet((track,)), [packet for packet in packets if packet.role is Role.FRAME]


def luma(args: list[str], size: tuple[int, int]) -> list[bytes]:
    """Decode; the brightness of every picture. The decoder must not complain."""
    command = [ffmpeg9(), "-v", "error", "-xerror", *args, "-fps_mode", "passthrough", "-enc_time_base", "1:1000"]
    done = subprocess.run([*command, "-f", "rawvideo", "-"], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    step = size[0] * size[1]
    return [done.stdout[at : at + step] for at in range(0, len(done.stdout), step)]


@pytest.fixture(scope="module")
def detailed(place: Path) -> Path:
    """A picture in which a single wrong bit of a block shows."""
    path = place / "detailed.png"
    ffmpeg("-f", "lavfi", "-i", "mandelbrot=size=640x360", "-frames:v", "1", path)
    return path


@pytest.mark.parametrize("kind", HEVC_STREAMS)
def test_a_picture_decodes_with_the_parameter_sets_of_an_hevc_stream(kind: str, detailed: Path, tmp_path: Path) -> None:
    pixels, size, options = HEVC_STREAMS[kind]
    tracks, live = hevc_tracks(hevc_stream(pixels, size, options))

    clip = slates.encode_file(EncoderChild(), detailed, tracks)
    slate = shown(tracks, clip, 2)

    assert clip.fits(tracks)
    assert all(one.keyframe for one in slate)
    last = live[-1].dts + 200
    sent = [*live, *(replace(one, dts=last + one.dts - 5000) for one in slate)]
    sent += [replace(one, dts=one.dts + last + 3000) for one in live]
    file = tmp_path / "all.flv"
    tags = [flvfile.packet_tag(packet) for packet in (*tracks.opening(), *sent)]
    file.write_bytes(flvfile.file_header() + b"".join(tags))
    grey = f"scale={size[0]}:{size[1]},format=gray"
    pictures = luma(["-i", str(file), "-vf", grey], size)
    (wanted,) = luma(["-i", str(detailed), "-vf", grey], size)
    assert len(pictures) == len(sent)
    for got in pictures[len(live) : len(live) + len(slate)]:
        apart = sum(abs(one - other) for one, other in zip(got, wanted, strict=True)) / len(wanted)
        assert apart < 4, "not the picture that was asked for"
    assert pictures[: len(live)] == pictures[len(live) + len(slate) :], "the stream itself is as before"


@pytest.mark.parametrize(
    ("options", "why"),
    [("scaling-list=default", "scaling lists"), ("colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc", "HDR")],
)
def test_what_cannot_fit_an_hevc_stream_is_refused_with_the_reason(options: str, why: str, red: Path) -> None:
    stream = hevc_stream("yuv420p", SIZE, f"-preset ultrafast -x265-params log-level=error:{options}")

    with pytest.raises(MediaError, match=why):
        slates.encode_file(EncoderChild(), red, hevc_tracks(stream)[0])


def test_a_clip_is_not_shown_with_other_parameters(red: Path) -> None:
    tracks, _ = tracks_of(stream(STREAMS["baseline"]))
    others, tags = tracks_of(stream(STREAMS["high-b-frames"]))
    clip = slates.encode_file(EncoderChild(), red, tracks)
    last = next(tag for tag in tags if tag.type_id == 9 and tag.body[:2] == b"\x17\x01")
    keyframe = Packet(MediaKind.VIDEO, 0, Codec.AVC, Role.FRAME, True, 0, 0, last.body, 5)

    slate = Slate(others, (keyframe,), start=0, now=0.0, clip=clip)

    assert [one.body for one in slate.due(0.0) if one.kind is MediaKind.VIDEO] == [last.body]


def test_a_file_that_is_no_picture_is_refused(place: Path) -> None:
    tracks, _ = tracks_of(stream("-preset veryfast"))
    file = place / "notes.png"
    file.write_text("no picture")

    with pytest.raises(ChildError):
        slates.encode_file(EncoderChild(deadline_s=20), file, tracks)


def test_an_encoder_without_pictures_is_refused() -> None:
    tracks, _ = tracks_of(stream("-preset veryfast"))

    with pytest.raises(Exception, match="no picture"):
        make_clip(flvfile.file_header(), tracks, fps=30)


# --- the child -------------------------------------------------------------------------------------------------------


def sh(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo no such codec >&2; exit 3", "no such codec"),
        ("exit 7", "exit code 7"),
        ("kill -9 $$", "exit code -9"),
        ("trap '' TERM; while :; do sleep 0.1; done", "longer than"),
        ("exec >&- 2>&-; sleep 60", "did not end"),
        ("sleep 60 & wait", "longer than"),
        ("while :; do echo ffffffffffffffffffffffffffffff >&2; done", "longer than"),
        ("cat /dev/zero", "larger than"),
    ],
)
def test_whatever_the_child_does_it_is_ended_and_the_reason_is_said(script: str, why: str) -> None:
    child = EncoderChild(deadline_s=0.5, term_s=0.2, max_output=1024 * 1024)
    began = time.monotonic()

    with pytest.raises(ChildError, match=why):
        child.run(sh(script))

    assert time.monotonic() - began < 10


def test_what_the_child_started_ends_with_it() -> None:
    pid = int(EncoderChild(deadline_s=5).run(sh("sleep 300 >/dev/null 2>&1 & echo $!")))

    stat = Path(f"/proc/{pid}/stat")
    until = time.monotonic() + 5
    while stat.exists() and stat.read_text().split()[2] != "Z":
        assert time.monotonic() < until, "the grandchild lives on"
        time.sleep(0.01)


def test_the_child_gets_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWNHALL_KEY", "canary-4711")

    said = EncoderChild(deadline_s=5).run(sh("env; ls /proc/self/fd; ulimit -c; ulimit -f")).decode()

    assert "canary" not in said
    assert said.split()[-2:] == ["0", "0"]


def test_a_child_that_is_missing_is_a_reason_and_no_crash() -> None:
    with pytest.raises(ChildError, match="cannot be started"):
        EncoderChild().run(["/nonexistent/ffmpeg"])


def test_after_the_stop_nothing_is_started() -> None:
    child = EncoderChild()
    child.stop()

    with pytest.raises(ChildError, match="the relay stops"):
        child.run(sh("true"))
