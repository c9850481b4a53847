"""The vpcC record and VP9 frame headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media import vp9
from relay.media.errors import MediaError
from relay.media.packets import Codec, Role
from tests.media import samples


def test_the_record_is_read_with_and_without_full_box_header():
    assert vp9.parse_config(samples.VPCC_VP9) == vp9.parse_config(samples.VPCC_VP9[4:])
    assert vp9.parse_config(samples.VPCC_VP9).level == 21


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (samples.record("ertmp_vp9.flv", "vp09"), "vp09.00.10.08"),
        (bytes.fromhex("01000000000b820202020000"), "vp09.00.11.08"),
        (bytes.fromhex("010000000233a2091009 0000".replace(" ", "")), "vp09.02.51.10.01.09.16.09.00"),
    ],
)
def test_codec_strings(record, name):
    assert vp9.codec_string(record) == name


@pytest.mark.parametrize("record", [b"", samples.VPCC_VP9[:11], b"\x09" + samples.VPCC_VP9[5:], bytes(8)])
def test_bad_records_raise(record):
    with pytest.raises(MediaError):
        vp9.check(record)


def test_only_key_frames_of_the_corpus_know_the_picture_size():
    record = samples.record("ertmp_vp9.flv", "vp09")
    for packet in samples.packets("ertmp_vp9.flv"):
        if packet.role == 0 and packet.kind == 9:
            facts = vp9.frame_facts(packet.payload, record)
            assert vp9.is_keyframe(packet.payload) is packet.keyframe
            assert (facts is not None) is packet.keyframe
            assert facts is None or (facts.width, facts.height) == (160, 90)


@given(st.binary(max_size=40))
def test_arbitrary_frames_raise_nothing_else(data):
    assert vp9.is_keyframe(data) in (True, False)
    try:
        vp9.frame_facts(data, samples.VPCC_VP9)
    except MediaError:
        return


def test_a_key_frame_gives_a_configuration_when_the_encoder_sent_none() -> None:
    frames = [p for p in samples.packets("ertmp_vp9.flv") if p.codec is Codec.VP9 and p.role is Role.FRAME]
    sent = vp9.bare_config(samples.record("ertmp_vp9.flv", "vp09"))

    made = vp9.config_from_frame(frames[0].payload)

    assert made is not None
    assert (made[0], made[2] & 0xF0, made[3:]) == (sent[0], sent[2] & 0xF0, sent[3:])
    assert made[1] == 10  # the lowest level that has room for 160 x 90
    assert next(vp9.config_from_frame(frame.payload) for frame in frames if not frame.keyframe) is None
