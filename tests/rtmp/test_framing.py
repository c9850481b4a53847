"""Messages become chunks that any reader understands."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.rtmp.chunks import ChunkReader
from relay.rtmp.errors import LocalProtocolError
from relay.rtmp.framing import basic_header, frame, media_frame
from relay.rtmp.limits import AFTER_AUTH
from tests.rtmp.reference_chunks import decode


def test_the_known_answer_with_an_extended_timestamp() -> None:
    body = bytes(range(200))

    wire = frame(4, 0x01000000, 8, 1, body, 128)

    head = bytes.fromhex("04 FFFFFF 0000C8 08 01000000 01000000")
    assert wire == head + body[:128] + bytes.fromhex("C4 01000000") + body[128:]


@pytest.mark.parametrize(
    ("csid", "wire"),
    [(2, "02"), (63, "3f"), (64, "0000"), (319, "00ff"), (320, "010001"), (65599, "01ffff")],
)
def test_the_basic_header_is_the_shortest(csid: int, wire: str) -> None:
    assert basic_header(0, csid).hex() == wire
    assert basic_header(3, csid).hex() == f"{int(wire[:2], 16) | 0xC0:02x}{wire[2:]}"


@pytest.mark.parametrize("csid", [-1, 0, 1, 65600])
def test_there_is_no_such_chunk_stream(csid: int) -> None:
    with pytest.raises(LocalProtocolError):
        basic_header(0, csid)


def test_a_message_longer_than_24_bits_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        frame(6, 0, 9, 1, bytes(1 << 24))


@pytest.mark.parametrize(("type_id", "csid"), [(8, 4), (9, 6), (18, 7)])
@pytest.mark.parametrize("timestamp", [0, 0xFFFFFE, 0xFFFFFF, 0x01000000, 2**32 - 1, 2**32 + 5])
@pytest.mark.parametrize("length", [0, 1, 65535, 65536, 65537])
def test_the_fan_out_form_equals_the_general_form(type_id: int, csid: int, timestamp: int, length: int) -> None:
    body = bytes(length)

    assert media_frame(type_id, timestamp, body) == frame(csid, timestamp % 2**32, type_id, 1, body, 65536)


def test_the_fan_out_form_takes_another_chunk_size_and_message_stream() -> None:
    body = bytes(300)

    assert media_frame(9, 7, body, 128, 5) == frame(6, 7, 9, 5, body, 128)
    assert media_frame(9, 7, body, 128) == frame(6, 7, 9, 1, body, 128)


@settings(max_examples=150, deadline=None)
@given(
    csid=st.sampled_from([2, 6, 63, 64, 319, 320, 65599]),
    timestamps=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4),
    msid=st.integers(0, 2**32 - 1),
    body=st.binary(min_size=1, max_size=700),
    chunk_size=st.sampled_from([1, 2, 127, 128, 129, 4096]),
)
def test_what_is_framed_is_read(csid: int, timestamps: list[int], msid: int, body: bytes, chunk_size: int) -> None:
    wire = b"".join(frame(csid, timestamp, 9, msid, body, chunk_size) for timestamp in timestamps)
    expected = [(9, timestamp, msid, csid, body) for timestamp in timestamps]
    reader = ChunkReader(AFTER_AUTH)
    reader.chunk_size = chunk_size

    found = [(m.type_id, m.timestamp, m.stream_id, m.csid, m.payload) for m in reader.receive(wire, 0.0)]

    assert found == expected
    assert decode(wire, AFTER_AUTH, chunk_size).messages == expected
