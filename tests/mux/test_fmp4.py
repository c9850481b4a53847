"""Fragmented MP4: what a stranger reads in it is what was written, at the right times, whatever the cuts."""

from __future__ import annotations

import itertools

import pytest

from relay.media.packets import Codec, MediaKind, Role
from relay.mux.errors import MuxError
from relay.mux.fmp4 import Fmp4Muxer
from tests.mux import boxreader
from tests.mux.material import AAC, AVC, FLV_FILES, mux, packets, programme, track, tracks, video


def payloads(name: str) -> dict[tuple[int, int], list[bytes]]:
    """The coded frames of a corpus file by track, as they belong into a file."""
    found: dict[tuple[int, int], list[bytes]] = {}
    for packet in packets(name):
        if packet.role is Role.FRAME:
            data = packet.payload.removeprefix(b"\x12\x00") if packet.codec is Codec.AV1 else packet.payload
            found.setdefault((packet.kind, packet.track), []).append(data)
    return found


@pytest.mark.parametrize("name", FLV_FILES)
def test_every_frame_of_a_corpus_file_is_in_the_file_unchanged(name: str) -> None:
    muxer = Fmp4Muxer(tracks(name).tracks)

    fragments = mux(muxer, packets(name))

    found = boxreader.read(muxer.init + b"".join(fragment.data for fragment in fragments))
    by_number = {(t.kind, t.track_id): found[n] for n, t in enumerate(muxer.tracks, 1)}
    assert {key: [s.data for s in samples] for key, samples in by_number.items()} == payloads(name)
    assert muxer.odd == {}


@pytest.mark.parametrize("name", FLV_FILES)
def test_the_times_of_a_corpus_file_are_those_of_its_packets(name: str) -> None:
    muxer = Fmp4Muxer(tracks(name).tracks)

    fragments = mux(muxer, packets(name))

    data = b"".join(fragment.data for fragment in fragments)
    scales = {number: info.scale for number, info in boxreader.tracks(muxer.init).items()}
    for number, samples in boxreader.read(data).items():
        kind, track_id = muxer.tracks[number - 1].kind, muxer.tracks[number - 1].track_id
        sent = [p for p in packets(name) if p.role is Role.FRAME and (p.kind, p.track) == (kind, track_id)]
        for sample, packet in zip(samples, sent, strict=True):
            assert abs(sample.time * 1000 / scales[number] - packet.dts) < 2
            assert sample.offset * 1000 == packet.cts * scales[number]
            assert sample.sync is (packet.keyframe or kind is MediaKind.AUDIO)
        assert all(one.time + one.duration == two.time for one, two in itertools.pairwise(samples))


def test_fragments_follow_each_other_without_a_gap_and_their_durations_add_up() -> None:
    muxer = Fmp4Muxer([AVC, AAC])

    fragments = mux(muxer, programme(10))

    assert sum(fragment.duration_ms for fragment in fragments) == pytest.approx(10_000, abs=1)
    assert all(
        two.start_ms == pytest.approx(one.start_ms + one.duration_ms, abs=1)
        for one, two in itertools.pairwise(fragments)
    )
    assert {round(fragment.start_ms) for fragment in fragments if fragment.independent} == set(range(0, 10_000, 1000))


def test_a_cut_before_a_keyframe_ends_the_picture_that_waits() -> None:
    muxer = Fmp4Muxer([AVC])
    muxer.write(video(0, True))
    muxer.write(video(40))
    key = video(90, True)

    fragment = muxer.cut_before(key)

    assert fragment is not None
    assert (fragment.samples, fragment.duration_ms, muxer.pending_bytes) == (2, 90, 0)


def test_a_finished_file_tells_its_duration_in_front_and_its_keyframes_at_the_end() -> None:
    muxer = Fmp4Muxer([AVC, AAC], origin=7000, file=True)
    data = bytearray(muxer.init + b"".join(f.data for f in mux(muxer, programme(10, start=7000))))

    end = muxer.finish()

    for offset, patch in end.patches:
        data[offset : offset + len(patch)] = patch
    data += end.tail
    top = list(boxreader.boxes(bytes(data)))
    (moov,) = [box for box in top if box.name == "moov"]
    assert int.from_bytes(moov.one("mvex", "mehd").content[4:], "big") == pytest.approx(10_000, abs=30)
    assert (top[-1].name, top[-1].stop - top[-1].start) == ("mfra", int.from_bytes(data[-4:], "big"))
    tfra = top[-1].one("tfra").content
    rows = [tfra[at : at + 19] for at in range(16, len(tfra), 19)]
    assert [int.from_bytes(row[:8], "big") // 90 for row in rows] == list(range(0, 10_000, 1000))
    moofs = {box.start: box for box in top if box.name == "moof"}
    for row in rows:
        first = next(boxreader.fragment_samples(bytes(data), moofs[int.from_bytes(row[8:16], "big")]))
        assert (first.time, first.sync) == (int.from_bytes(row[:8], "big"), True)


def test_no_track_that_fits_is_an_error() -> None:
    with pytest.raises(MuxError) as caught:
        Fmp4Muxer([track(MediaKind.AUDIO, Codec.SPEEX)])

    assert caught.value.code == "mux.no_tracks"
