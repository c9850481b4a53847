"""One stream as a destination wants it."""

from __future__ import annotations

import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media import configs, flvbuild, flvfile, metadata
from relay.media.flv import FlvDemuxer
from relay.media.packets import Codec, MediaKind, Packet, Role, TrackSet
from relay.media.silent_track import SilentTrack
from relay.media.tailor import Tailor, Tailoring
from relay.media.tracks import TrackTable
from tests.media import samples

AUDIO, VIDEO, DATA = MediaKind.AUDIO, MediaKind.VIDEO, MediaKind.DATA
SINGLE = Tailoring(multitrack=False, legacy=True)


def tracks_of(packets: list[Packet]) -> TrackSet:
    table = TrackTable()
    for packet in packets:
        table.see(packet)
    return table.tracks


def tailored(rules: Tailoring, packets: list[Packet]) -> tuple[TrackSet, list[Packet]]:
    """Cut a whole stream: its tracks, then everything that a stream writes."""
    tailor = Tailor(rules)
    tracks = tailor.configure(tracks_of(packets))
    return tracks, [cut for packet in packets if packet.role is not Role.HEADER for cut in tailor.cut(packet)]


def read_back(packets: list[Packet]) -> list[Packet]:
    """Demux bodies again, as the destination does."""
    demuxer = FlvDemuxer()
    return [one for packet in packets for one in demuxer.read_many(packet.kind, packet.dts, packet.body)]


@pytest.mark.parametrize("name", samples.FLV_FILES)
def test_everything_as_it_comes_is_the_same_objects(name: str) -> None:
    packets = samples.packets(name)
    tracks, cut = tailored(Tailoring(), packets)

    assert Tailoring().changes_nothing
    assert tracks == tracks_of(packets)
    assert [id(one) for one in cut] == [id(one) for one in packets if one.role is not Role.HEADER]


def test_a_stream_that_fits_already_is_not_copied() -> None:
    packets = [one for one in samples.packets("ertmp_h264.flv") if one.kind is not DATA]
    legacy = [flvbuild.flatten(one) for one in packets]
    tracks, cut = tailored(SINGLE, legacy)

    assert tracks == tracks_of(legacy)
    assert [id(one) for one in cut] == [id(one) for one in legacy if one.role not in (Role.HEADER, Role.SIDE)]


@pytest.mark.parametrize("name", samples.FLV_FILES)
def test_a_destination_for_one_track_gets_the_default_tracks_in_plain_form(name: str) -> None:
    packets = samples.packets(name)
    tracks, cut = tailored(SINGLE, packets)
    wanted = Counter((one.kind, one.role) for one in packets if one.track == 0 and one.role is Role.FRAME)

    assert {track.track_id for track in tracks.tracks} == {0}
    assert {one.track for one in cut} == {0}
    assert Counter((one.kind, one.role) for one in cut if one.role is Role.FRAME) == wanted
    for one in cut:
        if one.codec in flvbuild.LEGACY_CODECS and one.role is Role.FRAME:
            assert flvbuild.is_legacy(one)


@pytest.mark.parametrize(("video", "audio"), [(1, None), (None, 1), (1, 1), (0, 0)])
def test_a_chosen_track_arrives_as_the_default_one_with_every_byte_of_its_payload(
    video: int | None, audio: int | None
) -> None:
    packets = samples.packets("ertmp_multitrack.flv")
    rules = Tailoring(multitrack=False, legacy=True, video_track=video, audio_track=audio)
    tracks, cut = tailored(rules, packets)
    arrived = read_back(tracks.opening() + cut)

    for kind, track in ((VIDEO, video or 0), (AUDIO, audio or 0)):
        sent = [p for p in packets if p.kind is kind and p.track == track and p.role is Role.FRAME]
        got = [p for p in arrived if p.kind is kind and p.role is Role.FRAME]
        assert sent
        assert [(p.track, p.codec, p.keyframe, p.cts, p.payload) for p in got] == [
            (0, p.codec, p.keyframe, p.cts, p.payload) for p in sent
        ]
        source = tracks_of(packets).find(kind, track)
        found = tracks.find(kind)
        assert source is not None
        assert found is not None
        assert found.config == source.config


def test_a_track_that_is_not_there_is_not_replaced_by_another() -> None:
    tracks, cut = tailored(Tailoring(audio_track=7), samples.packets("ertmp_multitrack.flv"))

    assert tracks.find(AUDIO) is None
    assert not [one for one in cut if one.kind is AUDIO]
    assert tracks.has_video


def test_without_a_track_0_the_lowest_is_the_default() -> None:
    packets = [one for one in samples.packets("ertmp_multitrack.flv") if one.track != 0 or one.kind is not AUDIO]
    tracks, cut = tailored(Tailoring(multitrack=False), packets)
    audio = tracks.find(AUDIO)

    assert audio is not None
    assert [one for one in cut if one.kind is AUDIO]


def test_multitrack_wrapping_of_the_default_track_is_taken_off() -> None:
    plain = flvbuild.enhanced_video(Codec.HEVC, b"payload", keyframe=True, cts=40, track=1)
    wrapped = plain[:6] + b"\x00" + plain[7:]  # the same with track id 0
    (packet,) = FlvDemuxer().read_many(9, 5, wrapped)
    tailor = Tailor(Tailoring(multitrack=False))
    tailor.configure(TrackSet(tracks_of(samples.packets("ertmp_hevc.flv")).tracks))
    (cut,) = tailor.cut(packet)

    assert packet.track == 0
    assert cut.body == flvbuild.enhanced_video(Codec.HEVC, b"payload", keyframe=True, cts=40)
    assert (cut.payload, cut.cts, cut.dts, cut.keyframe) == (b"payload", 40, 5, True)


def test_metadata_of_a_chosen_track_describes_that_track() -> None:
    packets = samples.packets("ertmp_multitrack.flv")
    tracks = tracks_of(packets)
    first, second = tracks.find(VIDEO, 0), tracks.find(VIDEO, 1)
    assert first is not None
    assert second is not None
    said = {"width": 1.0, "encoder": "x", "videoTrackIdInfoMap": {"1": {"videodatarate": 300.0}}, "videodatarate": 9.0}
    announced = metadata.packet(said)
    tailor = Tailor(Tailoring(multitrack=False, video_track=1))
    cut = tailor.configure(TrackSet(tracks.tracks, announced)).metadata
    facts = configs.video_facts(second)
    assert cut is not None
    assert facts is not None
    values = metadata.metadata_values(cut)

    assert values["width"] == facts.width
    assert values["encoder"] == "x"
    assert values["videodatarate"] == 300.0
    assert "videoTrackIdInfoMap" not in values
    assert metadata.metadata_values(tailor.cut(announced)[0]) == values, "an update is treated in the same way"


@pytest.mark.parametrize(("rule", "kept"), [("keep", True), ("correct", True), ("strip", False)])
def test_metadata_is_kept_corrected_or_stripped(rule: str, kept: bool) -> None:
    tracks = TrackSet(tracks_of(samples.packets("ertmp_h264.flv")).tracks, metadata.packet({"encoder": "canary"}, 7))
    cut = Tailor(Tailoring(metadata=rule)).configure(tracks).metadata  # type: ignore[arg-type]
    assert cut is not None

    assert ("encoder" in metadata.metadata_values(cut)) is kept
    assert cut.dts == 7
    assert (cut is tracks.metadata) is kept, "nothing was to be corrected"


def test_stripped_metadata_is_there_even_if_the_encoder_sent_none() -> None:
    tracks = TrackSet(tracks_of(samples.packets("ertmp_h264.flv")).tracks)
    cut = Tailor(Tailoring(metadata="strip")).configure(tracks).metadata
    assert cut is not None

    assert metadata.metadata_values(cut)["videocodecid"] == 7.0
    assert not Tailoring(metadata="strip").changes_nothing


# Silence.


def pictures(*times: int) -> list[Packet]:
    return [
        Packet(VIDEO, 0, Codec.AVC, Role.FRAME, n == 0, dts, 0, b"\x17\x01\x00\x00\x00x", 5)
        for n, dts in enumerate(times)
    ]


def silent(*times: int) -> list[Packet]:
    """The sound of pictures at these times, for a stream that has none."""
    video = [one for one in tracks_of(samples.packets("ertmp_h264.flv")).tracks if one.kind is VIDEO]
    tailor = Tailor(Tailoring(silent_audio=True))
    tracks = tailor.configure(TrackSet(tuple(video)))
    sound = tracks.find(AUDIO)
    assert sound is not None
    facts = configs.audio_facts(sound)
    assert facts is not None
    assert (facts.sample_rate, facts.channels) == (48_000, 2)
    return [cut for packet in pictures(*times) for cut in tailor.cut(packet)]


@given(st.lists(st.integers(1, 900), max_size=60), st.integers(0, 2**40))
def test_silence_keeps_step_with_the_picture(steps: list[int], start: int) -> None:
    times = [start]
    for step in steps:
        times.append(times[-1] + step)
    cut = silent(*times)
    sound = [one.dts for one in cut if one.kind is AUDIO]

    assert [one.dts for one in cut if one.kind is VIDEO] == times
    assert sound[0] == start
    assert times[-1] - 22 < sound[-1] <= times[-1]
    assert all(20 <= later - earlier <= 22 for earlier, later in pairwise(sound))
    assert [one.dts for one in cut] == sorted(one.dts for one in cut), "sound comes before the picture it belongs to"


@pytest.mark.parametrize("jump", [-60_000, -1_001, 1_022, 5_000, 86_400_000])
def test_a_hole_in_the_programme_is_a_hole_in_the_silence(jump: int) -> None:
    sound = [one.dts for one in silent(0, 40, 40 + jump) if one.kind is AUDIO]

    assert sound == [0, 21, 40 + jump]


def test_silence_ends_when_sound_comes_and_begins_when_it_goes() -> None:
    both = tracks_of(samples.packets("ertmp_h264.flv"))
    video = TrackSet(tuple(track for track in both.tracks if track.kind is VIDEO))
    tailor = Tailor(Tailoring(silent_audio=True))

    assert tailor.configure(video).find(AUDIO) is not None
    assert len(tailor.cut(pictures(0)[0])) == 2
    assert tailor.configure(both) == both
    assert len(tailor.cut(pictures(40)[0])) == 1
    assert tailor.configure(video).find(AUDIO) is not None
    assert len(tailor.cut(pictures(80)[0])) == 2


def test_silence_takes_the_place_of_a_chosen_track_that_is_missing() -> None:
    rules = Tailoring(multitrack=False, audio_track=5, silent_audio=True)
    tracks, cut = tailored(rules, samples.packets("ertmp_multitrack.flv"))
    sound = tracks.find(AUDIO)

    assert sound is not None
    assert sound.config == b"\x11\x90"
    assert {len(one.body) for one in cut if one.kind is AUDIO} == {8}


def test_ffmpeg_hears_nothing_in_the_silence(tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs FFmpeg: pip install 'rtmp-relay[test]'")
    header = SilentTrack.track().header
    assert header is not None
    clock = SilentTrack()
    packets = [header, *(one for dts in range(0, 1000, 40) for one in clock.until(dts))]
    path = tmp_path / "silence.flv"
    path.write_bytes(flvfile.write(packets))
    run = subprocess.run(
        [ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, "-f", "s16le", "-"], capture_output=True, check=True
    )

    assert run.stderr == b""
    assert len(run.stdout) == (len(packets) - 1) * 1024 * 4
    assert set(run.stdout) == {0}
