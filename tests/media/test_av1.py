"""AV1 records, the OBU walk and sequence headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media import av1
from relay.media.errors import MediaError
from tests.media import samples

SDR = samples.record("ertmp_av1.flv", "av01")


def test_facts_of_real_records():
    sdr, ten_bit = av1.facts(SDR), av1.facts(samples.AV1C_HDR10)

    assert sdr is not None
    assert ten_bit is not None
    assert (sdr.width, sdr.height, sdr.bit_depth, sdr.chroma_format) == (160, 90, 8, 1)
    assert (ten_bit.width, ten_bit.height, ten_bit.bit_depth, ten_bit.matrix) == (1280, 720, 10, 9)


def test_codec_strings():
    assert av1.codec_string(SDR) == "av01.0.00M.08"
    assert av1.codec_string(samples.AV1C_HDR10) == "av01.0.08M.10.0.110.02.02.09.0"
    assert av1.codec_string(b"\x81\x08\x0c\x00") == "av01.0.08M.08"


def test_a_record_built_from_its_sequence_header_is_the_same():
    assert av1.config_from_obus(b"\x12\x00" + samples.AV1C_HDR10[4:]) == samples.AV1C_HDR10
    assert av1.config_from_obus(b"\x12\x00") is None


@pytest.mark.parametrize("record", [b"", b"\x81\x00\x0c", b"\x82\x00\x0c\x00", SDR[:-3], SDR[:4] + b"\x0a\xff\x01"])
def test_bad_records_raise(record):
    with pytest.raises(MediaError) as caught:
        av1.check(record)
    assert caught.value.code == "media.bad_config"


def test_a_record_without_sequence_header_is_allowed():
    av1.check(b"\x81\x00\x0c\x00")
    assert av1.facts(b"\x81\x00\x0c\x00") is None


def test_keyframes_of_the_corpus_start_a_coded_sequence():
    for packet in samples.packets("ertmp_av1.flv"):
        if packet.role == 0 and packet.kind == 9:
            assert av1.is_keyframe(packet.payload) is packet.keyframe


def test_temporal_delimiters_are_stripped_from_the_front():
    assert av1.strip_temporal_delimiters(b"\x12\x00\x12\x00\x32\x01x") == b"\x32\x01x"
    assert av1.strip_temporal_delimiters(b"\x32\x01x") == b"\x32\x01x"


def test_obus_with_extension_and_without_size_are_walked():
    found = av1.obus(b"\x12\x00" + b"\x0e\x08\x02ab" + b"\x30rest")

    assert [(kind, body) for kind, _, body in found] == [(2, b""), (1, b"ab"), (6, b"rest")]


@pytest.mark.parametrize("data", [b"\x92\x00", b"\x0a\x05abc", b"\x0a\x80", b"\x04", b"\x0a\xff\xff\xff\xff\x0f"])
def test_bad_obus_raise(data):
    with pytest.raises(MediaError) as caught:
        av1.obus(data)
    assert caught.value.code == "media.bad_obu"


@given(st.binary(max_size=60))
def test_arbitrary_input_raises_nothing_else(data):
    for read in (av1.obus, av1.parse_sequence_header, av1.parse_config, av1.is_keyframe, av1.config_from_obus):
        try:
            read(data)
        except MediaError:
            continue
