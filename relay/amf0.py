"""AMF0: the encoding of RTMP commands and metadata. Bytes to values and back (amf0-file-format-specification).

The decoder is lenient where real encoders are sloppy (rules at the places concerned) and strict about cost: depth,
values and strings are bounded by `AmfLimits`, and nothing is allocated ahead of the bytes that justify it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from relay import amf3
from relay.amf_values import (
    AMF_LIMITS,
    UNDEFINED,
    UNSUPPORTED,
    AmfError,
    AmfLimits,
    Budget,
    Date,
    EcmaArray,
    Input,
    References,
    TypedObject,
    Value,
    XmlDocument,
)

__all__ = [
    "AMF_LIMITS",
    "UNDEFINED",
    "UNSUPPORTED",
    "AmfError",
    "AmfLimits",
    "Date",
    "EcmaArray",
    "TypedObject",
    "Value",
    "XmlDocument",
    "decode",
    "encode",
]

_DOUBLE = struct.Struct(">d")
_NUMBER = struct.Struct(">Bd")
_DATE = struct.Struct(">Bdh")
_OBJECT_END = 0x09
_END = b"\x00\x00\x09"
_SHORT_MAX = 0xFFFF


def decode(data: bytes | bytearray | memoryview, *, limits: AmfLimits = AMF_LIMITS) -> list[Value]:
    """Return all values in *data*, which is the body of one message.

    Raises:
        AmfError: the data is malformed or breaks *limits*.
    """
    decoder = _Decoder(bytes(data), limits)
    values: list[Value] = []
    while decoder.input.left:
        values.append(decoder.value())
    return values


class _Decoder:
    """Reads the values of one message; budget and reference table are shared by all of them."""

    __slots__ = ("amf3", "budget", "input", "references")

    def __init__(self, data: bytes, limits: AmfLimits) -> None:
        self.input = Input(data, limits)
        self.budget = Budget(limits)
        self.references = References(self.budget)
        self.amf3: amf3.Decoder | None = None

    def value(self) -> Value:
        """Read one value. Recursion is bounded by the depth limit."""
        self.budget.node()
        marker = self.input.take(1)[0]
        read = _READERS.get(marker)
        if read is None:
            raise AmfError("amf.type", f"marker {marker:#04x}")
        return read(self)

    def number(self) -> float:
        return float(_DOUBLE.unpack(self.input.take(8))[0])

    def boolean(self) -> bool:
        return self.input.take(1) != b"\x00"

    def string(self) -> str:
        return self.input.text(self.input.uint(2))

    def long_string(self) -> str:
        return self.input.text(self.input.uint(4))

    def xml(self) -> XmlDocument:
        return XmlDocument(self.input.text(self.input.uint(4)))

    def date(self) -> Date:
        ms = self.number()
        return Date(ms, int.from_bytes(self.input.take(2), "big", signed=True))

    def null(self) -> None:
        return None

    def undefined(self) -> Value:
        return UNDEFINED

    def unsupported(self) -> Value:
        return UNSUPPORTED

    def reference(self) -> Value:
        return self.references.get(self.input.uint(2))

    def object(self) -> Value:
        return self._properties({})

    def ecma_array(self) -> Value:
        self.input.take(4)  # encoders write 0 or nonsense here: only the end marker decides
        return self._properties(EcmaArray())

    def typed_object(self) -> Value:
        return self._properties(TypedObject({}, self.string()))

    def strict_array(self) -> Value:
        count = self.input.uint(4)
        if count > self.input.left:  # the smallest value takes one byte
            raise AmfError("amf.count", f"array of {count} values in {self.input.left} bytes")
        index, before = self.references.open(), self.budget.nodes
        self.budget.enter()
        array = [self.value() for _ in range(count)]
        self.budget.leave()
        self.references.close(index, array, before)
        return array

    def switch_to_amf3(self) -> Value:
        if self.amf3 is None:
            self.amf3 = amf3.Decoder(self.input, self.budget)
        self.budget.enter()
        value = self.amf3.value()
        self.budget.leave()
        return value

    def _properties(self, target: dict[str, Value]) -> Value:
        """Fill *target* up to the end marker. The end of the data also ends it: Envivio encoders omit the marker."""
        index, before = self.references.open(), self.budget.nodes
        self.budget.enter()
        source = self.input
        while source.left:
            key = self.string()
            if not key and source.left and source.data[source.pos] == _OBJECT_END:
                source.pos += 1
                break
            self.budget.key()
            target[key] = self.value()
        self.budget.leave()
        self.references.close(index, target, before)
        return target


_READERS: Mapping[int, Callable[[_Decoder], Value]] = {
    0x00: _Decoder.number,
    0x01: _Decoder.boolean,
    0x02: _Decoder.string,
    0x03: _Decoder.object,
    0x05: _Decoder.null,
    0x06: _Decoder.undefined,
    0x07: _Decoder.reference,
    0x08: _Decoder.ecma_array,
    0x0A: _Decoder.strict_array,
    0x0B: _Decoder.date,
    0x0C: _Decoder.long_string,
    0x0D: _Decoder.unsupported,
    0x0F: _Decoder.xml,
    0x10: _Decoder.typed_object,
    0x11: _Decoder.switch_to_amf3,
}


def encode(*values: Value) -> bytes:
    """Return *values* one after the other, as the body of a command or data message.

    Raises:
        AmfError: a value nests deeper than `AMF_LIMITS` allows (or contains itself), or a key is too long.
        TypeError: a value has no AMF0 form.
    """
    out = bytearray()
    for value in values:
        _write(out, value, 0)
    return bytes(out)


def _write(out: bytearray, value: Value, depth: int) -> None:
    if isinstance(value, bool):  # before int: a bool is one
        out += b"\x01\x01" if value else b"\x01\x00"
    elif isinstance(value, (float, int)):
        out += _NUMBER.pack(0x00, value)
    elif isinstance(value, XmlDocument):
        _write_long(out, 0x0F, _utf8(value))
    elif isinstance(value, str):
        _write_string(out, value)
    elif value is None:
        out += b"\x05"
    elif value is UNDEFINED:
        out += b"\x06"
    elif value is UNSUPPORTED:
        out += b"\x0d"
    elif isinstance(value, Date):
        out += _DATE.pack(0x0B, value.ms, value.tz)
    else:
        _write_container(out, value, depth + 1)


def _write_container(out: bytearray, value: Value, depth: int) -> None:
    if depth > AMF_LIMITS.depth:
        raise AmfError("amf.depth", f"more than {AMF_LIMITS.depth} nested containers")
    if isinstance(value, list):
        out += b"\x0a" + len(value).to_bytes(4, "big")
        for item in value:
            _write(out, item, depth)
        return
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} has no AMF0 form")
    if isinstance(value, EcmaArray):
        out += b"\x08" + len(value).to_bytes(4, "big")
    elif isinstance(value, TypedObject):
        out += b"\x10" + _short(value.class_name)
    else:
        out += b"\x03"
    for key, item in value.items():
        out += _short(key)
        _write(out, item, depth)
    out += _END


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # lone surrogates become "?": AMF strings are UTF-8


def _short(text: str) -> bytes:
    raw = _utf8(text)
    if len(raw) > _SHORT_MAX:
        raise AmfError("amf.string", f"name of {len(raw)} bytes")
    return len(raw).to_bytes(2, "big") + raw


def _write_string(out: bytearray, text: str) -> None:
    raw = _utf8(text)
    if len(raw) <= _SHORT_MAX:
        out += b"\x02" + len(raw).to_bytes(2, "big") + raw
    else:
        _write_long(out, 0x0C, raw)


def _write_long(out: bytearray, marker: int, raw: bytes) -> None:
    out += bytes((marker,)) + len(raw).to_bytes(4, "big") + raw
