"""Fragmented to progressive: the same samples at the same times, and everything known in front."""

from __future__ import annotations

import io
from struct import unpack

import pytest

from relay.mux.errors import MuxError
from relay.mux.fmp4 import Fmp4Muxer
from relay.mux.remux import Remuxed, progressive
from tests.mux import boxreader
from tests.mux.boxreader import Box, Sample
from tests.mux.material import AAC, AVC, FLV_FILES, audio, mux, packets, programme, tracks, video


def recorded(muxer: Fmp4Muxer, feed: list) -> bytes:
    data = b"".join(fragment.data for fragment in mux(muxer, feed))
    return muxer.init + data


def remuxed(source: bytes) -> tuple[bytes, Remuxed]:
    target = io.BytesIO()
    result = progressive(io.BytesIO(source), target)
    return target.getvalue(), result


def table(stbl: Box, name: str, row: str) -> list[tuple[int, ...]]:
    found = stbl.all(name)
    if not found:
        return []
    content = found[0].content
    size = sum({"I": 4, "i": 4, "Q": 8}[kind] for kind in row)
    count = int.from_bytes(content[4:8], "big")
    assert len(content) == 8 + count * size
    return [unpack(">" + row, content[8 + n * size : 8 + n * size + size]) for n in range(count)]


def read(data: bytes) -> dict[int, list[Sample]]:
    """All samples of a progressive file, from its tables."""
    names = [box.name for box in boxreader.boxes(data)]
    assert names == ["ftyp", "moov", "mdat"]
    found = {}
    (moov,) = [box for box in boxreader.boxes(data) if box.name == "moov"]
    for number, trak in enumerate(moov.all("trak"), 1):
        stbl = trak.one("mdia", "minf", "stbl")
        durations = [value for count, value in table(stbl, "stts", "II") for _ in range(count)]
        offsets = [value for count, value in table(stbl, "ctts", "Ii") for _ in range(count)] or [0] * len(durations)
        content = stbl.one("stsz").content
        sizes = unpack(f">{len(durations)}I", content[12:])
        sync = {value for (value,) in table(stbl, "stss", "I")} or set(range(1, len(durations) + 1))
        chunks = table(stbl, "stco", "I") or table(stbl, "co64", "Q")
        per_chunk = table(stbl, "stsc", "III")
        index, time, samples = 0, 0, []
        for chunk, (place,) in enumerate(chunks, 1):
            count = [row[1] for row in per_chunk if row[0] <= chunk][-1]
            for _ in range(count):
                body = data[place : place + sizes[index]]
                samples.append(Sample(number, time, durations[index], offsets[index], index + 1 in sync, body))
                place += sizes[index]
                time += durations[index]
                index += 1
        assert index == len(durations)
        found[number] = samples
    return found


def at_zero(samples: list[Sample]) -> list[tuple]:
    return [(s.time - samples[0].time, s.duration, s.offset, s.sync, s.data) for s in samples]


@pytest.mark.parametrize("name", FLV_FILES)
def test_a_remuxed_corpus_file_has_the_samples_of_the_recording(name: str) -> None:
    source = recorded(Fmp4Muxer(tracks(name).tracks), packets(name))

    data, result = remuxed(source)

    before = boxreader.read(source)
    assert {number: at_zero(samples) for number, samples in read(data).items()} == {
        number: at_zero(samples) for number, samples in before.items()
    }
    assert (result.samples, result.size) == (sum(map(len, before.values())), len(data))


def test_a_torn_end_is_left_out() -> None:
    source = recorded(Fmp4Muxer([AVC, AAC]), programme(4))

    data, _ = remuxed(source[:-7])

    whole, cut = read(remuxed(source)[0]), read(data)
    assert all(samples == whole[number][: len(samples)] for number, samples in cut.items())
    assert sum(map(len, cut.values())) < sum(map(len, whole.values()))


def test_a_hole_in_time_becomes_a_long_frame_and_a_late_track_an_empty_edit() -> None:
    muxer = Fmp4Muxer([AVC, AAC])
    feed = [video(0, True), video(40), video(5040, True), video(5080)] + [audio(2000 + 21 * n) for n in range(20)]
    source = recorded(muxer, sorted(feed, key=lambda packet: packet.dts))

    data, result = remuxed(source)

    assert [sample.time / 90 for sample in read(data)[1]] == [0, 40, 5040, 5080]
    (moov,) = [box for box in boxreader.boxes(data) if box.name == "moov"]
    edits = [trak.all("edts", "elst") for trak in moov.all("trak")]
    assert edits[0] == []
    assert unpack(">IIQq", edits[1][0].content[:24]) == (1 << 24, 2, 2000, -1)
    assert result.duration_ms == 5120


@pytest.mark.parametrize("source", [b"", b"\0" * 100, b"FLV\1"], ids=["empty", "zeros", "flv"])
def test_what_is_no_recording_is_refused(source: bytes) -> None:
    with pytest.raises(MuxError) as caught:
        remuxed(source)

    assert caught.value.code == "mux.not_mp4"


def test_a_recording_without_a_whole_fragment_is_refused() -> None:
    muxer = Fmp4Muxer([AVC])
    with pytest.raises(MuxError) as caught:
        remuxed(muxer.init)

    assert caught.value.code == "mux.not_mp4"


def test_it_can_be_called_off() -> None:
    source = recorded(Fmp4Muxer([AVC, AAC]), programme(2))

    with pytest.raises(MuxError) as caught:
        progressive(io.BytesIO(source), io.BytesIO(), stop=lambda: True)

    assert caught.value.code == "mux.stopped"
