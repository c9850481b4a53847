"""Packets to bodies: legacy, enhanced, other tracks; what is built demuxes to the same packet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media import flvbuild
from relay.media.errors import MediaError
from relay.media.flv import FlvDemuxer
from relay.media.packets import Codec, MediaKind, Packet, Role
from tests.media import samples

AUDIO, VIDEO = MediaKind.AUDIO, MediaKind.VIDEO
VIDEO_CODECS = [Codec.AVC, Codec.HEVC, Codec.VVC, Codec.AV1, Codec.VP8, Codec.VP9]
COMPOSED = {Codec.AVC, Codec.HEVC, Codec.VVC}
AUDIO_CODECS = [Codec.AAC, Codec.MP3, Codec.OPUS, Codec.FLAC, Codec.AC3, Codec.EAC3]


def only(body: bytes, type_id: int) -> Packet:
    (packet,) = [p for p in FlvDemuxer().read_many(type_id, 0, body) if p.role is not Role.HEADER]
    return packet


@given(
    st.sampled_from(VIDEO_CODECS),
    st.booleans(),
    st.integers(-(2**23), 2**23 - 1),
    st.integers(0, 255),
    st.binary(min_size=1),
)
def test_enhanced_video_comes_back(codec, keyframe, cts, track, payload):
    cts = cts if codec in COMPOSED else 0
    packet = only(flvbuild.enhanced_video(codec, payload, keyframe=keyframe, cts=cts, track=track), 9)

    assert (packet.codec, packet.keyframe, packet.cts, packet.track) == (codec, keyframe, cts, track)
    assert (packet.payload, packet.role) == (payload, Role.FRAME)


@given(st.sampled_from(AUDIO_CODECS), st.integers(0, 255), st.binary(min_size=1))
def test_enhanced_audio_comes_back(codec, track, payload):
    packet = only(flvbuild.enhanced_audio(codec, payload, track=track), 8)

    assert (packet.codec, packet.track, packet.payload, packet.role) == (codec, track, payload, Role.FRAME)


@pytest.mark.parametrize("role", [Role.SIDE, Role.END])
def test_enhanced_side_and_end_come_back(role):
    payload = b"x" if role is Role.SIDE else b""

    assert only(flvbuild.enhanced_video(Codec.HEVC, payload, role=role), 9).role is role
    assert only(flvbuild.enhanced_audio(Codec.OPUS, payload, role=role, track=2), 8).role is role


def test_composition_times_out_of_range_are_clamped():
    assert only(flvbuild.legacy_video(Codec.AVC, b"x", cts=2**30), 9).cts == 2**23 - 1
    assert only(flvbuild.legacy_video(Codec.AVC, b"x", cts=-(2**30)), 9).cts == -(2**23)


@pytest.mark.parametrize("name", samples.FLV_FILES)
@pytest.mark.parametrize("track", [0, 1, 9])
def test_a_packet_moved_to_another_track_and_back_keeps_its_content(name, track):
    for packet in samples.packets(name):
        moved = flvbuild.retrack(packet, track)
        if packet.kind is MediaKind.DATA or (packet.role is Role.END and packet.kind is VIDEO):
            continue
        again = next(p for p in FlvDemuxer().read_many(packet.kind, packet.dts, moved.body) if p.role is packet.role)

        assert (moved.track, moved.offset) == (again.track, again.offset) == (track, moved.offset)
        for other in (moved, again):
            assert (other.codec, other.role, other.keyframe) == (packet.codec, packet.role, packet.keyframe)
            assert (other.cts, other.payload) == (packet.cts, packet.payload)


def test_the_second_track_becomes_the_default_track_in_legacy_form():
    packets = [p for p in samples.packets("ertmp_multitrack.flv") if p.track == 1 and p.role is not Role.SIDE]
    flat = [flvbuild.to_default_track(packet) for packet in packets]

    assert {packet.body[:2] for packet in flat} == {b"\x17\x00", b"\x17\x01", b"\x27\x01", b"\xaf\x00", b"\xaf\x01"}
    assert all(flvbuild.is_legacy(packet) for packet in flat)
    assert [packet.payload for packet in flat] == [packet.payload for packet in packets]


@pytest.mark.parametrize(
    ("kind", "enhanced", "legacy"),
    [
        (9, b"\x90avc1" + samples.AVCC_1080P, b"\x17\x00\x00\x00\x00" + samples.AVCC_1080P),
        (9, b"\x91avc1\x00\x00\x28data", b"\x17\x01\x00\x00\x28data"),
        (9, b"\xa3avc1data", b"\x27\x01\x00\x00\x00data"),
        (9, b"\x92avc1", b"\x17\x02\x00\x00\x00"),
        (8, b"\x90mp4a\x11\x90", b"\xaf\x00\x11\x90"),
        (8, b"\x91mp4adata", b"\xaf\x01data"),
        (8, b"\x91.mp3data", b"\x2fdata"),
    ],
)
def test_enhanced_avc_and_aac_flatten_to_legacy(kind, enhanced, legacy):
    packet = FlvDemuxer().read(kind, 0, enhanced)
    assert packet is not None
    flat = flvbuild.flatten(packet)

    assert flat.body == legacy
    assert flat.payload == packet.payload
    assert packet.body == enhanced


@pytest.mark.parametrize(
    ("kind", "body"),
    [(9, b"\x94avc1x"), (9, b"\xa3hvc1x"), (8, b"\x91Opusx"), (8, b"\x92mp4a"), (8, b"\x90.mp3x"), (8, b"\xaf\x01x")],
)
def test_what_has_no_legacy_form_stays_as_it_is(kind, body):
    packet = FlvDemuxer().read(kind, 0, body)

    assert packet is not None
    assert flvbuild.flatten(packet) is packet


def test_forms_that_do_not_exist_are_refused():
    with pytest.raises(MediaError):
        flvbuild.legacy_video(Codec.HEVC, b"x")
    with pytest.raises(MediaError):
        flvbuild.legacy_audio(Codec.OPUS, b"x")
    with pytest.raises(MediaError):
        flvbuild.legacy_audio(Codec.MP3, b"x", role=Role.HEADER)
    with pytest.raises(MediaError):
        flvbuild.enhanced_video(Codec.H263, b"x")
    with pytest.raises(MediaError):
        flvbuild.enhanced_audio(Codec.OPUS, b"x", role=Role.OTHER)


def test_end_of_sequence_in_both_forms():
    assert flvbuild.end_of_sequence(Codec.AVC) == b"\x17\x02\x00\x00\x00"
    assert flvbuild.end_of_sequence(Codec.HEVC) == b"\x92hvc1"
    assert flvbuild.end_of_sequence(Codec.AVC, 3) == b"\x96\x02avc1\x03"
