"""Aggregates are taken apart, and what is wrong in them is left out."""

from __future__ import annotations

from collections import Counter

import pytest

from relay.rtmp.aggregate import AGGREGATE, unpack
from relay.rtmp.chunks import ChunkReader
from relay.rtmp.errors import RemoteProtocolError
from relay.rtmp.events import Message
from relay.rtmp.framing import frame
from relay.rtmp.limits import AFTER_AUTH
from relay.rtmp.messages import SET_CHUNK_SIZE


def tag(type_id: int, time: int, payload: bytes) -> bytes:
    head = bytes((type_id,)) + len(payload).to_bytes(3, "big") + (time & 0xFFFFFF).to_bytes(3, "big")
    return head + bytes((time >> 24, 0, 0, 0)) + payload + (11 + len(payload)).to_bytes(4, "big")


def parts(timestamp: int, body: bytes) -> tuple[list[tuple[int, int, bytes]], Counter[str]]:
    odd: Counter[str] = Counter()
    found, _ = unpack(Message(AGGREGATE, timestamp, 1, 6, body), odd)
    assert all((message.stream_id, message.csid) == (1, 6) for message in found)
    return [(message.type_id, message.timestamp, message.payload) for message in found], odd


def test_times_count_from_the_first_tag() -> None:
    body = tag(9, 500, b"v") + tag(8, 523, b"a") + tag(18, 490, b"d")

    assert parts(2000, body) == ([(9, 2000, b"v"), (8, 2023, b"a"), (18, 1990, b"d")], {})


def test_times_wrap_at_32_bits() -> None:
    body = tag(9, 0xFFFFFFFF, b"v") + tag(9, 39, b"w")

    assert parts(2**32 - 10, body)[0] == [(9, 2**32 - 10, b"v"), (9, 30, b"w")]


def test_the_last_back_pointer_may_be_missing() -> None:
    assert parts(0, tag(9, 0, b"v")[:-4]) == ([(9, 0, b"v")], {})


def test_a_tag_that_is_cut_off_is_left_out() -> None:
    body = tag(9, 0, b"v") + tag(9, 40, b"longer")

    for end in range(len(tag(9, 0, b"v")) + 1, len(body) - 4):
        assert parts(0, body[:end]) == ([(9, 0, b"v")], {"aggregate.truncated": 1})


def test_an_aggregate_cannot_hold_control_messages_commands_or_aggregates() -> None:
    body = tag(1, 0, bytes(4)) + tag(20, 0, b"x") + tag(22, 0, tag(9, 0, b"v")) + tag(9, 0, b"") + tag(9, 40, b"v")

    assert parts(0, body) == ([(9, 40, b"v")], {"aggregate.bad_type": 3, "msg.empty": 1})


def test_the_reader_returns_the_parts_in_their_place() -> None:
    body = tag(9, 0, b"v") + tag(8, 10, b"a")
    wire = frame(6, 100, 9, 1, b"x") + frame(6, 140, 22, 1, body) + frame(6, 180, 9, 1, b"y")

    found = ChunkReader(AFTER_AUTH).receive(wire, 0.0)

    assert [(m.timestamp, m.payload) for m in found] == [(100, b"x"), (140, b"v"), (150, b"a"), (180, b"y")]


@pytest.mark.parametrize("dust", [tag(8, 0, b""), tag(20, 0, b"x")], ids=["empty", "not-allowed"])
def test_tags_that_give_no_message_are_work_all_the_same(dust: bytes) -> None:
    reader = ChunkReader(AFTER_AUTH)
    flood = frame(6, 0, AGGREGATE, 1, dust * 4000, 128 * 1024)
    reader.receive(frame(2, 0, SET_CHUNK_SIZE, 0, (128 * 1024).to_bytes(4, "big"), 128), 0.0)
    for _ in range(24):
        reader.receive(flood, 0.5)

    with pytest.raises(RemoteProtocolError) as caught:
        reader.receive(flood, 0.5)

    assert caught.value.code == "chunk.work"
