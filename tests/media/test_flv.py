"""Bodies to packets: every tag of the corpus, hand-written legacy and enhanced forms, and bad media."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media import flvbuild, hevc
from relay.media.flv import FlvDemuxer, metadata_values
from relay.media.packets import Codec, MediaKind, Packet, Role
from relay.rtmp.chunks import ChunkReader
from relay.rtmp.events import Message
from relay.rtmp.limits import AFTER_AUTH
from tests.media import samples

AUDIO, VIDEO, DATA = MediaKind.AUDIO, MediaKind.VIDEO, MediaKind.DATA
ASC = b"\x11\x90"


def read(body: bytes, type_id: int = 9, *, ready: Codec | None = None) -> list[Packet]:
    """Demux one body; *ready* says which video codec is configured already."""
    return demux(FlvDemuxer(), body, type_id, ready=ready)


def demux(demuxer: FlvDemuxer, body: bytes, type_id: int = 9, *, ready: Codec | None = None) -> list[Packet]:
    if ready is Codec.AVC:
        assert demuxer.read_many(9, 0, b"\x17\x00\x00\x00\x00" + samples.AVCC_1080P)
    return demuxer.read_many(type_id, 40, body)


def odd(body: bytes, type_id: int = 9) -> tuple[list[Packet], dict[str, int]]:
    demuxer = FlvDemuxer()
    return demuxer.read_many(type_id, 0, body), dict(demuxer.odd)


def summary(name: str) -> dict[tuple[str, int, str, str, bool], int]:
    counts: dict[tuple[str, int, str, str, bool], int] = {}
    for packet in samples.packets(name):
        key = (packet.kind.name, packet.track, packet.codec.name, packet.role.name, packet.keyframe)
        counts[key] = counts.get(key, 0) + 1
    return counts


META = {("DATA", 0, "AMF", "METADATA", False): 1}
AAC = {("AUDIO", 0, "AAC", "HEADER", False): 1, ("AUDIO", 0, "AAC", "FRAME", False): 48}


def video(codec: str) -> dict[tuple[str, int, str, str, bool], int]:
    return {
        ("VIDEO", 0, codec, "HEADER", False): 1,
        ("VIDEO", 0, codec, "FRAME", True): 2,
        ("VIDEO", 0, codec, "FRAME", False): 8,
    }


def sound(codec: str, frames: int, repeats: int = 1) -> dict[tuple[str, int, str, str, bool], int]:
    return {
        ("AUDIO", 0, codec, "HEADER", False): repeats,
        ("AUDIO", 0, codec, "SIDE", False): repeats,
        ("AUDIO", 0, codec, "FRAME", False): frames,
    }


COLOR_INFO = {("VIDEO", 0, codec, "SIDE", False): 1 for codec in ("HEVC", "AV1", "VP9")}
EXPECTED = {
    "ertmp_h264.flv": META | AAC | video("AVC") | {("VIDEO", 0, "AVC", "END", False): 1},
    "ertmp_hevc.flv": META | AAC | video("HEVC") | {("VIDEO", 0, "HEVC", "SIDE", False): 1},
    "ertmp_av1.flv": META | AAC | video("AV1") | {("VIDEO", 0, "AV1", "SIDE", False): 1},
    "ertmp_vp9.flv": META | AAC | video("VP9") | {("VIDEO", 0, "VP9", "SIDE", False): 1},
    "ertmp_opus.flv": META | sound("OPUS", 26),
    "ertmp_flac.flv": META | sound("FLAC", 24, repeats=2),
    "ertmp_ac3.flv": META | sound("AC3", 16),
    "ertmp_eac3.flv": META | sound("EAC3", 16),
    "ertmp_mp3.flv": META | {("AUDIO", 0, "MP3", "FRAME", False): 21},
    "ertmp_multitrack.flv": META
    | AAC
    | {
        ("VIDEO", 0, "AVC", "HEADER", False): 1,
        ("VIDEO", 0, "AVC", "FRAME", True): 1,
        ("VIDEO", 0, "AVC", "FRAME", False): 9,
        ("VIDEO", 0, "AVC", "END", False): 2,
        ("VIDEO", 1, "AVC", "HEADER", False): 1,
        ("VIDEO", 1, "AVC", "FRAME", True): 1,
        ("VIDEO", 1, "AVC", "FRAME", False): 9,
        ("AUDIO", 1, "AAC", "HEADER", False): 1,
        ("AUDIO", 1, "AAC", "SIDE", False): 1,
        ("AUDIO", 1, "AAC", "FRAME", False): 48,
    },
}


def test_every_corpus_file_has_an_expectation():
    assert sorted(EXPECTED) == samples.FLV_FILES


@pytest.mark.parametrize("name", samples.FLV_FILES)
def test_every_tag_of_the_corpus_becomes_the_right_packet(name):
    assert summary(name) == EXPECTED[name]


@pytest.mark.parametrize("name", samples.FLV_FILES)
def test_nothing_in_the_corpus_is_odd_but_the_empty_frame_at_the_end_of_flac(name):
    demuxer = FlvDemuxer()
    for tag in samples.tags(name):
        demuxer.read_many(tag.type_id, tag.timestamp, tag.body)

    assert dict(demuxer.odd) == ({"media.empty": 1} if name == "ertmp_flac.flv" else {})


@pytest.mark.parametrize("name", samples.FLV_FILES)
def test_packets_keep_body_and_timestamp_of_their_tag(name):
    demuxer = FlvDemuxer()
    for tag in samples.tags(name):
        for packet in demuxer.read_many(tag.type_id, tag.timestamp, tag.body):
            assert (packet.body, packet.dts, int(packet.kind)) == (tag.body, tag.timestamp, tag.type_id)


@pytest.mark.parametrize("name", samples.FLV_FILES)
def test_rebuilt_bodies_equal_the_original_bytes(name):
    for packet in samples.packets(name):
        assert flvbuild.build(packet, sound=packet.body[0] & 15) == packet.body


@pytest.mark.parametrize("name", samples.FLV_FILES)
def test_truncated_bodies_never_raise(name):
    seen: set[bytes] = set()
    for tag in samples.tags(name):
        if tag.body[:7] in seen:
            continue
        seen.add(tag.body[:7])
        for length in range(min(len(tag.body), 600)):
            for packet in FlvDemuxer().read_many(tag.type_id, 0, tag.body[:length]):
                assert 0 <= packet.offset <= len(packet.body)


@given(st.sampled_from([8, 9, 15, 18, 22]), st.binary(max_size=60), st.integers(0, 2**32 - 1))
def test_arbitrary_bodies_give_sound_packets_and_never_raise(type_id, body, timestamp):
    for packet in FlvDemuxer().read_many(type_id, timestamp, body):
        assert packet.body
        assert 0 <= packet.offset <= len(packet.body)
        assert -0x800000 <= packet.cts <= 0x7FFFFF
        assert packet.role is not Role.FRAME or packet.payload
        assert not packet.keyframe or (packet.kind is VIDEO and packet.role is Role.FRAME)


FOURCCS = [b"avc1", b"hvc1", b"vvc1", b"av01", b"vp08", b"vp09", b"mp4a", b"Opus", b"fLaC", b"ac-3", b".mp3", b"zzzz"]


@given(
    st.sampled_from([8, 9]),
    st.integers(0, 255),
    st.lists(st.sampled_from([*FOURCCS, b"\x00", b"\x01", b"\x11", b"\x20", b"\x07", b"\xff\xff", b"\x00\x00\x05"])),
    st.binary(max_size=20),
)
def test_arbitrary_enhanced_headers_never_raise(type_id, first, pieces, rest):
    body = bytes((first | 0x80 if type_id == 9 else 0x90 | first & 15,)) + b"".join(pieces) + rest

    for packet in FlvDemuxer().read_many(type_id, 0, body):
        assert packet.role is not Role.FRAME or packet.payload


def capture(name: str) -> list[Message]:
    raw = (samples.CORPUS / name).read_bytes()[1 + 1536 + 1536 :]
    return [message for message in ChunkReader(AFTER_AUTH).receive(raw, 0.0) if message.type_id in (8, 9, 18)]


@pytest.mark.parametrize(
    ("name", "video_codec", "audio_codec"),
    [
        ("cap_h264aac.c2s.bin", Codec.AVC, Codec.AAC),
        ("cap_hevcopus.c2s.bin", Codec.HEVC, Codec.OPUS),
        ("cap_128.c2s.bin", Codec.AVC, None),
        ("cap_extts.c2s.bin", Codec.AVC, Codec.AAC),
    ],
)
def test_captures_of_real_encoders_demux_to_their_codecs(name, video_codec, audio_codec):
    demuxer = FlvDemuxer()
    packets = [p for m in capture(name) for p in demuxer.read_many(m.type_id, m.timestamp, m.payload)]
    frames = {kind: [p for p in packets if p.kind is kind and p.role is Role.FRAME] for kind in (VIDEO, AUDIO)}

    assert not demuxer.odd
    assert {p.codec for p in frames[VIDEO]} == {video_codec}
    assert frames[VIDEO][0].keyframe
    assert {p.codec for p in frames[AUDIO]} == ({audio_codec} if audio_codec else set())
    assert [p.role for p in packets if p.kind is DATA] == [Role.METADATA]


def test_metadata_from_an_encoder_loses_set_data_frame_and_can_be_read():
    message = next(m for m in capture("cap_h264aac.c2s.bin") if m.type_id == 18)
    packet = FlvDemuxer().read(18, 0, message.payload)

    assert message.payload.startswith(b"\x02\x00\x0d@setDataFrame")
    assert packet is not None
    assert packet.body.startswith(b"\x02\x00\x0aonMetaData")
    assert metadata_values(packet)["videocodecid"] == 7.0


# Legacy forms.


@pytest.mark.parametrize(
    ("first", "codec", "key"),
    [
        (0x17, Codec.AVC, True),
        (0x27, Codec.AVC, False),
        (0x37, Codec.AVC, False),
        (0x1C, Codec.HEVC, True),
        (0x2C, Codec.HEVC, False),
        (0x1D, Codec.AV1, True),
        (0x2E, Codec.VVC, False),
        (0x19, Codec.MPEG4, True),
    ],
)
def test_legacy_coded_frames_carry_composition_time(first, codec, key):
    (packet,) = read(bytes((first, 1, 0, 0, 80)) + b"\x00\x00\x00\x01X" * 3)[-1:]

    assert (packet.codec, packet.keyframe, packet.role) == (codec, key, Role.FRAME)
    assert (packet.cts, packet.dts, packet.pts) == (80, 40, 120)


@pytest.mark.parametrize(
    ("raw", "cts"), [(b"\xff\xff\xff", -1), (b"\x80\x00\x00", -(2**23)), (b"\x7f\xff\xff", 2**23 - 1)]
)
def test_composition_time_is_a_signed_24_bit_number(raw, cts):
    for body in (b"\x27\x01" + raw + b"x", b"\xa1hvc1" + raw + b"x", b"\xa6\x01hvc1\x03" + raw + b"x"):
        (packet,) = read(body)
        assert packet.cts == cts


@pytest.mark.parametrize(
    ("first", "codec"),
    [
        (0x2F, Codec.MP3),
        (0xE2, Codec.MP3),
        (0x32, Codec.PCM),
        (0x12, Codec.ADPCM),
        (0x6E, Codec.NELLYMOSER),
        (0x72, Codec.G711A),
        (0x82, Codec.G711U),
        (0xB2, Codec.SPEEX),
    ],
)
def test_legacy_audio_formats_start_after_one_byte(first, codec):
    (packet,) = read(bytes((first,)) + b"data", 8)

    assert (packet.codec, packet.role, packet.payload) == (codec, Role.FRAME, b"data")


def test_plain_legacy_video_has_no_composition_time():
    (h263,) = read(b"\x22data")
    (vp6,) = read(b"\x14\x00data")

    assert (h263.codec, h263.keyframe, h263.payload) == (Codec.H263, False, b"data")
    assert (vp6.codec, vp6.keyframe, vp6.payload) == (Codec.VP6, True, b"data")


def test_hevc_under_the_legacy_codec_id_12_is_configured_and_read():
    record = samples.record("ertmp_hevc.flv", "hvc1")
    (header,) = read(b"\x1c\x00\x00\x00\x00" + record)

    assert (header.codec, header.role, header.payload) == (Codec.HEVC, Role.HEADER, record)


@pytest.mark.parametrize("body", [b"\x17\x02\x00\x00\x00", b"\x17\x02", b"\xa2hvc1", b"\x92av01", b"\xa6\x02avc1\x01"])
def test_end_of_sequence_is_kept_in_every_form(body):
    (packet,) = read(body)

    assert (packet.role, packet.keyframe, packet.payload) == (Role.END, False, b"")


# Enhanced forms.


@pytest.mark.parametrize(
    ("body", "codec", "key", "cts", "payload"),
    [
        (b"\x91hvc1\x00\x00\x28data", Codec.HEVC, True, 40, b"data"),
        (b"\xa3hvc1data", Codec.HEVC, False, 0, b"data"),
        (b"\x93avc1data", Codec.AVC, True, 0, b"data"),
        (b"\xa1vvc1\x00\x00\x28data", Codec.VVC, False, 40, b"data"),
        (b"\x91av01data", Codec.AV1, True, 0, b"data"),
        (b"\xa3av01data", Codec.AV1, False, 0, b"data"),
        (b"\xa1vp09data", Codec.VP9, False, 0, b"data"),
        (b"\xb1vp08data", Codec.VP8, False, 0, b"data"),
    ],
)
def test_enhanced_coded_frames(body, codec, key, cts, payload):
    (packet,) = read(body)

    assert (packet.codec, packet.keyframe, packet.cts, packet.payload) == (codec, key, cts, payload)


@pytest.mark.parametrize("fourcc", ["mp4a", "Opus", "fLaC", "ac-3", "ec-3", ".mp3"])
def test_enhanced_audio_frames(fourcc):
    (packet,) = read(b"\x91" + fourcc.encode() + b"data", 8)

    assert (packet.codec, packet.role, packet.payload) == (Codec(fourcc), Role.FRAME, b"data")


@pytest.mark.parametrize("first", [0x84, 0x94, 0xD4])
def test_color_info_is_side_information_whatever_its_frame_type(first):
    (packet,) = read(bytes((first,)) + b"hvc1\x02\x00\x09colorInfo\x03\x00\x00\x09")

    assert (packet.role, packet.codec, packet.payload[:12]) == (Role.SIDE, Codec.HEVC, b"\x02\x00\x09colorInfo")


def test_multichannel_configuration_is_side_information():
    (packet,) = read(b"\x94Opus\x01\x02\x00\x00\x00\x03", 8)

    assert (packet.role, packet.payload) == (Role.SIDE, b"\x01\x02\x00\x00\x00\x03")


def test_an_empty_ac3_sequence_start_is_a_header():
    (packet,) = read(b"\x90ac-3", 8)

    assert (packet.role, packet.payload) == (Role.HEADER, b"")


def test_both_forms_of_the_flac_header_give_bare_streaminfo():
    bare = samples.record("ertmp_flac.flv", "fLaC")
    body = b"\x90fLaC" + b"fLaC\x80\x00\x00\x22" + bare
    (packet,) = read(body, 8)

    assert (packet.role, packet.payload, packet.body) == (Role.HEADER, bare, body)


def modex(packet_type: int, data: bytes, kind: int = 0) -> bytes:
    size = len(data) - 1
    length = bytes((size,)) if size < 255 else b"\xff" + size.to_bytes(2, "big")
    return length + data + bytes((kind << 4 | packet_type,))


@pytest.mark.parametrize("size", [1, 2, 3, 254, 255, 256, 257, 65536])
def test_modex_units_of_any_size_are_passed_over(size):
    (packet,) = read(b"\xa7" + modex(1, b"\x00" * size, kind=3) + b"hvc1\x00\x00\x05data")

    assert (packet.codec, packet.cts, packet.payload) == (Codec.HEVC, 5, b"data")


def test_modex_units_chain_and_stand_before_multitrack():
    body = b"\x97" + modex(7, b"\x01\x02\x03") + modex(5, b"x", kind=1) + b"\x01Opus\x03data"
    (packet,) = read(body, 8)

    assert (packet.codec, packet.track, packet.payload, packet.body) == (Codec.OPUS, 3, b"data", body)


@pytest.mark.parametrize(("count", "code"), [(8, None), (9, "media.modex")])
def test_the_number_of_modex_units_is_bounded(count, code):
    chain = b"".join(modex(1 if index == count - 1 else 7, b"x") for index in range(count))
    packets, counted = odd(b"\xa7" + chain + b"av01data")

    assert (len(packets), counted) == ((1, {}) if code is None else (0, {code: 1}))


@pytest.mark.parametrize("rest", [b"", b"\x05", b"\xff", b"\xff\xff", b"\xff\xff\xff", b"\xfe12345", b"\x00a"])
def test_modex_that_lies_about_its_size_is_dropped(rest):
    packets, counted = odd(b"\xa7" + rest)

    assert packets == []
    assert sum(counted.values()) == 1


def track(number: int, data: bytes, fourcc: bytes = b"") -> bytes:
    return fourcc + bytes((number,)) + len(data).to_bytes(3, "big") + data


def test_one_track_bodies_keep_their_bytes_and_name_their_track():
    (packet,) = read(b"\x96\x03avc1\xffdata")

    assert (packet.track, packet.keyframe, packet.cts, packet.payload) == (255, True, 0, b"data")


def test_many_tracks_become_one_packet_each():
    body = b"\xa6\x11hvc1" + track(0, b"\x00\x00\x07zero") + track(2, b"\xff\xff\xfftwo")
    packets = read(body)

    assert [(p.track, p.cts, p.payload, p.dts) for p in packets] == [(0, 7, b"zero", 40), (2, -1, b"two", 40)]
    assert [p.body for p in packets] == [b"\xa6\x01hvc1\x00\x00\x00\x07zero", b"\xa6\x01hvc1\x02\xff\xff\xfftwo"]


def test_many_tracks_with_their_own_codecs_and_modex():
    extra = modex(5, b"\x00\x00\x09")
    packets = read(b"\x97" + extra + b"\x21" + track(0, b"a", b"Opus") + track(1, b"b", b"mp4a"), 8)

    assert [(p.track, p.codec, p.payload) for p in packets] == [(0, Codec.OPUS, b"a"), (1, Codec.AAC, b"b")]
    assert packets[1].body == b"\x97" + extra + b"\x01mp4a\x01b"


def test_read_returns_the_first_of_many_and_keeps_the_others_until_taken():
    demuxer = FlvDemuxer()
    first = demuxer.read(8, 0, b"\x95\x11Opus" + track(0, b"a") + track(1, b"b") + track(2, b"c"))

    assert first is not None
    assert first.payload == b"a"
    assert [p.payload for p in demuxer.more] == [b"b", b"c"]
    assert [p.payload for p in demuxer.take()] == [b"b", b"c"]
    assert demuxer.more == []


def test_a_track_that_lies_about_its_size_does_not_take_the_others_with_it():
    packets, counted = odd(b"\xa6\x11av01" + track(0, b"good") + b"\x01\xff\xff\xffbad")

    assert ([p.payload for p in packets], counted) == ([b"good"], {})


def test_a_bad_track_among_many_is_counted_and_the_others_go_on():
    packets, counted = odd(b"\xa6\x21" + track(0, b"good", b"av01") + track(1, b"??", b"zzzz") + track(2, b"", b"av01"))

    assert [(p.track, p.role) for p in packets] == [(0, Role.FRAME), (1, Role.OTHER)]
    assert counted == {"media.unknown_fourcc": 1, "media.empty": 1}


@pytest.mark.parametrize(
    "body", [b"\xa6", b"\xa6\x31avc1\x00data", b"\xa6\x06avc1\x00", b"\xa6\x01avc", b"\xa6\x01avc1"]
)
def test_broken_multitrack_headers_are_dropped(body):
    packets, counted = odd(body)

    assert packets == []
    assert sum(counted.values()) == 1


def test_the_number_of_tracks_is_bounded_at_16():
    demuxer = FlvDemuxer()
    ids = [demuxer.read_many(8, 0, b"\x95\x01Opus" + bytes((number,)) + b"x") for number in range(17)]
    again = demuxer.read_many(8, 0, b"\x95\x01Opus\x00x")

    assert [len(packets) for packets in ids] == [1] * 16 + [0]
    assert len(again) == 1
    assert dict(demuxer.odd) == {"media.tracks": 1}


# Bad media.


@pytest.mark.parametrize(
    ("type_id", "body", "code"),
    [
        (9, b"", "media.empty"),
        (8, b"", "media.empty"),
        (18, b"", "media.empty"),
        (9, b"\x17", "media.short"),
        (9, b"\x17\x01\x00\x00", "media.short"),
        (9, b"\x17\x01\x00\x00\x00", "media.empty"),
        (9, b"\x17\x00\x00\x00\x00", "media.empty"),
        (9, b"\x22", "media.empty"),
        (9, b"\x57\x00", "media.command"),
        (9, b"\xd0\x00", "media.command"),
        (9, b"\x90", "media.short"),
        (9, b"\xa1hvc", "media.short"),
        (9, b"\xa1hvc1\x00\x00", "media.short"),
        (9, b"\xa1hvc1\x00\x00\x00", "media.empty"),
        (9, b"\xa3hvc1", "media.empty"),
        (9, b"\xa1av01", "media.empty"),
        (8, b"\xaf", "media.short"),
        (8, b"\xaf\x01", "media.empty"),
        (8, b"\x2f", "media.empty"),
        (8, b"\x91Opus", "media.empty"),
        (8, b"\x94Opus", "media.empty"),
        (18, b"\x05", "media.data"),
        (18, b"\x02\x00\xffshort", "media.data"),
        (18, b"\x02\x00\x0f@clearDataFrame\x02\x00\x0aonMetaData", "media.clear"),
    ],
)
def test_bodies_without_content_are_dropped_and_counted(type_id, body, code):
    assert odd(body, type_id) == ([], {code: 1})


@pytest.mark.parametrize(
    ("type_id", "body", "code"),
    [
        (9, b"\x16data", "media.unknown_codec"),
        (8, b"\xf0data", "media.unknown_codec"),
        (9, b"\x17\x09\x00\x00\x00data", "media.unknown_type"),
        (8, b"\xaf\x07data", "media.unknown_type"),
        (9, b"\x9fhvc1data", "media.unknown_type"),
        (8, b"\x98Opusdata", "media.unknown_type"),
        (9, b"\x91zzzzdata", "media.unknown_fourcc"),
        (9, b"\x91Opusdata", "media.unknown_fourcc"),
        (8, b"\x91hvc1data", "media.unknown_fourcc"),
    ],
)
def test_what_is_not_understood_passes_untouched(type_id, body, code):
    packets, counted = odd(body, type_id)

    assert [(p.role, p.body, p.keyframe) for p in packets] == [(Role.OTHER, body, False)]
    assert counted == {code: 1}


@pytest.mark.parametrize(
    ("type_id", "head", "record"),
    [
        (9, b"\x17\x00\x00\x00\x00", b"\x01\x4d\x40\x0a\xff\xe0\x00"),
        (9, b"\x17\x00\x00\x00\x00", samples.AVCC_1080P[:20]),
        (9, b"\x90avc1", b""),
        (9, b"\x90hvc1", samples.HVCC_HDR10[:30]),
        (9, b"\x90av01", b"\x00\x00\x00\x00"),
        (9, b"\x90vp09", b"\x01\x00\x00\x00\x00"),
        (9, b"\x90vvc1", b""),
        (8, b"\xaf\x00", b"\x11"),
        (8, b"\xaf\x00", b"\x16\x90"),
        (8, b"\x90Opus", b"OpusHead\x01\x00"),
        (8, b"\x90fLaC", b"\x00" * 34),
    ],
)
def test_bad_configurations_are_counted_and_never_reach_a_decoder(type_id, head, record):
    assert odd(head + record, type_id) == ([], {"media.bad_config": 1})


def test_a_bad_configuration_does_not_replace_a_good_one():
    demuxer = FlvDemuxer()
    good = demuxer.read(9, 0, b"\x17\x00\x00\x00\x00" + samples.AVCC_1080P)
    bad = demuxer.read(9, 0, b"\x17\x00\x00\x00\x00" + samples.AVCC_1080P[:20])
    key = demuxer.read_many(9, 0, b"\x17\x01\x00\x00\x00\x00\x00\x00\x02\x65\x88")

    assert good is not None
    assert bad is None
    assert [p.role for p in key] == [Role.FRAME]


# Repairs.

SPS, PPS = samples.AVCC_1080P[8:37], samples.AVCC_1080P[40:46]
IDR = b"\x65\x88\x84\x00"


def avcc(*nals: bytes) -> bytes:
    return b"".join(len(nal).to_bytes(4, "big") + nal for nal in nals)


def annexb(*nals: bytes) -> bytes:
    return b"".join(b"\x00\x00\x00\x01" + nal for nal in nals)


def test_a_configuration_in_annex_b_is_rewritten():
    (packet,) = read(b"\x17\x00\x00\x00\x00" + annexb(SPS, PPS))

    assert (packet.role, packet.payload) == (Role.HEADER, samples.AVCC_1080P)


def test_a_frame_in_annex_b_is_rewritten_with_lengths():
    (packet,) = read(b"\x27\x01\x00\x00\x05" + annexb(b"\x09\xf0", b"\x41\x9a\x01"), ready=Codec.AVC)

    assert (packet.cts, packet.payload) == (5, avcc(b"\x09\xf0", b"\x41\x9a\x01"))


def test_a_one_byte_nal_unit_in_front_is_not_taken_for_annex_b():
    body = b"\x27\x01\x00\x00\x05" + avcc(b"\x0a", b"\x41\x9a\x01")
    (packet,) = read(body, ready=Codec.AVC)

    assert packet.body is body


@pytest.mark.parametrize("head", [b"\x17\x01\x00\x00\x05", b"\x91avc1\x00\x00\x05"])
def test_parameter_sets_in_a_keyframe_make_the_missing_header(head):
    demuxer = FlvDemuxer()
    inter = demuxer.read_many(9, 0, b"\x27\x01\x00\x00\x00" + avcc(b"\x41\x9a"))
    header, frame = demuxer.read_many(9, 40, head + avcc(SPS, PPS, IDR))
    later = demuxer.read_many(9, 80, head + avcc(SPS, PPS, IDR))

    assert [p.role for p in inter] == [Role.FRAME]
    assert (header.role, header.payload, header.dts) == (Role.HEADER, samples.AVCC_1080P, 40)
    assert (frame.role, frame.keyframe, frame.cts) == (Role.FRAME, True, 5)
    assert len(later) == 1
    assert dict(demuxer.odd) == {"media.inband_config": 1}


def test_parameter_sets_in_an_hevc_keyframe_make_the_missing_header():
    sets = [unit for _, units in hevc.parse_config(samples.HVCC_HDR10).arrays for unit in units]
    header, frame = read(b"\x93hvc1" + avcc(*sets, b"\x26\x01\xaf"))

    assert (header.role, header.codec, header.body[:5]) == (Role.HEADER, Codec.HEVC, b"\x90hvc1")
    assert hevc.facts(header.payload) == hevc.facts(samples.HVCC_HDR10)
    assert frame.keyframe


def test_the_sequence_header_in_an_av1_keyframe_makes_the_missing_configuration():
    key = next(p for p in samples.packets("ertmp_av1.flv") if p.keyframe)
    header, frame = read(key.body)

    assert (header.role, header.codec, header.payload[:4]) == (Role.HEADER, Codec.AV1, b"\x81\x00\x0c\x00")
    assert frame.body is key.body


def adts(raw: bytes) -> bytes:
    length = len(raw) + 7
    return bytes((0xFF, 0xF1, 0x4C, 0x80 | length >> 11, length >> 3 & 0xFF, (length & 7) << 5 | 0x1F, 0xFC)) + raw


def test_aac_in_adts_is_taken_out_and_gives_the_missing_configuration():
    demuxer = FlvDemuxer()
    header, *frames = demuxer.read_many(8, 100, b"\xaf\x01" + adts(b"\x21one") + adts(b"\x21two"))
    after = demuxer.read_many(8, 142, b"\xaf\x01" + adts(b"\x21three"))

    assert (header.role, header.payload) == (Role.HEADER, ASC)
    assert [(p.dts, p.body) for p in frames] == [(100, b"\xaf\x01\x21one"), (121, b"\xaf\x01\x21two")]
    assert [p.payload for p in after] == [b"\x21three"]
    assert demuxer.odd["media.adts"] == 2


@pytest.mark.parametrize("cut", [8, 9, 10])
def test_adts_cut_short_is_dropped(cut):
    packets, counted = odd(b"\xaf\x01" + adts(b"\x21one")[:cut], 8)

    assert packets == []
    assert counted["media.adts"]


# Data messages.

META_BODY = b"\x02\x00\x0aonMetaData\x08\x00\x00\x00\x01\x00\x05width\x00\x40\x64\x00\x00\x00\x00\x00\x00\x00\x00\x09"


@pytest.mark.parametrize(
    ("type_id", "head"),
    [
        (18, b""),
        (18, b"\x02\x00\x0d@setDataFrame"),
        (18, b"\x00" + bytes(8) + b"\x00" + bytes(8) + b"\x02\x00\x0d@setDataFrame"),
        (15, b"\x00\x02\x00\x0d@setDataFrame"),
        (15, b""),
    ],
    ids=["bare", "set", "two numbers in front (Uniview)", "amf3", "amf3 without its zero byte"],
)
def test_metadata_in_every_disguise_becomes_the_same_packet(type_id, head):
    (packet,) = read(head + META_BODY, type_id)

    assert (packet.kind, packet.role, packet.codec, packet.body) == (DATA, Role.METADATA, Codec.AMF, META_BODY)
    assert metadata_values(packet) == {"width": 160.0}


@pytest.mark.parametrize("name", [b"onCuePoint", b"onTextData", b"|RtmpSampleAccess"])
def test_other_data_passes_untouched(name):
    body = b"\x02" + len(name).to_bytes(2, "big") + name + b"\x05"
    (packet,) = read(body, 18)

    assert (packet.role, packet.body) == (Role.OTHER, body)


@pytest.mark.parametrize("head", [b"\x17\0\0\0\0", b"\x90hvc1"], ids=["avc", "hevc"])
def test_a_sequence_header_of_start_codes_without_end_is_dropped(head: bytes) -> None:
    demuxer = FlvDemuxer()

    assert demuxer.read(9, 0, head + b"\0\0\0\1\x67" * 5000) is None
    assert demuxer.odd["media.bad_config"] == 1
