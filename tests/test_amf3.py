"""AMF3 is only decoded, and only as far as RTMP peers need it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.amf3 import decode
from relay.amf_values import (
    AMF_LIMITS,
    UNDEFINED,
    UNSUPPORTED,
    AmfError,
    AmfLimits,
    Date,
    EcmaArray,
    TypedObject,
    XmlDocument,
)


def code_of(data: bytes, limits: AmfLimits = AMF_LIMITS) -> str:
    with pytest.raises(AmfError) as caught:
        decode(data, limits=limits)
    return caught.value.code


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        ("00", UNDEFINED),
        ("01", None),
        ("02", False),
        ("03", True),
        ("04 7f", 127.0),
        ("04 8100", 128.0),
        ("04 ffffffff", -1.0),
        ("04 c0808000", -268435456.0),
        ("04 bfffffff", 268435455.0),
        ("05 3ff8000000000000", 1.5),
        ("06 01", ""),
        ("06 07 616263", "abc"),
        ("07 09 3c612f3e", XmlDocument("<a/>")),
        ("0b 09 3c612f3e", XmlDocument("<a/>")),
        ("08 01 408f400000000000", Date(1000.0)),
        ("09 05 01 04 01 03", [1.0, True]),
        ("09 03 03 61 03 01 02", EcmaArray({"a": True, "0": False})),
        ("0a 0b 01 03 61 04 05 01", {"a": 5.0}),
        ("0a 13 03 43 03 61 03", TypedObject({"a": True}, "C")),
        ("0c 05 abcd", UNSUPPORTED),
        ("0d 05 00 ffffffff 00000002", [-1.0, 2.0]),
        ("0e 03 00 ffffffff", [4294967295.0]),
        ("0f 03 01 3ff8000000000000", [1.5]),
        ("10 05 00 01 03 02", [True, False]),
    ],
)
def test_every_type_is_read(wire: str, value: object) -> None:
    (decoded,) = decode(bytes.fromhex(wire))

    assert decoded == value
    assert type(decoded) is type(value)


def test_strings_objects_and_traits_are_found_again_by_reference() -> None:
    assert decode(bytes.fromhex("06 07 616263 06 00")) == ["abc", "abc"]
    assert decode(bytes.fromhex("09 01 01 09 00")) == [[], []]
    assert decode(bytes.fromhex("0a 13 03 43 03 61 03  0a 01 02")) == [{"a": True}, {"a": False}]


@pytest.mark.parametrize(
    "wire",
    ["06 02", "09 02", "0a 00", "0a 05", "0a 13 03 43 03 61 03 0a 05", "09 03 01 09 00", "0a 0b 01 03 61 0a 00 01"],
)
def test_a_reference_to_what_is_not_there_or_not_finished_is_refused(wire: str) -> None:
    assert code_of(bytes.fromhex(wire)) == "amf.reference"


@pytest.mark.parametrize("wire", ["0a 07 01", "11 03 00", "12", "ff"])
def test_externalizable_objects_dictionaries_and_unknown_markers_are_refused(wire: str) -> None:
    assert code_of(bytes.fromhex(wire)) == "amf.type"


@pytest.mark.parametrize(
    "wire",
    ["09 ffffffff 01", "0d ffffffff 00", "0f 05 00 0000000000000000", "10 ffffffff 00 01", "0a e3ffffff 01"],
)
def test_a_count_beyond_the_bytes_is_refused(wire: str) -> None:
    assert code_of(bytes.fromhex(wire)) in {"amf.count", "amf.type"}


@pytest.mark.parametrize("wire", ["04", "04 ff", "04 ffffff", "05 00", "06 09 61", "0c ffffffff", "0d 05", "08 01 00"])
def test_what_is_cut_off_is_refused(wire: str) -> None:
    assert code_of(bytes.fromhex(wire)) == "amf.truncated"


def test_nesting_stops_at_the_limit() -> None:
    array = b"\x09\x03\x01"

    assert decode(array * AMF_LIMITS.depth + b"\x01")
    assert code_of(array * (AMF_LIMITS.depth + 1) + b"\x01") == "amf.depth"
    assert code_of(array * 100_000) == "amf.depth"


def test_a_vector_pays_for_its_items() -> None:
    vector = b"\x0d\x09\x00" + bytes(16)

    assert decode(vector, limits=AmfLimits(nodes=5)) == [[0.0] * 4]
    assert code_of(vector, AmfLimits(nodes=4)) == "amf.nodes"


@given(st.binary(max_size=80))
def test_noise_gives_values_or_an_error(data: bytes) -> None:
    try:
        count = len(decode(data))
    except AmfError:
        count = 0

    assert count <= len(data)
