"""Messages to chunks. Every message is a fmt-0 chunk with its absolute time, so it depends on nothing before it.

That costs 4 bytes more than a delta header and buys that a player may start at any message, and that every player of
a stream is sent the same bytes.
"""

from __future__ import annotations

import struct

from relay.rtmp.errors import LocalProtocolError

CONTROL_CSID, CONNECTION_CSID, AUDIO_CSID, STREAM_CSID, VIDEO_CSID, DATA_CSID = 2, 3, 4, 5, 6, 7
"""The lanes we send in, each within what one header byte can say; many servers refuse large ids."""

DEFAULT_CHUNK_SIZE = 128
"""Both directions, until Set Chunk Size (RTMP 1.0 §5.4.1)."""
CHUNK_SIZE = 65536
"""What we announce and use everywhere: nearly every message is one chunk."""

_EXTENDED = 0xFFFFFF
_MEDIA_CSIDS = {8: AUDIO_CSID, 9: VIDEO_CSID}
_HEADER = struct.Struct(">III")
"""A one-byte basic header and a fmt-0 message header as three words: csid|timestamp, length|type, msid (swapped)."""
_WORD = struct.Struct(">I")
_MSID_ONE = 0x01000000


def media_frame(type_id: int, timestamp: int, body: bytes, chunk_size: int = CHUNK_SIZE, msid: int = 1) -> bytes:
    """Return one audio (8), video (9) or data (18) message as chunks; *timestamp* is taken modulo 2^32."""
    timestamp &= 0xFFFFFFFF
    csid = _MEDIA_CSIDS.get(type_id, DATA_CSID)
    if timestamp < _EXTENDED and len(body) <= chunk_size and msid == 1:
        return _HEADER.pack(csid << 24 | timestamp, len(body) << 8 | type_id, _MSID_ONE) + body
    return frame(csid, timestamp, type_id, msid, body, chunk_size)


def frame(csid: int, timestamp: int, type_id: int, msid: int, body: bytes, chunk_size: int = CHUNK_SIZE) -> bytes:
    """Return one message as chunks: fmt 0, then fmt 3 with the extended timestamp repeated (RTMP 1.0 §5.3.1.3)."""
    if len(body) > _EXTENDED:
        raise LocalProtocolError(f"message of {len(body)} bytes")
    timestamp &= 0xFFFFFFFF
    extended = _WORD.pack(timestamp) if timestamp >= _EXTENDED else b""
    header = b"".join(
        (
            basic_header(0, csid),
            min(timestamp, _EXTENDED).to_bytes(3, "big"),
            len(body).to_bytes(3, "big"),
            bytes((type_id,)),
            msid.to_bytes(4, "little"),
            extended,
        )
    )
    if len(body) <= chunk_size:
        return header + body
    again = basic_header(3, csid) + extended
    return header + again.join([body[start : start + chunk_size] for start in range(0, len(body), chunk_size)])


def basic_header(fmt: int, csid: int) -> bytes:
    """Return the basic header in its shortest form (RTMP 1.0 §5.3.1.1)."""
    if 2 <= csid < 64:
        return bytes((fmt << 6 | csid,))
    if 64 <= csid < 320:
        return bytes((fmt << 6, csid - 64))
    if 320 <= csid < 65600:
        return bytes((fmt << 6 | 1, (csid - 64) & 0xFF, (csid - 64) >> 8))
    raise LocalProtocolError(f"chunk stream id {csid}")
