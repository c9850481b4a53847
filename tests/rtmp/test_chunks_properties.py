"""The chunk reader against the slow reference: any chunks, any splits, any damage."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.rtmp.chunks import ChunkReader
from relay.rtmp.errors import RemoteProtocolError
from relay.rtmp.limits import WireLimits
from tests.rtmp.reference_chunks import Outgoing, Plain, Writer, decode

LIMITS = WireLimits(video=4000, audio=1500, command=2500, chunk_streams=8, partial=1700)
HEADERS = 18
"""The longest chunk header."""

CSIDS = st.sampled_from([2, 3, 4, 6, 63, 64, 319, 320, 65599])
TYPES = st.sampled_from([3, 4, 8, 9, 9, 9, 15, 17, 18, 20, 22, 32, 8, 0])
TIMES = st.one_of(
    st.integers(0, 100),
    st.sampled_from([999, 1000, 1001, 0xFFFFFE, 0xFFFFFF, 0x1000000, 0x1000001, 2**31 - 1, 2**31, 2**32 - 1]),
    st.integers(0, 2**32 - 1),
)


@st.composite
def recordings(draw: st.DrawFn) -> bytes:
    """Chunks of valid messages, interleaved, with changes of the chunk size in between."""
    writer = Writer(extended=draw(st.sampled_from(["field", "field", "absolute", "nothing"])))
    open_messages: list[Outgoing] = []
    wire = bytearray()
    for _ in range(draw(st.integers(1, 14))):
        step = draw(
            st.sampled_from(
                ["start", "start", "start", "again", "again", "go on", "go on", "finish", "chunk size", "abort"]
            )
        )
        if step in ("start", "again"):
            message = draw(messages())
            if step == "again" and writer.previous:  # so that fmt 2 and 3 are possible
                before = draw(st.sampled_from(list(writer.previous.values())))
                delta = draw(st.sampled_from([writer.deltas[before.csid], 0, 40, 0xFFFFFF, 2**32 - 40]))
                message = replace(before, timestamp=(before.timestamp + delta) % 2**32, fmt=message.fmt, sent=0)
            if all(other.csid != message.csid for other in open_messages):
                open_messages.append(message)
                wire += writer.chunk(message)
        elif step == "chunk size":
            size = draw(st.sampled_from([1, 2, 3, 5, 64, 127, 128, 129, 1000, 4096, 65536, 2**31 - 1]))
            control = Outgoing(2, 1, 0, 0, size.to_bytes(4, "big"))
            while control.sent < 4 and all(other.csid != 2 for other in open_messages):
                wire += writer.chunk(control)
                if control.sent == 4:
                    writer.chunk_size = size
        elif step == "abort" and open_messages and all(other.csid != 2 for other in open_messages):
            victim = open_messages.pop(draw(st.integers(0, len(open_messages) - 1)))
            abort = Outgoing(2, 2, 0, 0, victim.csid.to_bytes(4, "big"))
            while abort.sent < 4:
                wire += writer.chunk(abort)
        elif open_messages:
            message = draw(st.sampled_from(open_messages))
            while message.sent < len(message.body):
                wire += writer.chunk(message)
                if step == "go on":
                    break
        open_messages = [message for message in open_messages if message.sent < len(message.body)]
    return bytes(wire)


@st.composite
def messages(draw: st.DrawFn) -> Outgoing:
    type_id = draw(TYPES)
    near = draw(st.sampled_from([0, 1, 4, 127, 128, 129, 256, 300, 640, 1000]))
    length = min(near, 64) if type_id < 8 else near
    fill = draw(st.sampled_from([b"\x00", b"\xc4", b"\xc6\x01\x00\x00\x00", b"\xff", bytes(range(256))]))
    body = draw(aggregates()) if type_id == 22 else (fill * (length // len(fill) + 1))[:length]
    return Outgoing(
        csid=draw(CSIDS),
        type_id=type_id,
        timestamp=draw(TIMES),
        msid=draw(st.sampled_from([0, 1, 1, 2**32 - 1])),
        body=body,
        fmt=draw(st.integers(0, 3)),
        repeat_header=draw(st.integers(0, 5)) == 0,
    )


@st.composite
def aggregates(draw: st.DrawFn) -> bytes:
    """The body of an aggregate: FLV tags, the last one perhaps cut off."""
    body = bytearray()
    for _ in range(draw(st.integers(0, 4))):
        payload = bytes(draw(st.sampled_from([0, 1, 5, 300])))
        time = draw(TIMES)
        body.append(draw(st.sampled_from([8, 9, 15, 18, 18, 1, 22])))
        body += len(payload).to_bytes(3, "big") + (time & 0xFFFFFF).to_bytes(3, "big") + bytes((time >> 24, 0, 0, 0))
        body += payload + (11 + len(payload)).to_bytes(4, "big")
    return bytes(body[: len(body) - draw(st.sampled_from([0, 0, 1, 4, 5, 16]))])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A recording with a few bytes changed, removed or put in."""
    wire = bytearray(draw(recordings()))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(wire)))
        match draw(st.sampled_from(["change", "remove", "insert", "cut"])):
            case "change":
                wire[at : at + 1] = bytes((draw(st.integers(0, 255)),))
            case "remove":
                del wire[at : at + draw(st.integers(1, 20))]
            case "insert":
                wire[at:at] = draw(st.binary(min_size=1, max_size=20))
            case _:
                del wire[at:]
    return bytes(wire)


def read(pieces: list[bytes], limits: WireLimits = LIMITS) -> tuple[list[Plain], list[int], str, ChunkReader]:
    """Feed *pieces*; return the messages, the offset at which each came out, and the code of the error."""
    reader = ChunkReader(limits)
    found: list[Plain] = []
    offsets: list[int] = []
    held = 0
    for piece in pieces:
        try:
            new = reader.receive(piece, 1.0)
        except RemoteProtocolError as error:
            return found, offsets, error.code, reader
        found += [(m.type_id, m.timestamp, m.stream_id, m.csid, m.payload) for m in new]
        offsets += [reader.bytes_received] * len(new)
        held = max(held, reader.partial_bytes)
    assert held <= limits.partial + HEADERS
    return found, offsets, "", reader


@settings(max_examples=150, deadline=None)
@given(wire=st.one_of(recordings(), damaged()))
def test_byte_by_byte_equals_the_reference_and_every_message_comes_as_early_as_possible(wire: bytes) -> None:
    expected = decode(wire, LIMITS)

    found, offsets, error, _ = read([wire[at : at + 1] for at in range(len(wire))])

    assert found == expected.messages
    assert offsets == expected.offsets
    assert error == expected.error


@settings(max_examples=250, deadline=None)
@given(wire=st.one_of(recordings(), damaged()), cuts=st.lists(st.integers(0, 4000), max_size=6))
def test_the_result_does_not_depend_on_the_split(wire: bytes, cuts: list[int]) -> None:
    expected = decode(wire, LIMITS)
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]

    found, _, error, reader = read([wire[a:b] for a, b in pairwise(edges)])

    assert error == expected.error
    if error:  # the messages of the failing call are lost with it
        assert found == expected.messages[: len(found)]
    else:
        assert found == expected.messages
        assert reader._work == expected.work


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=600), cuts=st.lists(st.integers(0, 600), max_size=4))
def test_noise_gives_messages_or_a_protocol_error(data: bytes, cuts: list[int]) -> None:
    expected = decode(data, LIMITS)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]

    _, _, error, _ = read([data[a:b] for a, b in pairwise(edges)])

    assert error == expected.error
