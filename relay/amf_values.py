"""What AMF0 and AMF3 share: the values they decode to, the error, the limits and the budget of one message.

Imports only relay.errors. The rule: a peer pays for everything it makes us build, *before* we build it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from relay.errors import RelayError

KIB = 1024


class AmfError(RelayError):
    """AMF that cannot be decoded or breaks a limit.

    *code* is one of ``amf.depth``, ``amf.count``, ``amf.truncated``, ``amf.reference``, ``amf.type``, ``amf.nodes``,
    ``amf.string``.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class Bare(Enum):
    """The two AMF0 markers that carry no data and have no Python equivalent."""

    UNDEFINED = "undefined"
    UNSUPPORTED = "unsupported"

    def __bool__(self) -> bool:
        return False


UNDEFINED = Bare.UNDEFINED
UNSUPPORTED = Bare.UNSUPPORTED


@dataclass(frozen=True, slots=True)
class Date:
    """Milliseconds since 1970 in UTC. *tz* is the reserved time zone field: minutes, 0 by the specification."""

    ms: float
    tz: int = 0


class XmlDocument(str):
    """An XML document, kept as opaque text: it is never parsed (entities, DOCTYPE)."""

    __slots__ = ()


class EcmaArray(dict[str, "Value"]):
    """An associative array (AMF0 0x08). Its announced count is advice and is not kept."""

    __slots__ = ()


class TypedObject(dict[str, "Value"]):
    """An object that names its class (AMF0 0x10). The class is never instantiated."""

    __slots__ = ("class_name",)

    def __init__(self, values: dict[str, Value] | None = None, class_name: str = "") -> None:
        super().__init__(values or {})
        self.class_name = class_name


Value: TypeAlias = "float | bool | str | Bare | Date | dict[str, Value] | list[Value] | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class AmfLimits:
    """Bounds of one AMF decode. The budget is shared by everything inside one message."""

    depth: int = 32
    """Nested containers. Real commands nest 3 deep; recursion overflows at about 1,000."""
    nodes: int = 1024
    """Values in all, containers and leaves."""
    keys: int = 4096
    """Property names in all."""
    string: int = 64 * KIB
    """Bytes of one string."""


AMF_LIMITS = AmfLimits()


class Budget:
    """What is left of the limits while one message is decoded."""

    __slots__ = ("depth", "keys", "limits", "nodes")

    def __init__(self, limits: AmfLimits) -> None:
        self.limits = limits
        self.depth = 0
        self.nodes = 0
        self.keys = 0

    def node(self, count: int = 1) -> None:
        """Pay for *count* values."""
        self.nodes += count
        if self.nodes > self.limits.nodes:
            raise AmfError("amf.nodes", f"more than {self.limits.nodes} values")

    def key(self) -> None:
        """Pay for one property name."""
        self.keys += 1
        if self.keys > self.limits.keys:
            raise AmfError("amf.nodes", f"more than {self.limits.keys} property names")

    def enter(self) -> None:
        """Go into a container."""
        self.depth += 1
        self.reach(0)

    def reach(self, levels: int) -> None:
        """Refuse to go *levels* deeper than we are."""
        if self.depth + levels > self.limits.depth:
            raise AmfError("amf.depth", f"more than {self.limits.depth} nested containers")

    def leave(self) -> None:
        """Come out of a container."""
        self.depth -= 1


class References:
    """The containers of one message that a later reference may name.

    A reference shares its target, so a few bytes could describe a value that takes for ever to walk (each array
    holding the previous one twice). Therefore each reference pays again for all values of its target, and its target
    may not reach deeper from here than containers may nest. A container that is still open cannot be named: that
    would be a cycle.
    """

    __slots__ = ("_budget", "_closed")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._closed: list[tuple[Value, int] | None] = []

    def open(self) -> int:
        """Reserve the next index."""
        self._closed.append(None)
        return len(self._closed) - 1

    def close(self, index: int, value: Value, nodes_before: int) -> None:
        """Make *value* available as *index*; it cost what the budget paid since *nodes_before*."""
        self._closed[index] = (value, self._budget.nodes - nodes_before)

    def get(self, index: int) -> Value:
        """Return the container with this index."""
        entry = self._closed[index] if index < len(self._closed) else None
        if entry is None:
            raise AmfError("amf.reference", f"reference {index} names no finished container")
        value, nodes = entry
        self._budget.node(nodes)
        self._budget.reach(_height(value))  # a walk over what was just paid for
        return value


def _height(value: Value) -> int:
    """How many containers are in each other in *value*."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(_height, inside), default=0)


class Input:
    """A read position in the bytes of one message. Nothing is read or allocated beyond their end."""

    __slots__ = ("data", "end", "limit", "pos")

    def __init__(self, data: bytes, limits: AmfLimits) -> None:
        self.data = data
        self.pos = 0
        self.end = len(data)
        self.limit = limits.string

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return self.end - self.pos

    def take(self, count: int) -> bytes:
        """Return the next *count* bytes."""
        start = self.pos
        if count > self.end - start:
            raise AmfError("amf.truncated", f"{count} bytes wanted, {self.end - start} left")
        self.pos = start + count
        return self.data[start : self.pos]

    def uint(self, size: int) -> int:
        """Return the next *size* bytes as an unsigned big-endian number."""
        return int.from_bytes(self.take(size), "big")

    def text(self, count: int) -> str:
        """Return the next *count* bytes as text; bytes that are not UTF-8 are read as Latin-1, as old encoders mean."""
        if count > self.end - self.pos:
            raise AmfError("amf.truncated", f"string of {count} bytes, {self.end - self.pos} left")
        if count > self.limit:
            raise AmfError("amf.string", f"string of {count} bytes, {self.limit} allowed")
        raw = self.take(count)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")
