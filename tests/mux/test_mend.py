"""A recovered file, mended, is what it would have been if its writer had finished it there."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.media.packets import Packet, TrackSet
from relay.mux import recover
from relay.mux.errors import MuxError
from relay.mux.flv import FlvMuxer
from relay.mux.fmp4 import Fmp4Muxer
from relay.mux.mend import NOTHING, measure_flv, measure_fmp4, mend_flv, mend_fmp4
from relay.mux.remux import progressive
from relay.mux.segment import Finish
from relay.testing import track_set
from tests.mux.material import AAC, AVC, FLV_FILES, mux, packets, programme, tracks


def reader(data: bytes) -> recover.Read:
    return lambda offset, size: data[offset : offset + size]


def flv(source: TrackSet, feed: list[Packet]) -> tuple[bytes, Finish]:
    muxer = FlvMuxer(source)
    data = muxer.init
    for packet in feed:
        muxer.write(packet)
        fragment = muxer.cut()
        data += fragment.data if fragment else b""
    return data, muxer.finish()


def fmp4(source: TrackSet, feed: list[Packet]) -> tuple[bytes, Finish]:
    muxer = Fmp4Muxer(source.tracks, file=True)
    data = b"".join(fragment.data for fragment in mux(muxer, feed))
    return muxer.init + data, muxer.finish()


BOTH = TrackSet((AVC, AAC))


def test_an_flv_file_is_mended_as_its_muxer_would_have_finished_it() -> None:
    data, finish = flv(BOTH, programme(7))

    assert mend_flv(reader(data), len(data)) == finish


@pytest.mark.parametrize("pages", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2)])
def test_an_index_of_which_power_left_some_pages_is_written_again(pages: tuple[int, ...]) -> None:
    data, finish = flv(BOTH, programme(80, fps=10, gop=2))
    torn = bytearray(data)
    ((start, tag),) = finish.patches
    for page in pages:
        first, last = max(start, page * 4096), min(start + len(tag), page * 4096 + 4096)
        torn[first:last] = tag[first - start : last - start]

    assert mend_flv(reader(bytes(torn)), len(torn)) == finish


@pytest.mark.parametrize("name", FLV_FILES)
def test_the_keyframes_of_every_codec_are_found_again(name: str) -> None:
    data, finish = flv(tracks(name), packets(name))

    assert mend_flv(reader(data), len(data)) == finish


@pytest.mark.parametrize("name", [None, *FLV_FILES])
def test_a_fragmented_file_is_mended_as_its_muxer_would_have_finished_it(name: str | None) -> None:
    data, finish = fmp4(tracks(name), packets(name)) if name else fmp4(BOTH, programme(7))

    assert mend_fmp4(reader(data), len(data)) == finish


def test_what_comes_after_the_whole_part_is_not_counted() -> None:
    data, _ = fmp4(BOTH, programme(7))
    whole = recover.whole_fmp4(reader(data[:-9]))

    finish = mend_fmp4(reader(data), whole)

    assert finish == mend_fmp4(reader(data[:whole]), whole)
    assert finish.patches[0][1] != mend_fmp4(reader(data), len(data)).patches[0][1]


def test_files_without_reserved_room_get_nothing() -> None:
    muxer = Fmp4Muxer([AVC])
    plain = b"FLV\1\1\0\0\0\x09\0\0\0\0" + b"\x09\0\0\3\0\0\0\0\0\0\0\x17\1\0\0\0\0\x0e"

    assert mend_flv(reader(plain), len(plain)) == NOTHING
    assert mend_flv(reader(b""), 0) == NOTHING
    assert mend_fmp4(reader(muxer.init), len(muxer.init)) == NOTHING
    data = muxer.init + b"".join(fragment.data for fragment in mux(muxer, programme(2)))
    assert mend_fmp4(reader(data), len(data)).patches == ()


damage = st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4)
_FMP4 = fmp4(BOTH, programme(1, fps=5, gop=5))[0]
_FLV = flv(BOTH, programme(1, fps=5, gop=5))[0]


def hurt(data: bytes, blows: list[tuple[int, bytes]]) -> bytes:
    damaged = bytearray(data)
    for place, blow in blows:
        at = place % len(data)
        damaged[at : at + len(blow)] = blow
    return bytes(damaged[: len(data)])


@given(blows=damage)
@settings(max_examples=200)
def test_damage_anywhere_ends_in_an_answer_or_in_our_error(blows: list[tuple[int, bytes]]) -> None:
    for data, find, mend in ((_FMP4, recover.whole_fmp4, mend_fmp4), (_FLV, recover.whole_flv, mend_flv)):
        damaged = hurt(data, blows)
        whole = find(reader(damaged))
        assert 0 <= whole <= len(damaged)
        try:
            finish = mend(reader(damaged), whole)
        except MuxError:
            continue
        assert all(0 <= offset <= offset + len(patch) <= len(damaged) for offset, patch in finish.patches)
    try:
        progressive(io.BytesIO(hurt(_FMP4, blows)), io.BytesIO())
    except MuxError:
        return


def test_frames_and_time_are_counted() -> None:
    feed = programme(3)
    plain, mp4 = FlvMuxer(track_set()), Fmp4Muxer((AVC, AAC), file=True)
    for packet in feed:
        plain.write(packet)
        mp4.write(packet)
    tags, piece = plain.cut(last=True), mp4.cut(last=True)
    assert tags is not None
    assert piece is not None
    for data, measure in ((plain.init + tags.data, measure_flv), (mp4.init + piece.data, measure_fmp4)):
        measured = measure(reader(data), len(data))

        assert measured.frames == len(feed)
        assert 2950 < measured.duration_ms < 3100
    head = FlvMuxer(track_set()).init
    assert measure_flv(reader(head), len(head)).frames == 0
