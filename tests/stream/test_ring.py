"""The ring that players share."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from relay.stream.ring import Cursor, Ring
from tests.helpers.memory import held_by, peak, traced


def read(ring: Ring, cursor: Cursor, nbytes: int | None = None) -> bytes:
    """Send what the ring gives, at most *nbytes* of it, as a kernel would take it."""
    joined = b"".join(ring.pieces(cursor))
    taken = joined if nbytes is None else joined[:nbytes]
    ring.advance(cursor, len(taken))
    return taken


def ring_of(*times: int, keys: tuple[int, ...] = (0,), size: int = 10, **limits: int) -> Ring:
    """Make a ring with a block at each time; those at *keys* begin with a keyframe."""
    ring = Ring(**limits)
    for time in times:
        ring.append(b"%-*d" % (size, time), time_ms=time, key_offset=0 if time in keys else -1)
    return ring


def held(ring: Ring) -> list[int]:
    return [block.time for block in ring.blocks]


def test_blocks_are_kept_back_to_the_newest_keyframe() -> None:
    ring = ring_of(*range(0, 9000, 1000), keys=(0, 4000))

    assert held(ring) == list(range(4000, 9000, 1000))


def test_at_least_two_seconds_are_kept_when_keyframes_come_often() -> None:
    times = range(0, 5001, 500)

    ring = ring_of(*times, keys=tuple(times))

    assert held(ring) == [3000, 3500, 4000, 4500, 5000]


def test_exactly_the_bounds_are_kept() -> None:
    assert held(ring_of(0, 1, 2, size=10, max_bytes=30)) == [0, 1, 2]
    assert held(ring_of(0, 1, 2, 3, size=10, max_bytes=30)) == [1, 2, 3]
    assert held(ring_of(0, 5000, max_ms=5000)) == [0, 5000]
    assert held(ring_of(0, 5001, max_ms=5000)) == [5001]


def test_a_gop_beyond_the_bounds_leaves_no_place_to_start() -> None:
    ring = ring_of(0, 1, 2, 3, size=10, max_bytes=30)

    assert ring.start().waiting


def test_a_joining_player_starts_at_the_newest_keyframe_with_the_opening() -> None:
    ring = Ring()
    ring.opening = b"<open>"
    ring.append(b"KEY1", time_ms=0, key_offset=0)
    ring.append(b"tailKEY2", time_ms=40, key_offset=4)
    ring.append(b"more", time_ms=80)

    assert read(ring, ring.start()) == b"<open>KEY2more"


def test_a_joining_player_without_a_keyframe_waits_for_one() -> None:
    ring = Ring()
    ring.opening = b"<open>"
    ring.append(b"delta", time_ms=0)
    cursor = ring.start()

    assert read(ring, cursor) == b""
    ring.append(b"tailKEY", time_ms=40, key_offset=4)
    assert read(ring, cursor) == b"<open>KEY"
    assert read(ring, cursor) == b""


def test_a_player_of_an_audio_only_stream_may_start_a_second_back() -> None:
    ring = ring_of(*range(0, 3001, 100), keys=tuple(range(0, 3001, 100)))

    assert ring.behind_ms(ring.start()) == 0
    assert ring.behind_ms(ring.start(back_ms=1000)) == 1000
    assert ring.behind_ms(ring.start(back_ms=99_000)) == 2000


def test_pieces_are_the_stored_objects_and_not_copies() -> None:
    ring = Ring()
    first = ring.append(b"KEY", time_ms=0, key_offset=0)
    second = ring.append(b"delta", time_ms=40)
    cursor = ring.start()

    pieces = ring.pieces(cursor)

    assert pieces[0] is first.data
    assert pieces[1] is second.data


def test_reading_a_large_ring_allocates_no_media() -> None:
    ring = Ring()
    for index in range(10):
        ring.append(bytes(1_000_000), time_ms=index * 40, key_offset=100 if index == 0 else -1)
    cursor = ring.start()
    with traced():
        while pieces := ring.pieces(cursor):
            ring.advance(cursor, min(700_000, sum(map(len, pieces))))
        most = peak()

    assert most < 100_000


def test_five_hundred_stuck_players_share_what_they_hold() -> None:
    ring = Ring(max_bytes=1_000_000)
    cursors = []
    with traced():
        for index in range(500):
            ring.append(bytes(100_000), time_ms=index * 40, key_offset=0)
            if index < 5:
                cursors += [ring.start() for _ in range(100)]
                for cursor in cursors[-100:]:
                    ring.pieces(cursor)
                    ring.advance(cursor, 50_000)
        held_bytes = held_by(__file__, inspect.getfile(Ring))

    assert len(cursors) == 500
    assert 1_000_000 < held_bytes < 1_000_000 + 5 * 100_000 + 500 * 300


def test_pieces_respect_the_byte_and_piece_limits_but_give_at_least_one() -> None:
    ring = ring_of(*range(0, 100, 10), size=10)

    assert len(ring.pieces(ring.start(), 1)) == 1
    assert len(ring.pieces(ring.start(), 29)) == 2
    assert len(ring.pieces(ring.start(), 30)) == 3
    assert len(ring.pieces(ring.start(), 1000, 4)) == 4


def test_a_send_cut_anywhere_is_continued_at_that_byte() -> None:
    ring = Ring()
    ring.opening = b"<open>"
    ring.append(b"preKEY", time_ms=0, key_offset=3)
    ring.append(b"delta", time_ms=40)
    whole = b"<open>KEYdelta"
    for cut in range(len(whole) + 1):
        cursor = ring.start()

        assert read(ring, cursor, cut) + read(ring, cursor) == whole


def test_a_backlog_of_exactly_two_seconds_is_read_on() -> None:
    ring = ring_of(0)
    cursor = ring.start()
    read(ring, cursor)
    for time in (100, 1000, 2100):
        ring.append(b"d%d;" % time, time_ms=time, key_offset=0 if time == 2100 else -1)

    assert ring.behind_ms(cursor) == 2000
    assert read(ring, cursor) == b"d100;d1000;d2100;"
    assert cursor.skips == ring.skips == 0


def test_beyond_two_seconds_the_block_begun_is_finished_and_the_newest_keyframe_follows() -> None:
    ring = ring_of(0)
    ring.append(b"begun", time_ms=40)
    cursor = ring.start()
    read(ring, cursor, 10 + 2)
    for time in (100, 1000):
        ring.append(b"lost", time_ms=time)
    # It joined 40 ms behind on purpose, and is in the block of 40 ms: 2000 + 40 + 40 is still allowed.
    ring.append(b"lostKEY", time_ms=2081, key_offset=4)

    assert read(ring, cursor) == b"gunKEY"
    assert cursor.skips == ring.skips == 1


def test_beyond_two_seconds_without_a_newer_keyframe_the_player_waits_for_the_next() -> None:
    ring = ring_of(0)
    cursor = ring.start()
    read(ring, cursor)
    for time in (100, 1000, 2101):
        ring.append(b"lost", time_ms=time)

    assert read(ring, cursor) == b""
    ring.append(b"KEY", time_ms=2200, key_offset=0)
    assert read(ring, cursor) == b"KEY"


def test_a_block_that_left_the_ring_is_finished_first() -> None:
    ring = ring_of(0, size=10, max_bytes=25)
    cursor = ring.start()
    got = read(ring, cursor, 4)
    for time in (40, 80, 120):
        ring.append(b"%-10d" % time, time_ms=time, key_offset=0 if time == 120 else -1)

    assert held(ring) == [80, 120]
    assert got + read(ring, cursor) == b"%-10d" % 0 + b"%-10d" % 120


def test_a_player_whose_place_left_the_ring_skips_even_within_two_seconds() -> None:
    ring = ring_of(0, size=10, max_bytes=25)
    cursor = ring.start()
    read(ring, cursor)
    for time in (40, 80, 120):
        ring.append(b"%-10d" % time, time_ms=time)

    assert read(ring, cursor) == b""
    assert cursor.skips == 1


def test_a_joining_player_may_be_behind_by_the_whole_gop() -> None:
    ring = ring_of(*range(0, 9001, 1000))
    cursor = ring.start()

    got = b"".join(read(ring, cursor, 10) for _ in range(10))

    assert got == b"".join(block.data for block in ring.blocks)
    assert cursor.skips == 0


def test_the_grace_of_a_joining_player_ends_when_it_has_caught_up() -> None:
    ring = ring_of(*range(0, 9001, 1000))
    cursor = ring.start()
    read(ring, cursor)
    for time in range(10_000, 13_000, 1000):
        ring.append(b"lost", time_ms=time)

    read(ring, cursor, 4)
    ring.append(b"lost", time_ms=13_100)
    ring.append(b"KEY", time_ms=13_200, key_offset=0)

    assert read(ring, cursor) == b"KEY"


def test_a_player_that_did_not_begin_the_newest_gop_yet_still_gets_it() -> None:
    ring = ring_of(0)
    cursor = ring.start()
    for time in (1000, 2000, 3000):
        ring.append(b"more", time_ms=time)

    assert read(ring, cursor) == b"%-10d" % 0 + b"more" * 3
    assert cursor.skips == 0


def test_a_skip_across_a_change_of_configuration_sends_the_new_opening() -> None:
    ring = Ring()
    ring.opening = b"<one>"
    ring.append(b"KEY1", time_ms=0, key_offset=0)
    cursor = ring.start()
    read(ring, cursor, 5 + 2)
    ring.opening = b"<two>"
    ring.append(b"<two>KEY2", time_ms=5000, key_offset=5)

    assert read(ring, cursor) == b"Y1<two>KEY2"


def test_a_player_that_reads_across_a_change_gets_no_second_opening() -> None:
    ring = Ring()
    ring.opening = b"<one>"
    ring.append(b"KEY1", time_ms=0, key_offset=0)
    cursor = ring.start()
    ring.opening = b"<two>"
    ring.append(b"<two>KEY2", time_ms=500, key_offset=5)

    assert read(ring, cursor) == b"<one>KEY1<two>KEY2"
    for time in (600, 3000):
        ring.append(b"KEY%d" % time, time_ms=time, key_offset=0)
    assert read(ring, cursor) == b"KEY3000"


def test_a_player_that_starts_before_a_change_gets_the_opening_of_that_time() -> None:
    ring = Ring()
    ring.opening = b"<one>"
    ring.append(b"KEY1", time_ms=0, key_offset=0)
    ring.opening = b"<two>"
    ring.append(b"<two>", time_ms=40)

    assert read(ring, ring.start()) == b"<one>KEY1<two>"


@dataclass
class Reader:
    """A player and what it received."""

    cursor: Cursor
    got: bytearray = field(default_factory=bytearray)


MESSAGES = st.lists(st.sampled_from("kvva"), min_size=1, max_size=5)
ACTIONS = st.one_of(
    st.tuples(st.just("block"), MESSAGES, st.integers(0, 900), st.integers(0, 3)),
    st.tuples(st.just("join"), st.none(), st.just(0), st.integers(0, 2)),
    st.tuples(st.just("read"), st.none(), st.integers(0, 120), st.integers(0, 3)),
    st.tuples(st.just("change"), st.none(), st.just(0), st.just(0)),
)


@given(st.lists(ACTIONS, max_size=80), st.integers(40, 400), st.integers(500, 5000))
def test_every_reader_gets_whole_messages_from_a_keyframe_on(
    actions: list[tuple[str, list[str] | None, int, int]], max_bytes: int, max_ms: int
) -> None:
    ring = Ring(max_bytes=max_bytes, max_ms=max_ms)
    readers: list[Reader] = []
    number = time = generation = 0
    ring.opening = b"<0:o:0>"
    pending = b""
    for what, kinds, amount, which in actions:
        if what == "block" and kinds is not None:
            time += amount
            messages = [pending] if pending else []
            pending = b""
            key_offset = -1
            for kind in kinds:
                number += 1
                if kind == "k" and key_offset < 0:
                    key_offset = len(b"".join(messages))
                messages.append(b"<%d:%s:%d>" % (generation, kind.encode(), number))
            ring.append(b"".join(messages), time_ms=time, key_offset=key_offset)
            assert ring.nbytes == sum(len(block.data) for block in ring.blocks)
            assert len(ring.blocks) == 1 or (ring.nbytes <= max_bytes and ring.span_ms <= max_ms)
        elif what == "join":
            readers.append(Reader(ring.start()))
        elif what == "change":
            generation += 1
            pending = ring.opening = b"<%d:o:0>" % generation
        elif readers:
            reader = readers[which % len(readers)]
            reader.got += read(ring, reader.cursor, amount)
    for reader in readers:
        if reader.cursor.piece is not None:
            reader.got += read(ring, reader.cursor)
        check_messages(bytes(reader.got))


def check_messages(got: bytes) -> None:
    """What one player received: whole messages, gaps only before keyframes, always under the right opening."""
    assert got == b"" or (got.startswith(b"<") and got.endswith(b">"))
    opened, last = -1, 0
    for message in got[1:-1].split(b"><") if got else []:
        generation, kind, number = message.split(b":")
        if kind == b"o":
            opened = int(generation)
            continue
        assert int(generation) == opened
        assert int(number) > last
        if int(number) != last + 1 or last == 0:
            assert kind == b"k"
        last = int(number)
