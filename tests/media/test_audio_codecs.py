"""Opus, FLAC and AC-3: what their headers say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media import ac3, flac, opus
from relay.media.errors import MediaError
from relay.media.packets import Role
from tests.media import samples

HEAD = samples.record("ertmp_opus.flv", "Opus")
STREAMINFO = samples.record("ertmp_flac.flv", "fLaC")
SURROUND = b"OpusHead\x01\x06\x38\x01\x80\xbb\x00\x00\x00\x00\x01\x04\x02\x00\x04\x01\x02\x03\x05"


def first_frame(name: str) -> bytes:
    return next(packet.payload for packet in samples.packets(name) if packet.role is Role.FRAME)


def test_opus_head_is_read():
    config = opus.parse_config(HEAD)

    assert (config.channels, config.pre_skip, config.input_rate, config.gain) == (2, 312, 48_000, 0)
    assert opus.facts(SURROUND).channels == 6
    assert opus.parse_config(SURROUND).mapping == bytes((4, 2, 0, 4, 1, 2, 3, 5))


def test_the_dops_box_is_opus_head_in_big_endian():
    assert opus.dops(HEAD) == b"\x00\x02\x01\x38\x00\x00\xbb\x80\x00\x00\x00"


@pytest.mark.parametrize(
    "record",
    [
        b"",
        HEAD[:18],
        b"OpusTags" + HEAD[8:],
        HEAD[:9] + b"\x00" + HEAD[10:],
        SURROUND[:-1],
        HEAD[:9] + b"\x03" + HEAD[10:],
    ],
)
def test_bad_opus_heads_raise(record):
    with pytest.raises(MediaError):
        opus.check(record)


@pytest.mark.parametrize(
    ("packet", "count"),
    [
        (b"\xfc", 960),
        (b"\xfd", 1920),
        (b"\x00", 480),
        (b"\x18", 2880),
        (b"\xe0", 120),
        (b"\xff\x02", 1920),
        (b"\x60", 480),
    ],
)
def test_opus_packet_durations(packet, count):
    assert opus.packet_samples(packet) == count


@pytest.mark.parametrize("packet", [b"", b"\xff", b"\xff\x00", b"\xff\x3f", b"\x1b\x03"])
def test_opus_packets_longer_than_120_ms_raise(packet):
    with pytest.raises(MediaError):
        opus.packet_samples(packet)


def test_every_opus_frame_of_the_corpus_lasts_20_ms():
    frames = [packet for packet in samples.packets("ertmp_opus.flv") if packet.role is Role.FRAME]

    assert {opus.packet_samples(packet.payload) for packet in frames} == {960}


def test_streaminfo_is_read_in_both_forms():
    spec = b"fLaC\x80\x00\x00\x22" + STREAMINFO

    assert flac.parse_config(spec) == flac.parse_config(STREAMINFO)
    assert flac.facts(STREAMINFO).sample_rate == 48_000
    assert (flac.facts(STREAMINFO).bits_per_sample, flac.facts(STREAMINFO).channels) == (16, 1)


def test_the_final_streaminfo_configures_the_same_decoder():
    headers = [p.payload for p in samples.packets("ertmp_flac.flv") if p.role is Role.HEADER]

    assert headers[0] != headers[1]
    assert flac.same_decoder(*headers)
    assert not flac.same_decoder(headers[0], headers[0][:10] + b"\x00" + headers[0][11:])
    assert not flac.same_decoder(headers[0], b"")


@pytest.mark.parametrize("record", [b"", STREAMINFO[:33], bytes(34), b"fLaC\x84\x00\x00\x22" + STREAMINFO])
def test_bad_streaminfo_raises(record):
    with pytest.raises(MediaError):
        flac.check(record)


def test_ac3_frames_of_the_corpus():
    plain, enhanced = ac3.parse_frame(first_frame("ertmp_ac3.flv")), ac3.parse_frame(first_frame("ertmp_eac3.flv"))

    assert (plain.enhanced, plain.sample_rate, plain.channels, plain.bit_rate) == (False, 48_000, 1, 96)
    assert (enhanced.enhanced, enhanced.sample_rate, enhanced.channels, enhanced.bit_rate) == (True, 48_000, 1, 96)
    assert plain.samples == enhanced.samples == 1536


def test_ac3_boxes():
    assert ac3.box_payload(first_frame("ertmp_ac3.flv")).hex() == ac3_box(8, 1, 0, 6)
    assert len(ac3.box_payload(first_frame("ertmp_eac3.flv"))) == 5


def ac3_box(bsid: int, acmod: int, lfe: int, code: int) -> str:
    bits = f"00{bsid:05b}000{acmod:03b}{lfe}{code:05b}00000"
    return f"{int(bits, 2):06x}"


@pytest.mark.parametrize("frame", [b"", b"\x0b\x77", b"\x0b\x78" + bytes(20), b"\x0b\x77\0\0\xff\x40" + bytes(9)])
def test_bad_ac3_frames_raise(frame):
    with pytest.raises(MediaError):
        ac3.parse_frame(frame)


@given(st.binary(max_size=60))
def test_arbitrary_input_raises_nothing_else(data):
    reads = (opus.parse_config, opus.packet_samples, flac.parse_config, ac3.parse_frame)
    for read in reads:
        for payload in (data, b"OpusHead" + data, b"fLaC" + data, b"\x0b\x77" + data):
            try:
                read(payload)
            except MediaError:
                continue


def test_a_packet_of_several_sync_frames_counts_those_of_the_main_substream() -> None:
    frame = next(p.payload for p in samples.packets("ertmp_eac3.flv") if p.role is Role.FRAME)
    alone = ac3.packet_samples(frame)
    dependent = bytearray(frame)
    dependent[2] |= 0x40

    assert alone == 1536
    assert ac3.packet_samples(frame * 3) == 3 * alone
    assert ac3.packet_samples(frame + bytes(dependent)) == alone
    assert ac3.packet_samples(frame + b"\x0b\x77") == alone
