"""Aggregate messages (type 22): several messages in one, in the form of FLV tags (RTMP 1.0 §7.1.6).

FMS, Wowza and Akamai send them when they are pulled from. The rule: an aggregate holds media and data only, so it can
neither hold another aggregate nor change how we parse.
"""

from __future__ import annotations

from collections import Counter

from relay.rtmp.errors import RemoteProtocolError
from relay.rtmp.events import Message

AGGREGATE = 22

MAX_TAGS = 4096
"""Messages in one aggregate, empty ones included. Servers put some tens in; taking 4,096 apart is 4 ms of work."""

_TAG_SIZE = 11
_BACK_POINTER = 4
_ALLOWED = frozenset((8, 9, 15, 18))


def unpack(aggregate: Message, odd: Counter[str]) -> tuple[list[Message], int]:
    """Return the messages in *aggregate* and how many tags were looked at; what is wrong is counted in *odd*, left out.

    The first tag's time is the base: a message's time is the aggregate's plus its tag's distance from the base.

    Raises:
        RemoteProtocolError: ``msg.aggregate``, more than `MAX_TAGS` tags.
    """
    data = aggregate.payload
    messages: list[Message] = []
    pos, base, tags = 0, None, 0
    while pos < len(data):
        tags += 1
        if tags > MAX_TAGS:
            raise RemoteProtocolError("msg.aggregate", f"more than {MAX_TAGS} messages in an aggregate")
        start = pos + _TAG_SIZE
        if start > len(data):
            odd["aggregate.truncated"] += 1
            break
        type_id = data[pos]
        stop = start + int.from_bytes(data[pos + 1 : pos + 4], "big")
        time = int.from_bytes(data[pos + 4 : pos + 7], "big") | data[pos + 7] << 24
        if stop > len(data):
            odd["aggregate.truncated"] += 1
            break
        base = time if base is None else base
        if type_id not in _ALLOWED:
            odd["aggregate.bad_type"] += 1
        elif start == stop:
            odd["msg.empty"] += 1
        else:
            timestamp = (aggregate.timestamp + time - base) & 0xFFFFFFFF
            messages.append(Message(type_id, timestamp, aggregate.stream_id, aggregate.csid, data[start:stop]))
        pos = stop + _BACK_POINTER
    return messages, tags
