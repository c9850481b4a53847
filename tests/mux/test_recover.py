"""Recovery: whatever the byte at which a file was cut off, everything whole before it is found and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from relay.media.packets import TrackSet
from relay.mux import recover
from relay.mux.flv import FlvMuxer
from relay.mux.fmp4 import Fmp4Muxer
from relay.mux.mpegts import TsMuxer
from tests.mux.material import AAC, AVC, mux, programme

Find = Callable[[recover.Read], int]


class File:
    """Bytes that are read like a file, and know how much of them was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.most = 0

    def __call__(self, offset: int, size: int) -> bytes:
        self.most = max(self.most, size)
        return self.data[offset : offset + size]


def made(container: str, seconds: float, size: int = 40) -> tuple[bytes, list[int]]:
    """A recording, and the offsets at which something in it is whole."""
    feed = programme(seconds, fps=10, gop=5, size=size)
    if container == "flv":
        flv = FlvMuxer(TrackSet((AVC, AAC)))
        ends = [13, *_tags(flv.init)]
        data = flv.init
        for packet in feed:
            flv.write(packet)
            fragment = flv.cut()
            assert fragment is not None
            data += fragment.data
            ends.append(len(data))
        return data, ends
    muxer = Fmp4Muxer([AVC, AAC], file=True) if container == "fmp4" else TsMuxer([AVC, AAC])
    fragments = mux(muxer, feed)
    data = muxer.init
    ends = [len(data)]
    for fragment in fragments:
        data += fragment.data
        ends.append(len(data))
    return data, list(range(0, len(data) + 1, 188)) if container == "ts" else ends


def _tags(data: bytes) -> list[int]:
    position, ends = 13, []
    while position < len(data):
        position += 15 + int.from_bytes(data[position + 1 : position + 4], "big")
        ends.append(position)
    return ends


FIND: dict[str, Find] = {"flv": recover.whole_flv, "fmp4": recover.whole_fmp4, "ts": recover.whole_ts}
each = pytest.mark.parametrize("container", FIND)


def expected(ends: list[int], cut: int, floor: int) -> int:
    return max((end for end in ends if floor <= end <= cut), default=0)


@each
def test_a_file_cut_at_every_byte_ends_at_its_last_whole_unit(container: str) -> None:
    data, ends = made(container, 0.6)
    floor = 13 if container == "flv" else ends[0]

    for cut in range(len(data) + 1):
        if container == "flv" and 100 < cut < ends[1] - 100:
            continue  # inside the reserved room
        assert FIND[container](File(data[:cut])) == expected(ends, cut, floor), cut


@each
def test_zeros_behind_a_tear_are_never_taken_for_media(container: str) -> None:
    data, ends = made(container, 5)
    floor = 13 if container == "flv" else ends[0]
    chance = random.Random(7)

    for _ in range(300):
        cut = chance.randrange(ends[1] if container == "flv" else 0, len(data))
        torn = data[:cut] + bytes(65_536)
        found = FIND[container](File(torn))
        best = expected(ends, cut, floor)
        assert torn[:found] == data[:found], cut
        assert found >= max((end for end in ends if end < best), default=0), cut


HEADS: dict[str, Find] = {"flv": recover.head_flv, "fmp4": recover.head_fmp4, "ts": lambda read: 0}


def after_a_power_failure(data: bytes, synced: int, lost: set[int]) -> bytes:
    """Leave of the pages in *lost* what was synced."""
    torn = bytearray(data)
    for page in lost:
        first = max(synced, page * recover.PAGE)
        last = min(len(data), (page + 1) * recover.PAGE)
        torn[first:last] = bytes(max(0, last - first))
    return bytes(torn)


@each
def test_holes_that_a_power_failure_left_are_found(container: str) -> None:
    data, ends = made(container, 20, size=900)
    head = HEADS[container](File(data))
    chance = random.Random(container)
    for _ in range(200):
        synced = chance.choice([end for end in ends if head <= end < len(data) - recover.PAGE])
        first = synced // recover.PAGE
        lost = {first + chance.randrange((len(data) - 1) // recover.PAGE - first + 1) for _ in range(3)}
        torn = after_a_power_failure(data, synced, lost)
        start = max(synced, min(lost) * recover.PAGE)
        hole = recover.first_hole(File(torn), synced)

        if len(torn) - start >= 16 and (min(lost) + 1) * recover.PAGE - start >= 16:
            assert hole is not None
            assert data[hole:start].strip(b"\0") == b"", "something that is there was called lost"
            assert hole <= start


@each
def test_a_file_without_holes_has_none(container: str) -> None:
    data, ends = made(container, 20, size=900)
    head = HEADS[container](File(data))

    for end in ends:
        if head <= end < len(data):
            assert recover.first_hole(File(data), end) is None


@each
def test_a_whole_file_is_whole(container: str) -> None:
    data, _ = made(container, 2)

    assert FIND[container](File(data)) == len(data)


@each
@pytest.mark.parametrize("data", [b"", b"F", b"FLV\1\5\0\0\0\x09", b"\0" * 5000, b"hello world" * 50])
def test_what_is_no_such_file_has_nothing_to_save(container: str, data: bytes) -> None:
    assert FIND[container](File(data)) == 0


@each
def test_a_big_file_is_never_read_whole(container: str) -> None:
    data, _ = made(container, 10, 20_000)
    file = File(data)

    FIND[container](file)

    assert file.most <= 192_512 < 1_000_000 < len(data)


@pytest.mark.parametrize("damage", [b"\0", b"\x47"])
def test_recovery_stops_at_damage_in_the_middle(damage: bytes) -> None:
    data, ends = made("fmp4", 3)
    hurt = data[: ends[4] + 5] + damage * 3 + data[ends[4] + 8 :]

    assert recover.whole_fmp4(File(hurt)) == ends[4]


def test_the_end_of_a_complete_file_is_not_taken_for_a_fragment() -> None:
    muxer = Fmp4Muxer([AVC, AAC], file=True)
    data = b"".join(fragment.data for fragment in mux(muxer, programme(2)))
    data = muxer.init + data

    assert recover.whole_fmp4(File(data + muxer.finish().tail)) == len(data)
