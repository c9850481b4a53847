"""NAL units: length-prefixed and Annex B."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media import nal
from relay.media.errors import MediaError

UNITS = st.lists(st.binary(min_size=1, max_size=20), max_size=8)


@given(UNITS, st.sampled_from([2, 3, 4]))
def test_joined_units_split_into_the_same(units, length_size):
    assert nal.split(nal.join(units, length_size), length_size) == units


def test_empty_units_are_skipped():
    assert nal.split(b"\x00\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x00\x00") == [b"a"]


@pytest.mark.parametrize(
    "payload", [b"\x00", b"\x00\x00\x00", b"\x00\x00\x00\x02a", b"\xff\xff\xff\xffa", b"\x00\x00\x00\x01ab"]
)
def test_lengths_past_the_end_raise(payload):
    with pytest.raises(MediaError) as caught:
        nal.split(payload)
    assert caught.value.code == "media.bad_nal"


@pytest.mark.parametrize(("count", "fits"), [(-1, True), (0, False)])
def test_the_number_of_units_is_bounded(count, fits):
    payload = b"\x00\x00\x00\x00" * (nal.MAX_NALS + count)
    if fits:
        assert nal.split(payload) == []
    else:
        with pytest.raises(MediaError):
            nal.split(payload)


@given(st.lists(st.binary(min_size=1, max_size=9).map(lambda raw: raw.replace(b"\0", b"a")), max_size=6))
def test_annex_b_comes_back(units):
    assert nal.split_annexb(nal.join_annexb(units)) == units


def test_annex_b_takes_short_start_codes_and_trailing_zeros():
    assert nal.split_annexb(b"\x00\x00\x01ab\x00\x00\x00\x00\x01c\x00\x00") == [b"ab", b"c"]


@pytest.mark.parametrize(
    ("payload", "annexb"),
    [
        (b"\x00\x00\x00\x01\x65abc", True),
        (b"\x00\x00\x01\x65abc", True),
        (b"\x00\x00\x00\x01\x0a\x00\x00\x00\x02ab", False),
        (b"\x00\x00\x00\x02ab", False),
        (b"", False),
    ],
)
def test_annex_b_is_told_from_a_one_byte_unit(payload, annexb):
    assert nal.is_annexb(payload) is annexb


@pytest.mark.parametrize("unit", [b"\x67", b""], ids=["tiny", "empty"])
def test_start_codes_without_end_are_refused_early(unit: bytes) -> None:
    assert len(nal.split_annexb((nal.START_CODE + b"\x67") * nal.MAX_NALS)) == nal.MAX_NALS
    with pytest.raises(MediaError, match=r"media\.bad_nal"):
        nal.split_annexb((nal.START_CODE + unit) * (nal.MAX_NALS + 1))
