"""Commands (message types 20 and 17): read them tolerantly, build them strictly.

The rule: whatever a peer sends, reading gives a `Command`, None for something to skip, or `RemoteProtocolError`;
and what we build always has a description under 256 ASCII characters, because librtmp crashes without one and
FFmpeg keeps 255 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

from relay import amf0
from relay.rtmp.errors import RemoteProtocolError
from relay.rtmp.events import Capabilities, Message
from relay.rtmp.messages import COMMAND_AMF3

MAX_DESCRIPTION: Final = 255
MAX_FLASH_VER: Final = 256
CAPS_RECONNECT: Final = 0x01
CAPS_MULTITRACK: Final = 0x02
CAPS_MODEX: Final = 0x04
CAN_FORWARD: Final = 0x04

_DOUBLE = Struct(">d")
_NUMBER_MARKER = b"\x00"
_STRING_MARKER = 2


@dataclass(frozen=True, slots=True)
class Command:
    """One command as received.

    Attributes:
        name: ``connect``, ``publish``, ``_result``...
        transaction: transaction id as its 8 raw bytes, because NaN must be echoed bit for bit.
        object: the command object, or what stands in its place.
        arguments: the values after the command object.
        stream_id: msid that the message came on.
    """

    name: str
    transaction: bytes
    object: amf0.Value
    arguments: list[amf0.Value]
    stream_id: int

    @property
    def transaction_number(self) -> float:
        """Transaction id as a number."""
        number: float = _DOUBLE.unpack(self.transaction)[0]
        return number

    @property
    def wants_answer(self) -> bool:
        """Whether the peer expects `_result` or `_error` (RTMP 7.2: transaction id 0 means no answer)."""
        return self.transaction_number != 0

    def argument(self, index: int) -> amf0.Value:
        """Return the argument at *index*, None when the peer sent fewer."""
        return self.arguments[index] if index < len(self.arguments) else None

    @property
    def info(self) -> Mapping[str, Any]:
        """The information object: the first object among the arguments, wherever the server put it."""
        for value in (*self.arguments, self.object):
            if isinstance(value, dict):
                return value
        return {}


def read(message: Message) -> Command | None:
    """Return the command in *message*, or None when it has no name that is a string (case cmd.bad_name: skip it)."""
    payload = message.payload
    # AMF3 commands are one zero byte and then plain AMF0 in practice; librtmp and SRS skip it as well.
    if payload[:1] == b"\x00" and message.type_id == COMMAND_AMF3:
        payload = payload[1:]
    try:
        values = amf0.decode(payload)
    except amf0.AmfError as error:
        raise RemoteProtocolError(error.code, str(error)) from error
    if not values or not isinstance(values[0], str):
        return None
    return Command(
        name=values[0],
        transaction=_raw_transaction(payload, values[1] if len(values) > 1 else None),
        object=values[2] if len(values) > 2 else None,
        arguments=values[3:],
        stream_id=message.stream_id,
    )


def _raw_transaction(payload: bytes, value: amf0.Value) -> bytes:
    """Return the 8 bytes of the number after the command name, zero when it is not a number."""
    start = 3 + int.from_bytes(payload[1:3])
    if payload[0] == _STRING_MARKER and payload[start : start + 1] == _NUMBER_MARKER:
        return payload[start + 1 : start + 9]
    if isinstance(value, (int, float)) and not isinstance(value, bool):  # inside an AMF3 switch
        return _DOUBLE.pack(value)
    return bytes(8)


def build(name: str, transaction: float | bytes, *values: amf0.Value) -> bytes:
    """Return the body of a command message."""
    raw = transaction if isinstance(transaction, bytes) else _DOUBLE.pack(transaction)
    return amf0.encode(name) + b"\x00" + raw + amf0.encode(*values)


def result(command: Command, *values: amf0.Value) -> bytes:
    """Return `_result` to *command*: command object and arguments."""
    return build("_result", command.transaction, *values)


def error(command: Command, code: str, description: str, redirect: str = "") -> bytes:
    """Return `_error` to *command*; *redirect* says where to go instead."""
    info = status_info("error", code, description)
    if redirect:
        info["ex"] = {"code": 302.0, "redirect": redirect}
    return build("_error", command.transaction, None, info)


def on_status(level: str, code: str, description: str, **extra: amf0.Value) -> bytes:
    """Return `onStatus`, transaction id 0; the caller frames it on the stream's msid."""
    return build("onStatus", 0.0, None, status_info(level, code, description) | extra)


def status_info(level: str, code: str, description: str) -> dict[str, amf0.Value]:
    """Return an information object; the description is never missing and never empty."""
    return {"level": level, "code": code, "description": plain(description) or code}


def plain(text: str) -> str:
    """Return *text* as printable ASCII of at most 255 characters."""
    return "".join(char if " " <= char <= "~" else "?" for char in text[:MAX_DESCRIPTION])


def connect_result(command: Command, capabilities: Capabilities, *, enhanced: bool) -> bytes:
    """Return the success answer to `connect`; the Enhanced RTMP keys only for a peer that sent any of them."""
    properties: dict[str, amf0.Value] = {"fmsVer": "FMS/3,0,1,123", "capabilities": 31.0, "mode": 1.0}
    info = status_info("status", "NetConnection.Connect.Success", "Connection succeeded.")
    info["objectEncoding"] = float(capabilities.object_encoding)
    if enhanced:
        # E-RTMP v2 §Enhancing NetConnection connect: whatever codec comes, a relay forwards it.
        properties |= enhanced_properties(CAPS_MULTITRACK | CAPS_MODEX)
        info |= enhanced_properties(CAPS_MULTITRACK | CAPS_MODEX)
    return result(command, properties, info)


def enhanced_properties(caps_ex: int) -> dict[str, amf0.Value]:
    """Return what we announce: any codec can be forwarded, and *caps_ex*."""
    return {
        "fourCcList": ["*"],
        "videoFourCcInfoMap": {"*": float(CAN_FORWARD)},
        "audioFourCcInfoMap": {"*": float(CAN_FORWARD)},
        "capsEx": float(caps_ex),
    }


ENHANCED_KEYS: Final = frozenset({"fourcclist", "videofourccinfomap", "audiofourccinfomap", "capsex"})


def folded(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return *properties* with lower-case keys: some encoders write `tcurl` (mediamtx #1405)."""
    return {key.lower(): value for key, value in properties.items()}


def capabilities(properties: Mapping[str, Any]) -> Capabilities:
    """Read what a peer announces from its *folded* connect object."""
    fourccs: set[str] = set()
    listed = properties.get("fourcclist")
    if isinstance(listed, list):
        fourccs.update(item for item in listed if isinstance(item, str))
    for key in ("videofourccinfomap", "audiofourccinfomap"):
        mapped = properties.get(key)
        if isinstance(mapped, dict):
            fourccs.update(mapped)
    return Capabilities(
        fourccs=frozenset(fourccs),
        caps_ex=integer(properties.get("capsex")) or 0,
        object_encoding=3 if integer(properties.get("objectencoding")) == 3 else 0,
    )


def integer(value: object) -> int | None:
    """Return an AMF number as an int in 0..2^32-1, None for anything else (NaN, -1, 1e300, a string)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if math.isfinite(value) and 0 <= value <= 0xFFFFFFFF else None


def text(value: object, limit: int = 2048) -> str:
    """Return *value* cut to *limit* characters when it is a string, else an empty string."""
    return value[:limit] if isinstance(value, str) else ""
