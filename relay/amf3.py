"""AMF3, decoder only, for tolerance: some peers put AMF3 values behind an AMF0 switch marker or in types 15 and 17.

We announce objectEncoding 0 and always send AMF0. Classes are never instantiated; what RTMP has no use for
(externalizable objects, dictionaries) is refused (amf3-file-format-specification).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import TypeVar

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

__all__ = ["Decoder", "decode"]

_DOUBLE = struct.Struct(">d")
_INLINE_TRAITS, _EXTERNALIZABLE, _DYNAMIC = 0b001, 0b010, 0b100
"""Flags of an object header, once its reference flag is shifted out (AMF3 3.12)."""

_T = TypeVar("_T")


def decode(data: bytes | bytearray | memoryview, *, limits: AmfLimits = AMF_LIMITS) -> list[Value]:
    """Return all AMF3 values in *data*.

    Raises:
        AmfError: the data is malformed, breaks *limits* or holds a type that is refused.
    """
    source = Input(bytes(data), limits)
    decoder = Decoder(source, Budget(limits))
    values: list[Value] = []
    while source.left:
        decoder.budget.node()
        values.append(decoder.value())
    return values


class _Traits:
    """What a class looks like: its name, its sealed properties, and whether more may follow."""

    __slots__ = ("class_name", "dynamic", "names")

    def __init__(self, class_name: str, names: tuple[str, ...], dynamic: bool) -> None:
        self.class_name = class_name
        self.names = names
        self.dynamic = dynamic


class Decoder:
    """Reads AMF3 values from *source*; the three reference tables live as long as the decoder, one message.

    The caller pays the budget for the value it asks for.
    """

    __slots__ = ("budget", "references", "source", "strings", "traits")

    def __init__(self, source: Input, budget: Budget) -> None:
        self.source = source
        self.budget = budget
        self.references = References(budget)
        self.strings: list[str] = []
        self.traits: list[_Traits] = []

    def value(self) -> Value:
        """Read one value. Recursion is bounded by the depth limit."""
        marker = self.source.take(1)[0]
        read = _READERS.get(marker)
        if read is None:
            raise AmfError("amf.type", f"AMF3 marker {marker:#04x}")
        return read(self)

    def u29(self) -> int:
        """Read a variable-length number of up to 29 bits (AMF3 1.3.1)."""
        number = 0
        for _ in range(3):
            byte = self.source.take(1)[0]
            number = number << 7 | byte & 0x7F
            if byte < 0x80:
                return number
        return number << 8 | self.source.take(1)[0]

    def undefined(self) -> Value:
        return UNDEFINED

    def null(self) -> None:
        return None

    def false(self) -> bool:
        return False

    def true(self) -> bool:
        return True

    def integer(self) -> float:
        number = self.u29()
        return float(number - (1 << 29) if number & 1 << 28 else number)

    def double(self) -> float:
        return float(_DOUBLE.unpack(self.source.take(8))[0])

    def string(self) -> str:
        header = self.u29()
        if not header & 1:
            return _entry(self.strings, header >> 1, "string")
        text = self.source.text(header >> 1)
        if text:  # the empty string is never sent by reference (AMF3 1.3.2)
            self.strings.append(text)
        return text

    def xml(self) -> Value:
        return self._referable(lambda size: XmlDocument(self.source.text(size)))

    def byte_array(self) -> Value:
        return self._referable(self._skip_bytes)

    def date(self) -> Value:
        return self._referable(lambda _: Date(self.double()))

    def array(self) -> Value:
        return self._referable(self._array)

    def object(self) -> Value:
        return self._referable(self._object)

    def int_vector(self) -> Value:
        return self._referable(lambda count: self._vector(count, ">i", 4))

    def uint_vector(self) -> Value:
        return self._referable(lambda count: self._vector(count, ">I", 4))

    def double_vector(self) -> Value:
        return self._referable(lambda count: self._vector(count, ">d", 8))

    def object_vector(self) -> Value:
        return self._referable(self._object_vector)

    def _referable(self, read: Callable[[int], Value]) -> Value:
        """Return what a reference names, or call *read* with the upper bits of the header and remember the result."""
        header = self.u29()
        if not header & 1:
            return self.references.get(header >> 1)
        index, before = self.references.open(), self.budget.nodes
        self.budget.enter()
        value = read(header >> 1)
        self.budget.leave()
        self.references.close(index, value, before)
        return value

    def _member(self) -> Value:
        self.budget.node()
        return self.value()

    def _dynamic_members(self, target: dict[str, Value]) -> None:
        """Read name and value pairs up to the empty name."""
        while name := self.string():
            self.budget.key()
            target[name] = self._member()

    def _array(self, count: int) -> Value:
        named = EcmaArray()
        self._dynamic_members(named)
        self._check_count(count, 1)
        dense = [self._member() for _ in range(count)]
        if not named:
            return dense
        named.update({str(index): item for index, item in enumerate(dense)})
        return named

    def _object(self, header: int) -> Value:
        traits = self._read_traits(header)
        target: dict[str, Value] = TypedObject({}, traits.class_name) if traits.class_name else {}
        for name in traits.names:
            target[name] = self._member()
        if traits.dynamic:
            self._dynamic_members(target)
        return target

    def _read_traits(self, header: int) -> _Traits:
        if not header & _INLINE_TRAITS:
            return _entry(self.traits, header >> 1, "traits")
        if header & _EXTERNALIZABLE:
            raise AmfError("amf.type", "externalizable object")
        count = header >> 3
        class_name = self.string()
        self._check_count(count, 1)
        names = []
        for _ in range(count):
            self.budget.key()
            names.append(self.string())
        traits = _Traits(class_name, tuple(names), bool(header & _DYNAMIC))
        self.traits.append(traits)
        return traits

    def _vector(self, count: int, form: str, size: int) -> Value:
        self.source.take(1)  # fixed length or not: no matter here
        self._check_count(count, size)
        self.budget.node(count)
        return [float(number) for (number,) in struct.iter_unpack(form, self.source.take(count * size))]

    def _object_vector(self, count: int) -> Value:
        self.source.take(1)
        self.string()  # class name of the items
        self._check_count(count, 1)
        return [self._member() for _ in range(count)]

    def _skip_bytes(self, size: int) -> Value:
        self.source.take(size)
        return UNSUPPORTED

    def _check_count(self, count: int, size: int) -> None:
        if count * size > self.source.left:
            raise AmfError("amf.count", f"{count} items of {size} bytes in {self.source.left} bytes")


def _entry(table: list[_T], index: int, what: str) -> _T:
    if index >= len(table):
        raise AmfError("amf.reference", f"{what} reference {index} of {len(table)}")
    return table[index]


_READERS: Mapping[int, Callable[[Decoder], Value]] = {
    0x00: Decoder.undefined,
    0x01: Decoder.null,
    0x02: Decoder.false,
    0x03: Decoder.true,
    0x04: Decoder.integer,
    0x05: Decoder.double,
    0x06: Decoder.string,
    0x07: Decoder.xml,
    0x08: Decoder.date,
    0x09: Decoder.array,
    0x0A: Decoder.object,
    0x0B: Decoder.xml,
    0x0C: Decoder.byte_array,
    0x0D: Decoder.int_vector,
    0x0E: Decoder.uint_vector,
    0x0F: Decoder.double_vector,
    0x10: Decoder.object_vector,
}
