"""FFmpeg 9 and 5.1 read every container we write: the same frames, at the same times, decoded without a warning."""

from __future__ import annotations

import io
import random
from hashlib import sha256
from pathlib import Path

import pytest

from relay.media import flvfile
from relay.media.flv import FlvDemuxer
from relay.media.packets import Codec, MediaKind, Packet, Role, TrackSet
from relay.media.tracks import TrackTable
from relay.mux import recover
from relay.mux.errors import MuxError
from relay.mux.flv import FlvMuxer
from relay.mux.fmp4 import Fmp4Muxer
from relay.mux.mpegts import TsMuxer
from relay.mux.remux import progressive
from relay.mux.segment import Fragment
from tests.media.samples import CORPUS
from tests.mux import foreign
from tests.mux.material import FLV_FILES, mux, packets, tracks

VERSIONS = ["9", "5"]


def load(path: Path) -> tuple[TrackSet, list[Packet]]:
    """The tracks and packets of an FLV file."""
    demuxer, table = FlvDemuxer(), TrackTable()
    feed = [
        packet
        for tag in flvfile.read(path.read_bytes())
        for packet in demuxer.read_many(tag.type_id, tag.timestamp, tag.body)
    ]
    for packet in feed:
        table.see(packet)
    return table.tracks, feed


def frames(feed: list[Packet], kind: MediaKind, track: int) -> list[Packet]:
    return [packet for packet in feed if (packet.role, packet.kind, packet.track) == (Role.FRAME, kind, track)]


def digest(packet: Packet) -> str:
    payload = packet.payload
    return sha256(payload.removeprefix(b"\x12\x00") if packet.codec is Codec.AV1 else payload).hexdigest()


def check_copied(report: foreign.Report, muxer: Fmp4Muxer, feed: list[Packet]) -> None:
    """Every packet is the source's, at its time."""
    for number, track in enumerate(muxer.tracks):
        sent = frames(feed, track.kind, track.track_id)
        assert report.hashes(number) == [digest(packet) for packet in sent]
        for (dts, pts, _), packet in zip(report.packets[number], sent, strict=True):
            assert abs(dts - packet.dts) < 2
            assert abs(pts - packet.pts) < 2
    assert report.words == ""
    assert all(report.frames[number] for number in range(len(muxer.tracks)))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FLV_FILES)
def test_fragmented_mp4(name: str, version: str, tmp_path: Path) -> None:
    muxer, path = Fmp4Muxer(tracks(name).tracks), tmp_path / "file.mp4"
    fragments = mux(muxer, packets(name))
    path.write_bytes(muxer.init + b"".join(fragment.data for fragment in fragments))

    report = foreign.inspect(path, version)

    check_copied(report, muxer, packets(name))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FLV_FILES)
def test_progressive_mp4(name: str, version: str, tmp_path: Path) -> None:
    muxer, path = Fmp4Muxer(tracks(name).tracks), tmp_path / "file.mp4"
    fragments = mux(muxer, packets(name))
    with path.open("wb") as target:
        progressive(io.BytesIO(muxer.init + b"".join(fragment.data for fragment in fragments)), target)

    report = foreign.inspect(path, version)

    check_copied(report, muxer, packets(name))


@pytest.mark.parametrize("name", FLV_FILES)
def test_transport_stream(name: str, tmp_path: Path) -> None:
    try:
        muxer = TsMuxer(tracks(name).tracks)
    except MuxError:
        assert name in ("ertmp_opus.flv", "ertmp_flac.flv")
        return
    path, source = tmp_path / "file.ts", tmp_path / "source.flv"
    path.write_bytes(b"".join(fragment.data for fragment in mux(muxer, packets(name))))
    source.write_bytes((CORPUS / name).read_bytes())

    report, original = foreign.inspect(path), foreign.inspect(source)

    assert report.words == ""
    decoded = {track: original.frames[n] for n, track in enumerate(tracks(name).tracks)}
    for number, track in enumerate(muxer.tracks):
        assert report.frames[number] == decoded[track], track.codec


BFRAMES = ["-c:v", "libx264", "-preset", "veryfast", "-bf", "3", "-b_strategy", "0", "-g", "32", "-pix_fmt", "yuv420p"]


@pytest.fixture(scope="module")
def bframes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """128 pictures with three B-frames between others, and AAC."""
    path = tmp_path_factory.mktemp("bframes") / "source.flv"
    options = [*BFRAMES, "-frames:v", "128", "-c:a", "aac", "-b:a", "96k"]
    return foreign.encode(path, *options, seconds=128 / 30)


@pytest.mark.parametrize("version", VERSIONS)
def test_b_frames_in_fragmented_mp4(bframes: Path, version: str, tmp_path: Path) -> None:
    tracks_, feed = load(bframes)
    muxer, path = Fmp4Muxer(tracks_.tracks, file=True), tmp_path / "file.mp4"
    fragments = mux(muxer, feed)
    path.write_bytes(finished(muxer, fragments))

    report = foreign.inspect(path, version)

    check_copied(report, muxer, feed)
    assert len(report.frames[0]) == 128
    assert report.frames[0] == foreign.inspect(bframes, version).frames[0]
    assert {packet.cts for packet in frames(feed, MediaKind.VIDEO, 0)} > {0, 67, 133}


@pytest.mark.parametrize("version", VERSIONS)
def test_b_frames_in_a_transport_stream(bframes: Path, version: str, tmp_path: Path) -> None:
    tracks_, feed = load(bframes)
    muxer, path = TsMuxer(tracks_.tracks), tmp_path / "file.ts"
    path.write_bytes(b"".join(fragment.data for fragment in mux(muxer, feed)))

    report, source = foreign.inspect(path, version), foreign.inspect(bframes, version)

    assert report.frames == source.frames
    assert report.words == ""
    first = report.packets[0][0][0] - source.packets[0][0][0]
    for (dts, pts, _), (sent_dts, sent_pts, _) in zip(report.packets[0], source.packets[0], strict=True):
        assert (dts - first, pts - first) == pytest.approx((sent_dts, sent_pts), abs=0.1)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_segment_of_a_transport_stream_decodes_alone(bframes: Path, version: str, tmp_path: Path) -> None:
    tracks_, feed = load(bframes)
    fragments = mux(TsMuxer(tracks_.tracks), feed, part_ms=10_000)
    assert [round(fragment.duration_ms / 10) for fragment in fragments] == [107, 107, 107, 107]

    path = tmp_path / "segment.ts"
    path.write_bytes(fragments[2].data)
    report = foreign.inspect(path, version)

    assert (len(report.frames[0]), report.words) == (32, "")


def test_b_frames_in_flv_are_bit_exact_and_the_file_can_be_searched(bframes: Path, tmp_path: Path) -> None:
    tracks_, feed = load(bframes)
    muxer, path = FlvMuxer(tracks_), tmp_path / "file.flv"
    fragments = mux(muxer, [packet for packet in feed if packet.role is not Role.METADATA])
    path.write_bytes(finished(muxer, fragments))

    for version in VERSIONS:
        report, source = foreign.inspect(path, version), foreign.inspect(bframes, version)
        assert (report.packets, report.frames, report.words) == (source.packets, source.frames, "")
    found = foreign.probe(path, "-show_entries", "format=duration:format_tags=encoder")
    assert float(found["format"]["duration"]) == pytest.approx(128 / 30, abs=0.05)
    sought = foreign.probe(path, "-read_intervals", "3%+#1", "-select_streams", "v", "-show_packets")
    assert float(sought["packets"][0]["dts_time"]) == pytest.approx(96 / 30, abs=0.04)


@pytest.mark.parametrize("container", ["flv", "mp4", "ts"])
def test_a_torn_file_cut_where_we_say_is_read_without_a_word(container: str, bframes: Path, tmp_path: Path) -> None:
    tracks_, feed = load(bframes)
    made = {
        "flv": lambda: FlvMuxer(tracks_),
        "mp4": lambda: Fmp4Muxer(tracks_.tracks),
        "ts": lambda: TsMuxer(tracks_.tracks),
    }
    muxer = made[container]()
    fragments = mux(muxer, [packet for packet in feed if packet.role is not Role.METADATA])
    data = muxer.init + b"".join(fragment.data for fragment in fragments)
    find = {"flv": recover.whole_flv, "mp4": recover.whole_fmp4, "ts": recover.whole_ts}[container]
    chance = random.Random(container)

    for _ in range(4):
        torn = data[: chance.randrange(len(data) // 4, len(data))] + bytes(chance.choice([0, 70_000]))
        whole = find(lambda offset, size, torn=torn: torn[offset : offset + size])
        path = tmp_path / f"file.{container}"
        path.write_bytes(torn[:whole])
        report = foreign.inspect(path)
        if container != "ts":  # its last picture may be cut in the middle, which decoders remark upon
            assert report.words == ""
        for number, kind in enumerate((MediaKind.VIDEO, MediaKind.AUDIO)):
            sent = [sha256(packet.payload).hexdigest() for packet in frames(feed, kind, 0)]
            got = report.hashes(number)
            assert len(got) > 15
            if container != "ts":
                assert got == sent[: len(got)]


def finished(muxer: Fmp4Muxer | FlvMuxer, fragments: list[Fragment]) -> bytes:
    """The complete file: pieces, patches, tail."""
    data = bytearray(muxer.init + b"".join(fragment.data for fragment in fragments))
    end = muxer.finish()
    for offset, patch in end.patches:
        data[offset : offset + len(patch)] = patch
    return bytes(data + end.tail)
