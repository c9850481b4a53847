"""H.265 configuration records and SPS facts, against records that FFmpeg wrote."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media import hevc
from relay.media.errors import MediaError
from tests.media import samples

SDR = samples.record("ertmp_hevc.flv", "hvc1")


def test_facts_of_an_sdr_record():
    facts = hevc.facts(SDR)

    assert (facts.width, facts.height, facts.fps) == (160, 90, Fraction(10))
    assert (facts.profile, facts.level, facts.bit_depth, facts.video_range) == (1, 30, 8, "SDR")


def test_facts_of_an_hdr10_record():
    facts = hevc.facts(samples.HVCC_HDR10)

    assert (facts.width, facts.height, facts.fps, facts.bit_depth) == (1280, 720, Fraction(50), 10)
    assert (facts.primaries, facts.transfer, facts.matrix, facts.video_range) == (9, 16, 9, "PQ")


def test_facts_behind_scaling_lists_layers_and_a_display_window():
    facts = hevc.facts(samples.HVCC_422_SCALING)

    assert (facts.width, facts.height, facts.fps) == (642, 362, Fraction(24))
    assert (facts.chroma_format, facts.full_range, facts.profile, facts.level) == (2, True, 4, 63)


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (SDR, "hvc1.1.6.L30.90"),
        (samples.HVCC_HDR10, "hvc1.2.4.L120.90"),
        (bytes.fromhex("01 01 60000000 900000000000 3c".replace(" ", "")), "hvc1.1.6.L60.90"),
        (bytes.fromhex("01 61 60000000 b00000000000 78".replace(" ", "")), "hvc1.A1.6.H120.B0"),
        (bytes.fromhex("01 04 08000000 000000000000 5d".replace(" ", "")), "hvc1.4.10.L93"),
    ],
)
def test_codec_strings(record, name):
    assert hevc.codec_string(record) == name


def test_a_record_built_from_its_parameter_sets_configures_the_same():
    config = hevc.parse_config(samples.HVCC_HDR10)
    units = [unit for _, arrays in config.arrays for unit in arrays]
    built = hevc.config_from_nals([*units, b"\x26\x01\xaf"])

    assert built is not None
    assert built[:22] == samples.HVCC_HDR10[:21] + built[21:22]
    assert hevc.facts(built) == hevc.facts(samples.HVCC_HDR10)
    assert [hevc.parse_config(built).units(kind) for kind in (32, 33, 34)] == [
        config.units(kind) for kind in (32, 33, 34)
    ]
    assert hevc.config_from_nals(config.units(hevc.SPS)) is None


def test_a_record_cut_anywhere_raises():
    for length in range(len(samples.HVCC_HDR10)):
        with pytest.raises(MediaError) as caught:
            hevc.check(samples.HVCC_HDR10[:length])
        assert caught.value.code == "media.bad_config"
    hevc.check(samples.HVCC_HDR10 + b"tail")


@pytest.mark.parametrize("count", [17, 255])
def test_the_number_of_arrays_and_of_their_units_is_bounded(count):
    with pytest.raises(MediaError, match="arrays"):
        hevc.parse_config(samples.HVCC_HDR10[:22] + bytes((count,)) + b"\xa1\x00\x00" * count)
    with pytest.raises(MediaError, match="units"):
        hevc.parse_config(samples.HVCC_HDR10[:22] + b"\x01\xa1" + count.to_bytes(2, "big") + b"\x00\x02ab" * count)


def test_a_record_without_sps_is_bad():
    with pytest.raises(MediaError, match="no SPS"):
        hevc.parse_config(samples.HVCC_HDR10[:22] + b"\x00")


@given(st.binary(max_size=120))
def test_arbitrary_sps_raise_nothing_else(data):
    for unit in (data, hevc.parse_config(samples.HVCC_HDR10).units(hevc.SPS)[0][:15] + data):
        try:
            facts = hevc.parse_sps(unit)
        except MediaError:
            continue
        assert 0 < facts.width <= 16384
        assert 0 < facts.height <= 16384


def test_keyframes_of_the_corpus_are_random_access_points():
    for packet in samples.packets("ertmp_hevc.flv"):
        if packet.role == 0 and packet.kind == 9:
            assert hevc.is_keyframe(packet.payload) is packet.keyframe


def test_a_complete_record_differs_in_the_bits_that_say_so_and_in_nothing_else() -> None:
    made = hevc.complete(samples.HVCC_HDR10)

    config, original = hevc.parse_config(made), hevc.parse_config(samples.HVCC_HDR10)
    assert config == original
    changed = [index for index, (a, b) in enumerate(zip(made, samples.HVCC_HDR10, strict=True)) if a != b]
    assert [made[index] for index in changed] == [0xA0, 0xA1, 0xA2]
    assert hevc.complete(made) == made
    assert all(len(hevc.complete(made[:size])) == size for size in range(len(made)))
