"""The chunk reader: what encoders do, what attackers do, and every limit at its edge."""

from __future__ import annotations

import sys
import time
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from relay.rtmp.aggregate import AGGREGATE, MAX_TAGS, unpack
from relay.rtmp.chunks import ChunkReader
from relay.rtmp.errors import RemoteProtocolError
from relay.rtmp.events import Message
from relay.rtmp.framing import basic_header, frame
from relay.rtmp.limits import AFTER_AUTH, BEFORE_AUTH, MAX_CHUNK_SIZE, WireLimits
from tests.rtmp.reference_chunks import Plain, decode

CORPUS = Path(__file__).parents[1] / "corpus"
CAPTURES = ["cap_h264aac", "cap_hevcopus", "cap_128", "cap_extts"]
ABSOLUTE = 0x01000000
"""A time that needs the extended field."""


def reader(chunk_size: int = 128, limits: WireLimits = AFTER_AUTH) -> ChunkReader:
    made = ChunkReader(limits)
    made.chunk_size = chunk_size
    return made


def plain(messages: list[Message]) -> list[Plain]:
    return [(m.type_id, m.timestamp, m.stream_id, m.csid, m.payload) for m in messages]


def code_of(wire: bytes, *, limits: WireLimits = AFTER_AUTH, chunk_size: int = 128) -> str:
    """Return the code of the error, which must not depend on the split; empty when there is none."""
    codes = set()
    for size in (len(wire), 1, 7):
        target, code = reader(chunk_size, limits), ""
        try:
            for at in range(0, len(wire), size):
                target.receive(wire[at : at + size], 0.0)
        except RemoteProtocolError as error:
            code = error.code
        codes.add(code)
    (code,) = codes
    return code


def header(fmt: int, csid: int, time: int, length: int = 0, type_id: int = 9, msid: int = 1) -> bytes:
    """A message header of any format; *time* is the absolute time or the delta."""
    fields = min(time, 0xFFFFFF).to_bytes(3, "big")
    if fmt < 2:
        fields += length.to_bytes(3, "big") + bytes((type_id,))
    if fmt < 1:
        fields += msid.to_bytes(4, "little")
    return basic_header(fmt, csid) + fields + (time.to_bytes(4, "big") if time >= 0xFFFFFF else b"")


def set_chunk_size(size: int) -> bytes:
    return frame(2, 0, 1, 0, size.to_bytes(4, "big"))


def abort(csid: int) -> bytes:
    return frame(2, 0, 2, 0, csid.to_bytes(4, "big"))


AGAIN = basic_header(3, 6)
"""A continuation, or one more message, on chunk stream 6."""


@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.parametrize("size", [1, 7, 1000, 10**9])
def test_recordings_of_clients_equal_the_reference(name: str, size: int) -> None:
    wire = (CORPUS / f"{name}.c2s.bin").read_bytes()[3073:]
    target = ChunkReader(AFTER_AUTH)

    found = [m for at in range(0, len(wire), size) for m in plain(target.receive(wire[at : at + size], 0.0))]

    assert found == decode(wire, AFTER_AUTH).messages
    assert len(found) >= 20
    assert target.bytes_received == len(wire)
    assert target.partial_bytes == 0
    assert not target.odd


def test_a_tail_is_kept_for_later() -> None:
    wire = frame(6, 5, 9, 1, bytes(300), 128)
    target = reader()

    (first,) = target.receive(wire + wire[:200], 0.0)
    assert first.payload == bytes(300)
    assert 180 < target.partial_bytes < 200

    (second,) = target.receive(wire[200:], 0.0)
    assert second.payload == bytes(300)
    assert target.partial_bytes == 0


@pytest.mark.parametrize("csid", [2, 3, 63, 64, 319, 320, 65599])
def test_every_form_of_the_basic_header_is_read(csid: int) -> None:
    (message,) = reader().receive(frame(csid, 5, 18, 1, bytes(300), 128), 0.0)

    assert (message.csid, len(message.payload)) == (csid, 300)


def test_the_same_chunk_stream_in_two_forms_is_one() -> None:
    target = reader()
    target.receive(bytes((0, 6)) + header(0, 6, 1000, 2)[1:] + b"ab", 0.0)

    (message,) = target.receive(bytes((0x41, 6, 0)) + header(1, 6, 40, 2)[1:] + b"cd", 0.0)

    assert (message.csid, message.timestamp) == (70, 1040)


def test_the_chunk_size_changes_inside_a_message() -> None:
    body = bytes(range(256))
    wire = header(0, 6, 0, 256) + body[:128] + set_chunk_size(10)
    wire += b"".join(AGAIN + body[at : at + 10] for at in range(128, 256, 10))

    assert [m.payload for m in reader().receive(wire, 0.0)] == [body]
    assert code_of(wire) == ""


def test_a_control_message_inside_a_message_is_there_as_soon_as_its_bytes_are() -> None:
    target = reader()
    acknowledgement = frame(2, 0, 3, 0, b"\x00\x00\x10\x00")

    (message,) = target.receive(header(0, 6, 0, 1000) + bytes(128) + acknowledgement, 0.0)

    assert message.type_id == 3


@pytest.mark.parametrize("size", [1, 127, 128, 65536, MAX_CHUNK_SIZE])
def test_chunk_sizes_are_obeyed(size: int) -> None:
    target = reader()
    target.receive(set_chunk_size(size), 0.0)

    (message,) = target.receive(frame(6, 0, 9, 1, bytes(500), size), 0.0)

    assert target.chunk_size == size
    assert message.payload == bytes(500)


@pytest.mark.parametrize("size", [MAX_CHUNK_SIZE + 1, 0x7FFFFFFF])
def test_a_huge_chunk_size_is_clamped(size: int) -> None:
    target = reader()

    target.receive(set_chunk_size(size), 0.0)

    assert target.chunk_size == MAX_CHUNK_SIZE


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "ctl.short"),
        (b"\x00\x10\x00", "ctl.short"),
        (bytes(4), "chunk.size_zero"),
        (b"\x80\x00\x10\x00", "chunk.size_reserved_bit"),
        (b"\xff\xff\xff\xff", "chunk.size_reserved_bit"),
        (b"\x00\x00\x10\x00", ""),
        (b"\x00\x00\x10\x00more", ""),
    ],
)
def test_a_wrong_chunk_size_is_refused(body: bytes, code: str) -> None:
    assert code_of(frame(2, 0, 1, 0, body)) == code


def test_abort_drops_the_unfinished_message_of_its_chunk_stream_only() -> None:
    wire = header(0, 6, 40, 300) + bytes(128) + header(0, 4, 50, 300, 8) + b"a" * 128
    wire += abort(6) + basic_header(3, 4) + b"a" * 128 + basic_header(3, 4) + b"a" * 44
    wire += header(1, 6, 10, 3) + b"new"
    target = reader()

    assert [(m.type_id, m.payload) for m in target.receive(wire, 0.0)] == [(8, b"a" * 300), (9, b"new")]
    assert target.partial_bytes == 0


@pytest.mark.parametrize("body", [b"", b"\x00\x00\x00", (5).to_bytes(4, "big"), b"\xff\xff\xff\xff"])
def test_an_abort_that_means_nothing_is_ignored(body: bytes) -> None:
    wire = header(0, 6, 40, 200) + bytes(128) + frame(2, 0, 2, 0, body) + AGAIN + bytes(72)

    assert [m.payload for m in reader().receive(wire, 0.0)] == [bytes(200)]


# -- message headers


def test_deltas_add_up_modulo_32_bits() -> None:
    wire = header(0, 6, 2**32 - 20, 1) + b"a" + header(1, 6, 50, 1) + b"b" + header(2, 6, 2**32 - 10) + b"c" + AGAIN
    wire += (2**32 - 10).to_bytes(4, "big") + b"d"

    assert [m.timestamp for m in reader().receive(wire, 0.0)] == [2**32 - 20, 30, 20, 10]
    assert code_of(wire) == ""


@pytest.mark.parametrize(
    ("first", "second"),
    [(0, 0), (26, 52), (1000, 2000), (1001, 1001), (5_000_000, 5_000_000)],
)
@pytest.mark.parametrize("warm", [False, True])
def test_fmt_3_after_fmt_0_repeats_a_small_time_and_stands_still_after_a_large_one(
    first: int, second: int, warm: bool
) -> None:
    target = reader()
    if warm:
        target.receive(header(0, 6, 7, 1) + b"x" + header(1, 6, 3, 1) + b"x", 0.0)

    found = target.receive(header(0, 6, first, 200) + bytes(128) + AGAIN + bytes(72), 0.0)
    found += target.receive(AGAIN + bytes(128) + AGAIN + bytes(72), 0.0)

    assert [m.timestamp for m in found] == [first, second]


def test_fmt_3_repeats_the_last_delta() -> None:
    wire = header(0, 6, 5000, 1) + b"a" + header(1, 6, 40, 1) + b"b" + AGAIN + b"c" + AGAIN + b"d"

    assert [m.timestamp for m in reader().receive(wire, 0.0)] == [5000, 5040, 5080, 5120]


def test_the_message_stream_is_little_endian_and_kept_by_short_headers() -> None:
    wire = header(0, 6, 0, 1, msid=0x01020304) + b"a" + header(1, 6, 1, 1) + b"b" + header(0, 6, 2, 1, msid=7) + b"c"

    assert [m.stream_id for m in reader().receive(wire, 0.0)] == [0x01020304, 0x01020304, 7]


def test_fmt_1_may_come_first() -> None:
    target = reader()

    (message,) = target.receive(header(1, 3, 25, 6, 4) + bytes(6), 0.0)

    assert (message.timestamp, message.stream_id) == (25, 0)
    assert target.odd["chunk.no_previous"] == 1


def test_fmt_2_and_3_first_borrow_the_last_message_header() -> None:
    target = reader()
    target.receive(header(0, 6, 5000, 3, 9, 1) + b"abc" + header(1, 6, 40, 3) + b"abc", 0.0)

    wire = header(2, 33, 10) + b"def" + basic_header(3, 34) + b"ghi"

    assert plain(target.receive(wire, 0.0)) == [(9, 5050, 1, 33, b"def"), (9, 5060, 1, 34, b"ghi")]


@pytest.mark.parametrize("fmt", [2, 3])
def test_fmt_2_and_3_first_with_nothing_to_borrow_are_refused(fmt: int) -> None:
    assert code_of(basic_header(fmt, 6) + bytes(20)) == "chunk.no_previous"


@pytest.mark.parametrize("fmt", [0, 1, 2])
@pytest.mark.parametrize("time", [0, 40, ABSOLUTE])
def test_a_header_repeated_inside_its_message_continues_it(fmt: int, time: int) -> None:
    wire = header(0, 6, 40, 300) + b"a" * 128
    wire += (header(fmt, 6, time, 300) + b"b" * 128) + (header(fmt, 6, time, 300) + b"c" * 44)
    target = reader()

    (message,) = target.receive(wire, 0.0)

    assert message.timestamp == 40
    assert message.payload == b"a" * 128 + b"b" * 128 + b"c" * 44
    assert target.odd["chunk.repeated_header"] == 2


@pytest.mark.parametrize(("fmt", "length"), list(product([0, 1], [0, 299, 301])))
def test_another_length_inside_a_message_is_refused(fmt: int, length: int) -> None:
    assert code_of(header(0, 6, 40, 300) + bytes(128) + header(fmt, 6, 40, length)) == "chunk.len_changed"


@pytest.mark.parametrize("fmt", [0, 1])
def test_another_type_inside_a_message_is_refused(fmt: int) -> None:
    assert code_of(header(0, 6, 40, 300) + bytes(128) + header(fmt, 6, 40, 300, 20)) == "chunk.type_changed"


# -- extended timestamps


def _extended(fmt: int, time: int, again: bytes, body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return header(fmt, 6, time, len(body)) + (AGAIN + again).join(pieces)


@pytest.mark.parametrize("again", [b"", ABSOLUTE.to_bytes(4, "big")])
@pytest.mark.parametrize("size", [3, 128, 250])
@pytest.mark.parametrize("split", [1, 5, 10**6])
def test_an_extended_time_may_be_repeated_or_not(again: bytes, size: int, split: int) -> None:
    body = bytes(range(2, 255)) * 2
    wire = _extended(0, ABSOLUTE, again, body, size) * 2
    target = reader(size)

    found = [m for at in range(0, len(wire), split) for m in target.receive(wire[at : at + split], 0.0)]

    assert [(m.timestamp, m.payload) for m in found] == [(ABSOLUTE, body)] * 2


@pytest.mark.parametrize("again", [0, ABSOLUTE + 1, 2 * ABSOLUTE + 1])
def test_after_an_extended_delta_the_delta_or_the_absolute_time_is_repeated(again: int) -> None:
    body = b"x" * 300
    wire = header(0, 6, ABSOLUTE, 1) + b"a"
    wire += _extended(1, ABSOLUTE + 1, again.to_bytes(4, "big") if again else b"", body, 128)

    found = reader().receive(wire, 0.0)

    assert [(m.timestamp, m.payload) for m in found] == [(ABSOLUTE, b"a"), (2 * ABSOLUTE + 1, body)]


def test_a_small_time_in_the_extended_field_is_fine() -> None:
    wire = header(0, 6, 0xFFFFFF, 1)[:-4] + (40).to_bytes(4, "big") + b"a"

    assert [m.timestamp for m in reader().receive(wire, 0.0)] == [40]


@pytest.mark.parametrize("fmt", [0, 1])
def test_a_header_without_extended_time_ends_it(fmt: int) -> None:
    target = reader()
    target.receive(header(0, 6, ABSOLUTE, 1) + b"a", 0.0)
    body = (40).to_bytes(4, "big") * 50

    found = target.receive(_extended(fmt, 40, b"", body, 128), 0.0)

    assert [(m.timestamp, m.payload) for m in found] == [(40 if fmt == 0 else ABSOLUTE + 40, body)]


def test_a_repeated_header_without_extended_time_ends_it_too() -> None:
    body = ABSOLUTE.to_bytes(4, "big") * 75
    wire = header(0, 6, ABSOLUTE, 300) + body[:128] + header(1, 6, 40, 300) + body[128:256] + AGAIN + body[256:]

    assert [(m.timestamp, m.payload) for m in reader().receive(wire, 0.0)] == [(ABSOLUTE, body)]


# -- limits


@pytest.mark.parametrize(
    ("type_id", "limit"),
    [
        (1, AFTER_AUTH.control),
        (3, AFTER_AUTH.control),
        (6, AFTER_AUTH.control),
        (8, AFTER_AUTH.audio),
        (9, AFTER_AUTH.video),
        (22, AFTER_AUTH.video),
        (18, AFTER_AUTH.command),
        (20, AFTER_AUTH.command),
        (99, AFTER_AUTH.command),
    ],
)
@pytest.mark.parametrize("fmt", [0, 1])
def test_a_message_too_long_for_its_type_is_refused_on_its_header(type_id: int, limit: int, fmt: int) -> None:
    start = header(0, 6, 0, 1) + b"a"

    for length in (limit - 1, limit):
        assert code_of(start + header(fmt, 6, 0, length, type_id)) == ""
    assert code_of(start + header(fmt, 6, 0, limit + 1, type_id)) == "msg.too_long"


def test_nothing_is_allocated_ahead_of_the_bytes() -> None:
    target = reader(MAX_CHUNK_SIZE)

    target.receive(header(0, 6, 0, AFTER_AUTH.video) + bytes(10), 0.0)

    assert target.partial_bytes == 10
    assert sum(sys.getsizeof(stream.body) for stream in target._partials.values()) < 1000


@pytest.mark.parametrize("limits", [BEFORE_AUTH, AFTER_AUTH])
def test_chunk_streams_are_counted(limits: WireLimits) -> None:
    allowed = b"".join(header(0, csid, 0, 1) + b"a" for csid in range(3, 3 + limits.chunk_streams))

    assert code_of(allowed * 2, limits=limits) == ""
    assert code_of(allowed + header(0, 64, 0, 1), limits=limits) == "chunk.streams"


@pytest.mark.parametrize(("other", "code"), [(699, ""), (700, ""), (701, "chunk.partial")])
@pytest.mark.parametrize("inside", [b"", bytes(128)])
def test_unfinished_messages_are_bounded_together(other: int, code: str, inside: bytes) -> None:
    limits = WireLimits(video=1000, audio=1000, command=1000, chunk_streams=8, partial=1000)
    start = header(0, 4, 0, 1) + b"a" + header(0, 6, 0, 300) + bytes(128)

    assert code_of(start + header(0, 4, 0, other) + inside, limits=limits) == code


def test_one_message_alone_is_bounded_by_the_sum_too() -> None:
    limits = WireLimits(video=5000, audio=1000, command=1000, chunk_streams=8, partial=1000)

    for start in (b"", header(0, 6, 0, 1) + b"a"):
        assert code_of(start + frame(6, 0, 9, 1, bytes(1000), 128), limits=limits) == ""
        assert code_of(start + frame(6, 0, 9, 1, bytes(1001), 128), limits=limits) == "chunk.partial"


def test_finished_and_aborted_messages_free_their_room() -> None:
    limits = WireLimits(video=1000, audio=1000, command=1000, chunk_streams=8, partial=1000)
    aborted = header(0, 6, 0, 900) + bytes(128) + abort(6)

    assert code_of((aborted + frame(4, 0, 8, 1, bytes(900), 128)) * 3, limits=limits) == ""


def test_control_messages_pass_while_the_room_is_used_up() -> None:
    limits = WireLimits(video=1000, audio=1000, command=1000, chunk_streams=8, partial=1000)

    assert code_of(header(0, 6, 0, 1000) + bytes(128) + abort(6), limits=limits) == ""


def test_an_unfinished_message_grows_old() -> None:
    start = header(0, 6, 0, 1000) + bytes(128)
    target = reader()
    target.receive(start, 0.0)
    target.receive(b"", AFTER_AUTH.partial_age_s)

    with pytest.raises(RemoteProtocolError) as caught:
        target.receive(b"", AFTER_AUTH.partial_age_s + 1.5)

    assert caught.value.code == "chunk.partial_age"


def test_a_late_end_of_a_message_is_still_its_end() -> None:
    wire = frame(6, 0, 9, 1, bytes(300), 128)
    target = reader()
    target.receive(wire[:200], 0.0)

    assert len(target.receive(wire[200:], 100.0)) == 1


@pytest.mark.parametrize("split", [1, 64, 10**6])
def test_chunks_are_counted_within_one_second(split: int) -> None:
    limits = WireLimits(video=1000, audio=1000, command=1000, chunk_streams=8, partial=1000, chunks_per_second=100)
    wire = frame(6, 0, 9, 1, bytes(100), 1)  # a hundred chunks
    target = reader(1, limits)

    def send(now: float) -> None:
        for at in range(0, len(wire), split):
            target.receive(wire[at : at + split], now)

    send(0.0)
    send(1.0)
    with pytest.raises(RemoteProtocolError) as caught:
        target.receive(header(0, 6, 0, 1), 1.99)
    assert caught.value.code == "chunk.work"


def test_messages_of_unknown_type_are_dropped_until_there_are_too_many() -> None:
    wire = b"".join(frame(3, 0, 32, 0, b"goaway") for _ in range(AFTER_AUTH.unknown_per_second))
    target = reader()

    assert target.receive(wire, 0.0) == []
    assert target.receive(wire, 1.0) == []
    assert target.odd["msg.unknown"] == 2 * AFTER_AUTH.unknown_per_second
    with pytest.raises(RemoteProtocolError) as caught:
        target.receive(frame(3, 0, 255, 0, b"x"), 1.5)
    assert caught.value.code == "msg.unknown_flood"


@pytest.mark.parametrize("type_id", [0, 7, 10, 11, 12, 13, 14, 21, *range(23, 256)])
def test_types_that_do_not_exist_are_unknown(type_id: int) -> None:
    target = reader()

    assert target.receive(frame(3, 0, type_id, 0, b"x"), 0.0) == []
    assert target.odd["msg.unknown"] == 1


@pytest.mark.parametrize("type_id", [3, 4, 5, 6, 8, 9, 15, 16, 17, 18, 19, 20])
def test_types_that_exist_are_returned(type_id: int) -> None:
    assert plain(reader().receive(frame(3, 9, type_id, 1, b"body"), 0.0)) == [(type_id, 9, 1, 3, b"body")]


def test_empty_messages_of_every_type_are_counted_and_dropped() -> None:
    target = reader()
    wire = b"".join(frame(3, 0, type_id, 1, b"") for type_id in range(256) if type_id != 1)

    assert target.receive(wire, 0.0) == []
    assert target.odd["msg.empty"] == 255


@pytest.mark.parametrize(
    ("csid", "type_id", "msid", "odd"),
    [(2, 4, 0, 0), (4, 4, 0, 1), (2, 4, 1, 1), (2, 9, 1, 1), (2, 8, 1, 1), (6, 9, 1, 0), (3, 20, 0, 0)],
)
def test_messages_on_odd_chunk_streams_are_accepted_and_counted(csid: int, type_id: int, msid: int, odd: int) -> None:
    target = reader()
    wire = frame(csid, 0, type_id, msid, b"123456")

    assert len(target.receive(wire + wire, 0.0)) == 2
    assert target.odd["chunk.odd_csid"] == 2 * odd


def test_other_limits_take_effect_at_once() -> None:
    target = reader(MAX_CHUNK_SIZE, BEFORE_AUTH)
    target.limits = AFTER_AUTH

    (message,) = target.receive(frame(6, 0, 9, 1, bytes(100_000), MAX_CHUNK_SIZE), 0.0)

    assert target.limits is AFTER_AUTH
    assert len(message.payload) == 100_000


@pytest.mark.parametrize("length", [100, 1000])
@pytest.mark.parametrize("cut", [0, 50])
def test_the_reader_does_not_keep_what_it_has_returned(length: int, cut: int) -> None:
    wire = frame(6, 0, 9, 1, bytes(length), 128)
    target = reader()

    messages = target.receive(wire, 0.0) + target.receive(wire[:cut], 0.0) + target.receive(wire[cut:], 0.0)

    counts = [sys.getrefcount(message.payload) for message in messages]
    del target
    assert counts == [sys.getrefcount(message.payload) for message in messages]
    assert len(counts) == 2


@pytest.mark.parametrize("chunk_size", [128, 65536, MAX_CHUNK_SIZE])
@pytest.mark.parametrize("piece", [1024, 100_000])
def test_a_large_message_in_many_pieces_arrives_once(chunk_size: int, piece: int) -> None:
    body = bytes(range(256)) * 4096
    wire = frame(6, 0, 9, 1, body, chunk_size)
    target = reader(chunk_size)

    found = [m for at in range(0, len(wire), piece) for m in target.receive(wire[at : at + piece], 0.0)]

    assert [m.payload for m in found] == [body]


@pytest.mark.parametrize(("tags", "fits"), [(MAX_TAGS - 1, True), (MAX_TAGS, True), (MAX_TAGS + 1, False)])
def test_an_aggregate_holds_so_many_messages_and_no_more(tags: int, fits: bool) -> None:
    empty = bytes((8,)) + bytes(10) + bytes(4)
    aggregate = Message(AGGREGATE, 0, 1, 6, empty * tags)

    if fits:
        assert unpack(aggregate, Counter()) == ([], tags)
    else:
        with pytest.raises(RemoteProtocolError, match=r"msg\.aggregate"):
            unpack(aggregate, Counter())


def test_tiny_chunks_of_two_long_messages_cost_no_more_than_those_of_short_ones() -> None:
    """Looking at all that might follow, for each chunk anew, once made 64 KiB of this 1.6 s of work."""

    def cost(length: int) -> float:
        opening = b"".join(
            bytes((csid,)) + bytes(3) + length.to_bytes(3, "big") + b"\x08" + b"\x01\0\0\0" + b"x" for csid in (4, 5)
        )
        wire = (opening + b"\xc4x\xc5x" * (length - 1)) * (20_000 // length)
        took = []
        for _ in range(3):
            tiny = reader(chunk_size=1)
            began = time.process_time()
            for start in range(0, len(wire), 65_536):
                tiny.receive(wire[start : start + 65_536], 1.0)
            took.append(time.process_time() - began)
        return min(took)

    assert cost(20_000) < 8 * cost(20)
