"""H.264 configuration records and SPS facts, against records that FFmpeg wrote."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media import h264, nal
from relay.media.bits import BitWriter
from relay.media.errors import MediaError
from tests.media import samples

RECORDS = [
    samples.AVCC_1080P,
    samples.AVCC_576I,
    samples.AVCC_444_10BIT,
    samples.record("ertmp_h264.flv", "avc1"),
    samples.record("ertmp_multitrack.flv", "avc1"),
]


@pytest.mark.parametrize(
    ("record", "size", "fps", "depth", "chroma", "name"),
    [
        (RECORDS[0], (1920, 1080), Fraction(30000, 1001), 8, 1, "avc1.640028"),
        (RECORDS[1], (720, 576), Fraction(25), 8, 1, "avc1.64001E"),
        (RECORDS[2], (320, 180), Fraction(30), 10, 3, "avc1.F4000D"),
        (RECORDS[3], (160, 90), Fraction(10), 8, 1, "avc1.4D400A"),
        (RECORDS[4], (160, 90), Fraction(10), 8, 1, "avc1.42C00A"),
    ],
)
def test_facts_of_real_records(record, size, fps, depth, chroma, name):
    facts = h264.facts(record)

    assert (facts.width, facts.height) == size
    assert (facts.fps, facts.bit_depth, facts.chroma_format) == (fps, depth, chroma)
    assert h264.codec_string(record) == name


def test_colour_of_a_bt709_record():
    facts = h264.facts(samples.AVCC_1080P)

    assert (facts.primaries, facts.transfer, facts.matrix, facts.full_range) == (1, 1, 1, False)
    assert facts.video_range == "SDR"


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_built_from_its_parameter_sets_is_the_same(record):
    config = h264.parse_config(record)
    built = h264.build_config(config.sps, config.pps)

    assert built == record
    assert h264.config_from_nals([b"\x09\xf0", *config.sps, *config.pps, *config.pps, b"\x65"]) == built


def test_parameter_sets_are_needed_both():
    config = h264.parse_config(samples.AVCC_1080P)

    assert h264.config_from_nals(config.sps) is None
    assert h264.config_from_nals(config.pps) is None


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_cut_anywhere_before_its_extension_raises(record):
    config = h264.parse_config(record)
    whole = 6 + sum(2 + len(unit) for unit in config.sps) + 1 + sum(2 + len(unit) for unit in config.pps)
    for length in range(whole):
        with pytest.raises(MediaError) as caught:
            h264.check(record[:length])
        assert caught.value.code == "media.bad_config"
    for length in range(whole, len(record) + 1):
        h264.check(record[:length])
    h264.check(record + b"tail")


def test_reserved_bits_may_be_zero():
    record = bytearray(samples.AVCC_1080P)
    record[4] &= 0x03
    record[5] &= 0x1F

    assert h264.parse_config(bytes(record)) == h264.parse_config(samples.AVCC_1080P)


def record_with(count: int) -> bytes:
    config = h264.parse_config(samples.AVCC_1080P)
    one = len(config.sps[0]).to_bytes(2, "big") + config.sps[0]
    return samples.AVCC_1080P[:5] + bytes((0xE0 | count,)) + one * count + b"\x00"


@pytest.mark.parametrize(("count", "fits"), [(0, False), (1, True), (15, True), (16, True), (17, False), (31, False)])
def test_the_number_of_parameter_sets_is_bounded(count, fits):
    if fits:
        assert len(h264.parse_config(record_with(count)).sps) == count
    else:
        with pytest.raises(MediaError):
            h264.parse_config(record_with(count))


def ue(writer: BitWriter, *values: int) -> BitWriter:
    for value in values:
        length = (value + 1).bit_length()
        writer.bits(0, length - 1).bits(value + 1, length)
    return writer


def sps(wide: int, high: int, crop: tuple[int, int, int, int] | None = None) -> bytes:
    """A baseline SPS of *wide* x *high* macroblocks."""
    writer = ue(BitWriter().bits(0x67_42_00_1E, 32), 0, 0, 2, 1).bits(0, 1)
    ue(writer, wide - 1, high - 1).bits(0b11, 2).bits(crop is not None, 1)
    return ue(writer, *(crop or ())).bits(0, 1).bits(1, 1).to_bytes()


@pytest.mark.parametrize("lists", [8, 12])
def test_scaling_lists_and_picture_order_type_1_are_passed_over(lists):
    chroma = 3 if lists == 12 else 1
    writer = ue(BitWriter().bits(0x67_F4_00_1E, 32), 0, chroma)
    writer.bits(0, chroma == 3)
    ue(writer, 2, 2).bits(0, 1).bits(1, 1)  # 10 bit, with a scaling matrix
    for index in range(lists):
        writer.bits(index != 1, 1)
        if index == 0:
            ue(writer, *[1] * 16)  # full list: sixteen times +1
        elif index == 2:
            ue(writer, 16)  # -8: the default list, nothing follows
        elif index > 2:
            ue(writer, *[0] * (16 if index < 6 else 64))
    ue(writer, 0, 1).bits(0, 1)
    ue(writer, 5, 6, 3, 1, 2, 3)  # offsets, then a cycle of three
    ue(writer, 4).bits(0, 1)
    ue(writer, 19, 14).bits(0b11, 2).bits(0, 1).bits(0, 1)
    facts = h264.parse_sps(writer.bits(1, 1).to_bytes())

    assert (facts.width, facts.height, facts.bit_depth, facts.chroma_format) == (320, 240, 10, chroma)


@pytest.mark.parametrize(("blocks", "fits"), [(1, True), (1023, True), (1024, True), (1025, False), (4096, False)])
def test_picture_sizes_are_bounded(blocks, fits):
    if fits:
        assert h264.parse_sps(sps(blocks, blocks)).width == blocks * 16
    else:
        with pytest.raises(MediaError):
            h264.parse_sps(sps(blocks, 1))
        with pytest.raises(MediaError):
            h264.parse_sps(sps(1, blocks))


def test_cropping_may_not_eat_the_picture():
    assert h264.parse_sps(sps(2, 2, (0, 1, 0, 2))).width == 30
    assert h264.parse_sps(sps(2, 2, (0, 1, 0, 2))).height == 28
    with pytest.raises(MediaError):
        h264.parse_sps(sps(1, 1, (4, 4, 0, 0)))


@pytest.mark.parametrize("tail", [bytes(200), b"\x00\x00\x00\x00\x80" * 20, b""], ids=["zeros", "long codes", "empty"])
def test_hostile_sps_raise_and_do_not_loop(tail):
    with pytest.raises(MediaError):
        h264.parse_sps(b"\x67\x64\x00\x28" + tail)


def test_an_sps_of_ones_is_a_legal_tiny_picture():
    assert h264.parse_sps(b"\x67\x42\x00\x28" + b"\xff" * 200).width <= 16


@given(st.binary(max_size=80))
def test_arbitrary_records_raise_nothing_else(data):
    for record in (data, samples.AVCC_1080P[:8] + data):
        try:
            facts = h264.facts(record)
        except MediaError:
            continue
        assert facts.width > 0


@given(st.integers(0, 28), st.integers(0, 255))
def test_an_sps_with_one_byte_changed_gives_facts_or_media_error(index, value):
    unit = bytearray(h264.parse_config(samples.AVCC_1080P).sps[0])
    unit[index] = value
    try:
        facts = h264.parse_sps(bytes(unit))
    except MediaError:
        return
    assert 0 < facts.width <= 16384
    assert 0 < facts.height <= 16384


def test_keyframes_of_the_corpus_hold_an_idr_slice():
    for packet in samples.packets("ertmp_h264.flv"):
        if packet.role == 0 and packet.kind == 9:
            assert h264.is_keyframe(packet.payload) is packet.keyframe
    assert not h264.is_keyframe(nal.join([b"\x09\xf0", b"\x41"]))
