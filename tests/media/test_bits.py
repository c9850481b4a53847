"""Bit reading with bounds, exp-golomb, emulation prevention, LEB128."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media.bits import BitReader, BitWriter, leb128, to_leb128, unescape
from relay.media.errors import MediaError


def golomb(value: int) -> bytes:
    length = (value + 1).bit_length()
    return BitWriter().bits(0, length - 1).bits(value + 1, length).to_bytes()


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 32)), max_size=20))
def test_what_the_writer_wrote_the_reader_reads(fields):
    writer = BitWriter()
    for value, count in fields:
        writer.bits(value, count)
    reader = BitReader(writer.to_bytes())

    assert [reader.bits(count) for _, count in fields] == [value & ((1 << count) - 1) for value, count in fields]


@given(st.integers(0, 2**32 - 2))
def test_exp_golomb_codes_come_back(value):
    assert BitReader(golomb(value)).ue() == value


@pytest.mark.parametrize(("code", "value"), [(0, 0), (1, 1), (2, -1), (3, 2), (4, -2), (5, 3)])
def test_signed_exp_golomb_alternates_around_zero(code, value):
    assert BitReader(golomb(code)).se() == value


def test_exp_golomb_has_at_most_31_leading_zeros():
    assert BitReader(golomb(2**32 - 2)).ue() == 2**32 - 2
    with pytest.raises(MediaError, match="too long"):
        BitReader(golomb(2**32 - 1)).ue()


@pytest.mark.parametrize(("value", "fits"), [(30, True), (31, True), (32, False)])
def test_exp_golomb_keeps_to_its_named_bound(value, fits):
    if fits:
        assert BitReader(golomb(value)).ue(31) == value
    else:
        with pytest.raises(MediaError) as caught:
            BitReader(golomb(value)).ue(31)
        assert caught.value.code == "media.bad_config"


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00" * 100, b"\x01"])
def test_exp_golomb_cut_short_raises(data):
    with pytest.raises(MediaError):
        BitReader(data).ue()


def test_reading_and_skipping_stop_at_the_end():
    reader = BitReader(b"\xa5")
    reader.skip(7)
    assert reader.flag()
    for read in (reader.flag, lambda: reader.bits(1), lambda: reader.skip(1)):
        with pytest.raises(MediaError):
            read()
    assert reader.remaining == 0


@pytest.mark.parametrize(
    ("escaped", "plain"),
    [
        (b"", b""),
        (b"\x00\x00\x03", b"\x00\x00"),
        (b"\x00\x00\x03\x00\x00\x03\x01", b"\x00\x00\x00\x00\x01"),
        (b"\x00\x00\x03\x03", b"\x00\x00\x03"),
        (b"a\x00\x03b", b"a\x00\x03b"),
        (b"\x00\x00\x00\x03\x01", b"\x00\x00\x00\x01"),
    ],
)
def test_emulation_prevention_is_removed(escaped, plain):
    assert unescape(escaped) == plain


@given(st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 9]), max_size=30))
def test_escaping_and_removing_the_escapes_is_the_identity(values):
    escaped, zeros = bytearray(), 0
    for value in values:
        if zeros == 2 and value <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(value)
        zeros = zeros + 1 if value == 0 else 0

    assert unescape(bytes(escaped)) == bytes(values)


@given(st.integers(0, 2**32 - 1), st.binary(max_size=3))
def test_leb128_comes_back_and_leaves_the_tail(value, tail):
    coded = to_leb128(value)

    assert leb128(b"x" + coded + tail, 1) == (value, 1 + len(coded))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80" * 9, b"\xff\xff\xff\xff\x1f"])
def test_leb128_out_of_bounds_raises(data):
    with pytest.raises(MediaError):
        leb128(data, 0)
