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


def test_a_recording_of_three_months_has_a_64_bit_duration() -> None:
    muxer = Fmp4Muxer([AVC])
    months = 90 * 86_400_000
    feed = [video(n * 36_000_000, True) for n in range(90 * 24 // 10 + 1)]

    data, result = remuxed(recorded(muxer, feed))

    (moov,) = [box for box in boxreader.boxes(data) if box.name == "moov"]
    mvhd = moov.one("mvhd").content
    assert (mvhd[0], int.from_bytes(mvhd[24:32], "big")) == (1, result.duration_ms)
    assert result.duration_ms == months + 36_000_000


def test_it_can_be_called_off() -> None:
    source = recorded(Fmp4Muxer([AVC, AAC]), programme(2))

    with pytest.raises(MuxError) as caught:
        progressive(io.BytesIO(source), io.BytesIO(), stop=lambda: True)

    assert caught.value.code == "mux.stopped"


class Endless(io.RawIOBase):
    """A file of boxes with gigabytes of media that exist nowhere: where no box was written stands zero after zero."""

    def __init__(self) -> None:
        self.pieces: dict[int, bytes] = {}
        self.size = self.at = 0

    def append(self, data: bytes) -> None:
        self.pieces[self.size] = data
        self.size += len(data)

    def skip(self, length: int) -> None:
        self.size += length

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        size = max(0, min(size, self.size - self.at))
        found = bytearray(size)
        for place, data in self.pieces.items():
            begin, end = max(place, self.at), min(place + len(data), self.at + size)
            if begin < end:
                found[begin - self.at : end - self.at] = data[begin - place : end - place]
        self.at += size
        return bytes(found)


class Head(io.RawIOBase):
    """Keeps the first megabyte of what is written, and counts the rest."""

    def __init__(self) -> None:
        self.data = b""
        self.size = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if self.size < 1 << 20:
            self.data += data
        self.size += len(data)
        return len(data)


def test_more_than_4_gib_get_64_bit_boxes() -> None:
    muxer = Fmp4Muxer([AVC])
    source, target = Endless(), Head()
    big = 1 << 30
    for n in range(5):
        muxer.write(video(n * 1000, True))
        fragment = muxer.cut_before(video(n * 1000 + 1000))
        assert fragment is not None
        moof = bytearray(fragment.data[:-52])
        moof[-12:-8] = big.to_bytes(4, "big")  # the size of the only sample
        if not n:
            source.append(muxer.init)
        source.append(bytes(moof) + (big + 8).to_bytes(4, "big") + b"mdat\x55")
        source.skip(big - 1)

    result = progressive(source, target)  # type: ignore[arg-type]

    assert target.size == result.size > 5 * big
    (moov,) = [box for box in boxreader.boxes(target.data[: target.data.index(b"mdat") - 4]) if box.name == "moov"]
    stbl = moov.one("trak", "mdia", "minf", "stbl")
    assert stbl.all("stco") == []
    places = [place for (place,) in table(stbl, "co64", "Q")]
    assert [place - places[0] for place in places] == [n * big for n in range(5)]
    assert target.data[places[0] - 16 : places[0] + 1] == b"\0\0\0\1mdat" + (5 * big + 16).to_bytes(8, "big") + b"\x55"
