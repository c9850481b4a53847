"""AMF0: values to bytes and back, what real encoders get wrong, and what an attacker may not make us build."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import amf0
from relay.amf0 import (
    UNDEFINED,
    UNSUPPORTED,
    AmfError,
    AmfLimits,
    Date,
    EcmaArray,
    TypedObject,
    Value,
    XmlDocument,
    decode,
    encode,
)
from relay.rtmp import limits as wire_limits

CODES = {f"amf.{name}" for name in ("depth", "count", "truncated", "reference", "type", "nodes", "string")}
CONNECT = encode("connect", 1.0, {"app": "live", "tcUrl": "rtmp://h/live", "caps": [1.0, {"x": None}], "on": True})


def code_of(data: bytes, limits: AmfLimits = amf0.AMF_LIMITS) -> str:
    with pytest.raises(AmfError) as caught:
        decode(data, limits=limits)
    return caught.value.code


def outcome(data: bytes) -> list[Value] | str:
    """Return the values or the code of the error; any other exception is a bug."""
    try:
        return decode(data)
    except AmfError as error:
        return error.code


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (1.0, "00 3ff0000000000000"),
        (True, "01 01"),
        (False, "01 00"),
        ("live", "02 0004 6c697665"),
        ({"a": 1.0}, "03 0001 61 00 3ff0000000000000 000009"),
        (None, "05"),
        (UNDEFINED, "06"),
        (EcmaArray(a=True), "08 00000001 0001 61 0101 000009"),
        (["x", None], "0a 00000002 02 0001 78 05"),
        (Date(1000.0, 0), "0b 408f400000000000 0000"),
        (Date(0.0, -60), "0b 0000000000000000 ffc4"),
        (UNSUPPORTED, "0d"),
        (XmlDocument("<a/>"), "0f 00000004 3c612f3e"),
        (TypedObject({"a": None}, "C"), "10 0001 43 0001 61 05 000009"),
    ],
)
def test_every_type_has_its_bytes(value: Value, wire: str) -> None:
    assert encode(value) == bytes.fromhex(wire)

    (decoded,) = decode(bytes.fromhex(wire))

    assert decoded == value
    assert type(decoded) is type(value)


def test_the_class_name_of_a_typed_object_is_kept() -> None:
    (value,) = decode(encode(TypedObject({}, "flex.Message")))

    assert isinstance(value, TypedObject)
    assert value.class_name == "flex.Message"


@pytest.mark.parametrize(("length", "marker"), [(65535, 0x02), (65536, 0x0C)])
def test_a_string_beyond_16_bits_of_length_is_a_long_string(length: int, marker: int) -> None:
    wire = encode("x" * length)

    assert wire[0] == marker
    assert decode(wire) == ["x" * length]


def test_integers_are_numbers_and_bools_are_not() -> None:
    assert encode(1) == encode(1.0)
    assert encode(True) != encode(1.0)


def test_a_transaction_id_keeps_its_eight_bytes() -> None:
    for bits in (b"\x7f\xf8\x00\x00\x00\x00\x00\x01", b"\xff\xf0" + bytes(6), b"\x80" + bytes(7), bytes(7) + b"\x01"):
        assert encode(*decode(b"\x00" + bits)) == b"\x00" + bits


@pytest.mark.parametrize("count", [0, 1, 7, 0xFFFFFFFF])
def test_the_count_of_an_ecma_array_is_advice(count: int) -> None:
    body = struct.pack(">BI", 8, count) + b"\x00\x01a\x05\x00\x01b\x05\x00\x00\x09"

    assert decode(body + b"\x05") == [{"a": None, "b": None}, None]


def test_the_end_of_the_data_ends_an_object() -> None:
    whole = encode({"a": {"b": 1.0}})

    assert decode(whole[:-3]) == [{"a": {"b": 1.0}}]
    assert decode(whole[:-6]) == [{"a": {"b": 1.0}}]


def test_bytes_that_are_not_utf8_are_read_as_latin_1() -> None:
    assert decode(b"\x02\x00\x04caf\xe9") == ["café"]
    assert decode(b"\x02\x00\x03\xed\xa0\x80") == ["í\xa0\x80"]


def test_a_lone_surrogate_is_not_sent() -> None:
    assert encode("\ud800") == b"\x02\x00\x01?"


def test_the_last_of_equal_keys_wins() -> None:
    assert decode(b"\x03\x00\x01a\x05\x00\x01a\x01\x01\x00\x00\x09") == [{"a": True}]


def test_an_empty_key_is_a_key_when_no_end_marker_follows() -> None:
    assert decode(b"\x03\x00\x00\x05\x00\x00\x09") == [{"": None}]


def test_two_numbers_before_the_name_are_just_values() -> None:
    assert decode(encode(0.0, 0.0, "@setDataFrame", "onMetaData", EcmaArray(width=1.0)))[2] == "@setDataFrame"


def test_every_prefix_of_a_connect_gives_values_or_an_error() -> None:
    whole = decode(CONNECT)

    outcomes = [outcome(CONNECT[:end]) for end in range(len(CONNECT))]

    for found in outcomes:
        assert found in ("amf.truncated", "amf.count") or found[:-1] == whole[: max(len(found) - 1, 0)]
    assert decode(memoryview(CONNECT)) == whole


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" + bytes(7),
        b"\x01",
        b"\x02\xff\xffabc",
        b"\x0c\xff\xff\xff\xff",
        b"\x0c\xff\xff\xff\xffabc",
        b"\x0f\x00\x00\x00\x05abc",
        b"\x0b" + bytes(9),
        b"\x03\x00",
        b"\x03\x00\x05ab",
        b"\x03\x00\x01a",
        b"\x03\x00\x01a\x05\x00",
        b"\x08\x00\x00",
        b"\x0a\x00",
        b"\x10\x00\x05a",
    ],
)
def test_what_is_cut_off_is_refused_before_anything_is_allocated(data: bytes) -> None:
    assert code_of(data) == "amf.truncated"


@pytest.mark.parametrize("marker", [0x04, 0x09, 0x0E, 0x12, 0x7F, 0xFF])
def test_markers_without_meaning_are_refused(marker: int) -> None:
    assert code_of(bytes((marker,)) + bytes(8)) == "amf.type"
    assert code_of(b"\x03\x00\x01a" + bytes((marker,)) + bytes(8)) == "amf.type"


@pytest.mark.parametrize(
    "opening", [b"\x0a\x00\x00\x00\x01", b"\x03\x00\x01a", b"\x08\x00\x00\x00\x00\x00\x01a", b"\x10\x00\x00\x00\x01a"]
)
def test_nesting_stops_at_the_limit(opening: bytes) -> None:
    depth = amf0.AMF_LIMITS.depth

    for allowed in (depth - 1, depth):
        assert len(decode(opening * allowed + b"\x05")) == 1
    assert code_of(opening * (depth + 1) + b"\x05") == "amf.depth"
    assert code_of(opening * 200_000) == "amf.depth"


def test_the_number_of_values_stops_at_the_limit() -> None:
    nodes = amf0.AMF_LIMITS.nodes

    for allowed in (nodes - 1, nodes):
        assert len(decode(b"\x05" * allowed)) == allowed
    assert code_of(b"\x05" * (nodes + 1)) == "amf.nodes"
    assert code_of(encode({str(i): None for i in range(5000)})) == "amf.nodes"


def test_the_budget_is_shared_by_everything_in_a_message() -> None:
    three = encode([None, None])

    assert len(decode(three * 3, limits=AmfLimits(nodes=9))) == 3
    assert code_of(three * 3 + b"\x05", AmfLimits(nodes=9)) == "amf.nodes"


def test_property_names_stop_at_the_limit() -> None:
    data = encode({"a": None, "b": {"c": None}})

    assert decode(data, limits=AmfLimits(keys=3))
    assert code_of(data, AmfLimits(keys=2)) == "amf.nodes"


@pytest.mark.parametrize("form", [">BH", ">BI"])
def test_strings_stop_at_the_limit(form: str) -> None:
    marker = 2 if form == ">BH" else 12

    for allowed in (99, 100):
        assert decode(struct.pack(form, marker, allowed) + b"x" * allowed, limits=AmfLimits(string=100))
    assert code_of(struct.pack(form, marker, 101) + b"x" * 101, AmfLimits(string=100)) == "amf.string"


@pytest.mark.parametrize(("count", "code"), [(2, ""), (3, "amf.count"), (0xFFFFFFFF, "amf.count")])
def test_an_array_cannot_have_more_values_than_bytes(count: int, code: str) -> None:
    data = struct.pack(">BI", 10, count) + b"\x05\x05"

    if code:
        assert code_of(data) == code
    else:
        assert decode(data) == [[None, None]]


def test_a_reference_names_a_finished_container() -> None:
    assert decode(encode({"a": 1.0}) + b"\x07\x00\x00") == [{"a": 1.0}, {"a": 1.0}]
    assert decode(b"\x0a\x00\x00\x00\x02" + encode({}) + b"\x07\x00\x01") == [[{}, {}]]


@pytest.mark.parametrize("index", [0, 1, 65535])
def test_a_reference_to_an_open_or_later_container_is_refused(index: int) -> None:
    assert code_of(b"\x0a\x00\x00\x00\x02\x07" + index.to_bytes(2, "big") + encode({})) == "amf.reference"


def test_references_pay_for_what_they_repeat() -> None:
    data = bytearray(b"\x0a\x00\x00\x00\x00")
    for index in range(40):
        data += b"\x0a\x00\x00\x00\x02" + (b"\x07" + index.to_bytes(2, "big")) * 2

    assert code_of(bytes(data)) == "amf.nodes"


@pytest.mark.parametrize(("around", "code"), [(1, ""), (2, "amf.depth")])
def test_what_a_reference_names_may_not_reach_deeper_than_containers_may_nest(around: int, code: str) -> None:
    deep = b"\x0a\x00\x00\x00\x01" * (amf0.AMF_LIMITS.depth - 1) + b"\x05"
    data = deep + b"\x0a\x00\x00\x00\x01" * around + b"\x07\x00\x00"

    if code:
        assert code_of(data) == code
    else:
        assert decode(encode(*decode(data))) == decode(data)


def test_an_xml_document_is_opaque() -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'

    assert decode(encode(XmlDocument(bomb))) == [bomb]


def test_a_switch_marker_leads_to_amf3() -> None:
    assert decode(b"\x11\x04\x05" + b"\x11\x06\x07abc" + b"\x11\x06\x00" + b"\x05") == [5.0, "abc", "abc", None]


def test_encoding_refuses_cycles_long_names_and_foreign_types() -> None:
    loop: list[Value] = []
    loop.append(loop)

    with pytest.raises(AmfError, match=r"amf\.depth"):
        encode(loop)
    with pytest.raises(AmfError, match=r"amf\.string"):
        encode({"k" * 65536: None})
    with pytest.raises(TypeError, match="set"):
        encode({1, 2})  # type: ignore[arg-type]


def test_the_limits_are_found_where_the_other_limits_are() -> None:
    assert wire_limits.AmfLimits is AmfLimits
    assert wire_limits.AMF_LIMITS is amf0.AMF_LIMITS


LEAVES = st.one_of(
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from([UNDEFINED, UNSUPPORTED]),
    st.builds(Date, st.floats(allow_nan=False), st.integers(-(2**15), 2**15 - 1)),
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)
VALUES: st.SearchStrategy[Value] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4).map(EcmaArray),
        st.builds(TypedObject, st.dictionaries(KEYS, inner, max_size=4), KEYS),
    ),
    max_leaves=20,
)


@given(st.lists(VALUES, max_size=5))
def test_what_is_encoded_is_decoded(values: list[Value]) -> None:
    assert decode(encode(*values)) == values


@given(st.binary(max_size=80))
def test_noise_gives_values_that_encode_stably_or_an_error(data: bytes) -> None:
    found = outcome(data)

    if isinstance(found, list):
        again = encode(*found)
        assert encode(*decode(again)) == again
    else:
        assert found in CODES


@given(st.lists(VALUES, min_size=1, max_size=3), st.data())
def test_damage_gives_values_or_an_error(values: list[Value], data: st.DataObject) -> None:
    wire = bytearray(encode(*values))
    at = data.draw(st.integers(0, len(wire) - 1))
    wire[at] = data.draw(st.integers(0, 255))

    found = outcome(bytes(wire))

    assert isinstance(found, list) or found in CODES
