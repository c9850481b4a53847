"""AudioSpecificConfig and ADTS."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media import aac
from relay.media.errors import MediaError


@pytest.mark.parametrize(
    ("record", "rate", "channels", "samples", "name"),
    [
        ("1190", 48000, 2, 1024, "mp4a.40.2"),
        ("1210", 44100, 2, 1024, "mp4a.40.2"),
        ("1188", 48000, 1, 1024, "mp4a.40.2"),
        ("118856e500", 48000, 1, 1024, "mp4a.40.2"),
        ("121056e500", 44100, 2, 1024, "mp4a.40.2"),
        ("1194", 48000, 2, 960, "mp4a.40.2"),
        ("11b0", 48000, 6, 1024, "mp4a.40.2"),
        ("11b8", 48000, 8, 1024, "mp4a.40.2"),
        ("139056e5a0", 44100, 2, 2048, "mp4a.40.2"),
        ("2b8a0800", 44100, 1, 2048, "mp4a.40.5"),
        ("eb8a0800", 44100, 2, 2048, "mp4a.40.29"),
        ("17805dc010", 48000, 2, 1024, "mp4a.40.2"),
    ],
)
def test_facts_of_real_configurations(record, rate, channels, samples, name):
    facts = aac.facts(bytes.fromhex(record))

    assert (facts.sample_rate, facts.channels, facts.samples_per_frame) == (rate, channels, samples)
    assert aac.codec_string(bytes.fromhex(record)) == name


def test_a_program_config_element_counts_the_channels():
    # LC, 48 kHz, channel configuration 0; two front elements (single, pair), one back pair, one LFE: 5.1
    front_back = "0" * 10 + "0010" + "0000" + "0001" + "01" + "000" + "0000" + "000" + "00000" + "10000" + "10000"
    bits = "00010" + "0011" + "0000" + "000" + front_back + "0000"
    record = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")

    assert aac.parse_config(record).channels == 6


@pytest.mark.parametrize(
    "record", ["", "11", "1690", "1710", "1780", "178000000000", "1180", "11c0", "0190", "ffff", "ff" * 20, "0000"]
)
def test_bad_configurations_raise(record):
    with pytest.raises(MediaError) as caught:
        aac.check(bytes.fromhex(record))
    assert caught.value.code == "media.bad_config"


@given(st.binary(max_size=40))
def test_arbitrary_configurations_raise_nothing_else(data):
    try:
        config = aac.parse_config(data)
    except MediaError:
        return
    assert 1000 <= config.sample_rate <= 192_000


def test_the_adts_header_is_that_of_the_known_answer():
    assert aac.adts_header(b"\x11\x90", 200) == bytes.fromhex("fff14c8019fffc")


@given(st.sampled_from(["1190", "1210", "1188", "1588"]), st.lists(st.binary(min_size=1, max_size=300), max_size=5))
def test_adts_frames_come_back_with_their_configuration(record, frames):
    config = bytes.fromhex(record)
    stream = b"".join(aac.adts_header(config, len(raw)) + raw for raw in frames)

    assert [(frame.config, frame.raw) for frame in aac.split_adts(stream)] == [(config, raw) for raw in frames]


def test_adts_with_checksum_has_two_bytes_more():
    header = bytearray(aac.adts_header(b"\x11\x90", 4 + 2))
    header[1] &= 0xFE

    assert [frame.raw for frame in aac.split_adts(bytes(header) + b"CCdata")] == [b"data"]


@pytest.mark.parametrize(("length", "fits"), [(8183, True), (8184, True), (8185, False)])
def test_adts_frames_are_bounded_by_their_length_field(length, fits):
    if fits:
        assert len(aac.split_adts(aac.adts_header(b"\x11\x90", length) + bytes(length))) == 1
    else:
        with pytest.raises(MediaError):
            aac.adts_header(b"\x11\x90", length)


def test_he_aac_is_signalled_as_lc_with_the_core_rate():
    assert aac.adts_header(bytes.fromhex("2b8a0800"), 1)[2] >> 6 == 1
    assert aac.adts_header(bytes.fromhex("2b8a0800"), 1)[2] >> 2 & 15 == 7


@given(st.binary(max_size=40))
def test_arbitrary_adts_raises_nothing_else(data):
    for payload in (data, b"\xff\xf1" + data):
        try:
            frames = aac.split_adts(payload)
        except MediaError:
            continue
        assert all(frame.raw for frame in frames)
