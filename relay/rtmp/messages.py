"""Message types and the bodies of the protocol control messages (RTMP 1.0 §5.4, §7.1.7).

Plain integers, not an IntEnum: the media path compares a type id for every message, and the enum would cost a
conversion each time. Commands live in `relay.rtmp.commands`; media and data bodies belong to `relay.media`.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from relay.rtmp.errors import RemoteProtocolError
from relay.rtmp.limits import MAX_CHUNK_SIZE

SET_CHUNK_SIZE: Final = 1
ABORT: Final = 2
ACKNOWLEDGEMENT: Final = 3
USER_CONTROL: Final = 4
WINDOW_ACK_SIZE: Final = 5
SET_PEER_BANDWIDTH: Final = 6
AUDIO: Final = 8
VIDEO: Final = 9
DATA_AMF3: Final = 15
SHARED_OBJECT_AMF3: Final = 16
COMMAND_AMF3: Final = 17
DATA: Final = 18
SHARED_OBJECT: Final = 19
COMMAND: Final = 20

MEDIA_TYPES: Final = frozenset({AUDIO, VIDEO, DATA_AMF3, DATA})
"""What a published stream is made of; handed out untouched."""
CONTROL_TYPES: Final = frozenset({USER_CONTROL, WINDOW_ACK_SIZE, SET_PEER_BANDWIDTH})
"""The control messages that `Connection` takes by itself; they give no events."""
COMMAND_TYPES: Final = frozenset({COMMAND, COMMAND_AMF3})
SHARED_OBJECT_TYPES: Final = frozenset({SHARED_OBJECT, SHARED_OBJECT_AMF3})

STREAM_BEGIN: Final = 0
STREAM_EOF: Final = 1
SET_BUFFER_LENGTH: Final = 3
PING_REQUEST: Final = 6
PING_RESPONSE: Final = 7

BANDWIDTH_DYNAMIC: Final = 2

_U32: Final = Struct(">I")
_U32_U8: Final = Struct(">IB")
_EVENT: Final = Struct(">HI")
_EVENT_LONG: Final = Struct(">HII")


def u32(value: int) -> bytes:
    """Body of SetChunkSize, Acknowledgement and WindowAckSize."""
    return _U32.pack(value & 0xFFFFFFFF)


def peer_bandwidth(size: int, limit_type: int = BANDWIDTH_DYNAMIC) -> bytes:
    """Body of SetPeerBandwidth."""
    return _U32_U8.pack(size, limit_type)


def user_control(event: int, value: int) -> bytes:
    """Body of a User Control message with one 32-bit argument: an msid, or the time of a ping."""
    return _EVENT.pack(event, value & 0xFFFFFFFF)


def buffer_length(stream_id: int, milliseconds: int) -> bytes:
    """Body of the User Control event SetBufferLength."""
    return _EVENT_LONG.pack(SET_BUFFER_LENGTH, stream_id, milliseconds)


def read_u32(payload: bytes) -> int | None:
    """Return the first 32-bit number of *payload*, None when it is too short."""
    return _U32.unpack_from(payload)[0] if len(payload) >= _U32.size else None


def read_chunk_size(payload: bytes) -> int:
    """Return what Set Chunk Size says (RTMP 1.0 §5.4.1); it holds from the next chunk on, on every chunk stream.

    Raises:
        RemoteProtocolError: the number is missing, 0 or above 2^31 - 1.
    """
    size = read_u32(payload)
    if size is None:
        raise RemoteProtocolError("ctl.short", f"Set Chunk Size of {len(payload)} bytes")
    if size == 0:
        raise RemoteProtocolError("chunk.size_zero", "Set Chunk Size 0")
    if size > 0x7FFFFFFF:
        raise RemoteProtocolError("chunk.size_reserved_bit", f"Set Chunk Size {size:#x}")
    return min(size, MAX_CHUNK_SIZE)


def read_peer_bandwidth(payload: bytes) -> tuple[int, int] | None:
    """Return size and limit type, None when *payload* is too short."""
    return _U32_U8.unpack_from(payload) if len(payload) >= _U32_U8.size else None


def read_user_control(payload: bytes) -> tuple[int, int] | None:
    """Return event type and its first 32-bit argument, None when *payload* is too short."""
    return _EVENT.unpack_from(payload) if len(payload) >= _EVENT.size else None
