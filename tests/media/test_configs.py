"""One door to all codecs: facts and playlist strings of every track in the corpus."""

from __future__ import annotations

import pytest

from relay.media import configs
from relay.media.errors import MediaError
from relay.media.packets import Codec, MediaKind, Role, Track
from relay.media.tracks import TrackTable
from tests.media import samples


def tracks(name: str) -> dict[tuple[MediaKind, int], Track]:
    table = TrackTable()
    for packet in samples.packets(name):
        table.see(packet)
    return {(track.kind, track.track_id): track for track in table.tracks.tracks}


@pytest.mark.parametrize(
    ("name", "strings"),
    [
        ("ertmp_h264.flv", ["avc1.4D400A", "mp4a.40.2"]),
        ("ertmp_hevc.flv", ["hvc1.1.6.L30.90", "mp4a.40.2"]),
        ("ertmp_av1.flv", ["av01.0.00M.08", "mp4a.40.2"]),
        ("ertmp_vp9.flv", ["vp09.00.10.08", "mp4a.40.2"]),
        ("ertmp_opus.flv", ["Opus"]),
        ("ertmp_flac.flv", ["fLaC"]),
        ("ertmp_ac3.flv", ["ac-3"]),
        ("ertmp_eac3.flv", ["ec-3"]),
        ("ertmp_mp3.flv", ["mp4a.40.34"]),
    ],
)
def test_playlist_strings(name, strings):
    assert [configs.codec_string(track) for track in tracks(name).values()] == strings


@pytest.mark.parametrize("name", ["ertmp_h264.flv", "ertmp_hevc.flv", "ertmp_av1.flv", "ertmp_multitrack.flv"])
def test_video_facts(name):
    facts = configs.video_facts(tracks(name)[MediaKind.VIDEO, 0])

    assert facts is not None
    assert (facts.width, facts.height) == (160, 90)


@pytest.mark.parametrize("name", ["ertmp_opus.flv", "ertmp_flac.flv", "ertmp_ac3.flv", "ertmp_eac3.flv"])
def test_audio_facts(name):
    frame = next(packet.payload for packet in samples.packets(name) if packet.role is Role.FRAME)
    facts = configs.audio_facts(tracks(name)[MediaKind.AUDIO, 0], frame)

    assert facts is not None
    assert facts.sample_rate == 48_000


def test_tracks_without_configuration_say_nothing():
    for codec in Codec:
        track = Track(kind=MediaKind.VIDEO, track_id=0, codec=codec)
        assert configs.video_facts(track) is None
        assert configs.audio_facts(track) is None
        assert isinstance(configs.codec_string(track), str | None)


@pytest.mark.parametrize("codec", sorted(configs.NEEDS_HEADER, key=lambda codec: codec.value))
def test_an_empty_configuration_is_bad_where_one_is_needed(codec):
    with pytest.raises(MediaError) as caught:
        configs.check(codec, b"")
    assert caught.value.code == "media.bad_config"


def test_an_empty_configuration_is_right_where_none_is_needed():
    configs.check(Codec.AC3, b"")
    configs.check(Codec.MP3, b"")


def test_records_are_repaired_only_from_complete_annex_b():
    sps, pps = samples.AVCC_1080P[8:37], samples.AVCC_1080P[40:46]

    assert configs.repair(Codec.AVC, b"\x00\x00\x01" + sps + b"\x00\x00\x01" + pps) == samples.AVCC_1080P
    assert configs.repair(Codec.AVC, b"\x00\x00\x01" + sps) is None
    assert configs.repair(Codec.AVC, b"\x00\x00\x01\x67\xff\x00\x00\x01\x68") is None
    assert configs.repair(Codec.AVC, samples.AVCC_1080P[:9]) is None
    assert configs.repair(Codec.AAC, b"\x00\x00\x01" + sps) is None
