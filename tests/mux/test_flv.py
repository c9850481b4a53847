"""FLV files: bodies bit for bit, and a metadata tag in front that is completed at the end."""

from __future__ import annotations

import itertools

import pytest

from relay.amf0 import decode
from relay.media import flvfile
from relay.media.packets import MediaKind, Packet, Role, TrackSet
from relay.mux.errors import MuxError
from relay.mux.flv import INDEX, FlvMuxer
from relay.mux.segment import MAX_PENDING_BYTES
from tests.mux.material import AAC, AVC, FLV_FILES, mux, packets, programme, tracks, video


def file(muxer: FlvMuxer, feed: list[Packet], *, finish: bool = True) -> bytes:
    """The file as a recorder writes it."""
    found = []
    for packet in feed:
        muxer.write(packet)
        if packet.keyframe:
            found.append(muxer.cut())
    found.append(muxer.cut(last=True))
    data = bytearray(muxer.init + b"".join(fragment.data for fragment in found if fragment))
    if finish:
        end = muxer.finish()
        for offset, patch in end.patches:
            data[offset : offset + len(patch)] = patch
        data += end.tail
    return bytes(data)


def metadata(data: bytes) -> dict[str, object]:
    name, values = decode(flvfile.read(data)[0].body)
    assert name == "onMetaData"
    return dict(values)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FLV_FILES)
def test_every_body_of_a_corpus_file_stands_in_the_file_unchanged(name: str) -> None:
    written = [p for p in packets(name) if p.role not in (Role.HEADER, Role.METADATA)]

    tags = flvfile.read(file(FlvMuxer(tracks(name)), written))

    headers = [packet.body for packet in tracks(name).opening() if packet.role is not Role.METADATA]
    assert [tag.body for tag in tags[1:]] == headers + [packet.body for packet in written]
    assert [tag.timestamp for tag in tags[1 + len(headers) :]] == [packet.dts for packet in written]


def test_the_end_adds_duration_size_and_an_index_that_points_at_keyframes() -> None:
    data = file(FlvMuxer(TrackSet((AVC, AAC)), origin=5000), programme(9, start=5000))

    values = metadata(data)
    index = values["keyframes"]

    assert values["duration"] == pytest.approx(9, abs=0.05)
    assert values["filesize"] == len(data)
    assert index["times"] == [float(n) for n in range(9)]  # type: ignore[index]
    for place, time in zip(index["filepositions"], index["times"], strict=True):  # type: ignore[index]
        assert data[int(place)] == 9
        assert data[int(place) + 11] == 0x17
        assert int.from_bytes(data[int(place) + 4 : int(place) + 7], "big") == time * 1000


def test_a_file_without_its_end_is_as_long_and_promises_nothing() -> None:
    feed = programme(5)
    whole, torn = (file(FlvMuxer(TrackSet((AVC, AAC))), feed, finish=finish) for finish in (True, False))

    values = metadata(torn)

    assert len(torn) == len(whole)
    assert (values["duration"], values["hasKeyframes"]) == (0.0, False)
    assert "keyframes" not in values  # FFmpeg complains about an empty one


@pytest.mark.parametrize("count", [INDEX - 1, INDEX, INDEX + 1, 5 * INDEX])
def test_a_long_recording_keeps_an_even_index_within_its_room(count: int) -> None:
    muxer = FlvMuxer(TrackSet((AVC,)))

    data = file(muxer, [video(n * 40, True) for n in range(count)])

    times = metadata(data)["keyframes"]["times"]  # type: ignore[index]
    assert INDEX // 2 <= len(times) <= INDEX
    steps = {round((two - one) * 25) for one, two in itertools.pairwise(times)}
    assert len(steps) == 1
    assert times[-1] > (count - 1) * 0.04 - max(steps) * 0.08


def test_pieces_follow_each_other_and_a_cut_before_a_packet_ends_there() -> None:
    muxer = FlvMuxer(TrackSet((AVC, AAC)))

    fragments = mux(muxer, programme(3))  # type: ignore[arg-type]

    assert [fragment.independent for fragment in fragments if fragment.start_ms % 1000 == 0] == [True] * 3
    assert sum(fragment.duration_ms for fragment in fragments) == pytest.approx(3000, abs=40)
    assert sum(fragment.samples for fragment in fragments) == len(programme(3))


def test_a_changed_header_is_written_in_its_place_and_an_unchanged_one_is_not() -> None:
    muxer = FlvMuxer(tracks("ertmp_h264.flv"))
    muxer.write(video(0, True))

    muxer.configure(tracks("ertmp_h264.flv"))
    muxer.write(video(40))
    muxer.configure(tracks("ertmp_hevc.flv"))

    fragment = muxer.cut()
    assert fragment is not None
    bodies = [tag.body for tag in flvfile.read(flvfile.file_header() + fragment.data)]
    header = tracks("ertmp_hevc.flv").find(MediaKind.VIDEO).header  # type: ignore[union-attr]
    assert bodies == [video(0, True).body, video(40).body, header.body]  # type: ignore[union-attr]


def test_what_the_encoder_said_is_kept_but_for_what_the_file_knows_better() -> None:
    data = file(FlvMuxer(tracks("ertmp_h264.flv")), packets("ertmp_h264.flv"))

    values = metadata(data)

    assert values["encoder"] == "Lavf62.12.102" or str(values["encoder"]).startswith("Lavf")
    assert values["width"] == 160.0 or values["width"]


def test_nothing_to_record_is_an_error_and_too_much_is_counted() -> None:
    with pytest.raises(MuxError):
        FlvMuxer(TrackSet())
    muxer = FlvMuxer(TrackSet((AVC,)))

    muxer.write(video(0, True, body=bytes(0x1000000)))
    muxer.pending_bytes = MAX_PENDING_BYTES + 1
    muxer.write(video(40))

    assert muxer.odd == {"mux.too_long": 1, "mux.full": 1}
