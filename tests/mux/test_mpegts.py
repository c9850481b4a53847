"""MPEG-TS: a reader written from the standard finds every frame, at its time, in every piece alone."""

from __future__ import annotations

from itertools import pairwise

import pytest

from relay.media.nal import split, split_annexb
from relay.media.packets import Codec, MediaKind, Role
from relay.mux import tspackets
from relay.mux.errors import MuxError
from relay.mux.mpegts import TsMuxer
from tests.mux import tsreader
from tests.mux.material import AAC, AVC, audio, mux, nal, packets, programme, track, tracks, video

VIDEO_PID, AUDIO_PID = 0x100, 0x101
SECOND = 90_000


def test_tables_have_the_known_bytes() -> None:
    streams = [tspackets.Stream(stream_type=0x1B, pid=0x100), tspackets.Stream(stream_type=0x0F, pid=0x101)]

    assert tspackets.pat().hex() == "00b00d0001c100000001f0002ab104b2"
    assert tspackets.pmt(0x100, streams).hex() == "02b0170001c10000e100f0001be100f0000fe101f0002f44b99b"


@pytest.mark.parametrize("size", [*range(1, 400), 5_000, 128 * 184, 128 * 184 + 300, 3 * 128 * 184 + 1])
def test_a_pes_packet_of_any_size_comes_back_whole(size: int) -> None:
    pid, payload = tspackets.Pid(VIDEO_PID), bytes(n & 0xFF for n in range(size))
    for field in (b"", tspackets.adaptation(pcr=5, random_access=True)):
        out: list[bytes] = []

        pid.packets(tspackets.pes_header(0xE0, size, 9, 3) + payload, field, out)

        table = [
            tspackets.Pid(0).table(tspackets.pat()),
            tspackets.Pid(0x1000).table(tspackets.pmt(VIDEO_PID, [tspackets.Stream(stream_type=0x1B, pid=VIDEO_PID)])),
        ]
        (unit,) = tsreader.read(b"".join(table + out)).streams[VIDEO_PID].units
        assert (unit.pts, unit.dts, unit.payload, unit.random_access) == (9, 3, payload, bool(field))


@pytest.mark.parametrize("name", ["ertmp_h264.flv", "ertmp_hevc.flv", "ertmp_multitrack.flv"])
def test_every_nal_unit_and_every_aac_frame_of_a_corpus_file_is_in_the_stream(name: str) -> None:
    muxer = TsMuxer(tracks(name).tracks)

    read = tsreader.read(b"".join(fragment.data for fragment in mux(muxer, packets(name))))

    for number, one in enumerate(muxer.tracks):
        units = read.streams[VIDEO_PID + number].units
        sent = [p for p in packets(name) if p.role is Role.FRAME and (p.kind, p.track) == (one.kind, one.track_id)]
        if one.kind is MediaKind.AUDIO:
            assert [raw for unit in units for raw in tsreader.adts_frames(unit.payload)] == [p.payload for p in sent]
        else:
            assert [split_annexb(u.payload)[-len(split(p.payload)) :] for u, p in zip(units, sent, strict=True)] == [
                split(packet.payload) for packet in sent
            ]
            assert [u.pts - u.dts for u in units] == [packet.cts * 90 for packet in sent]
            assert [u.dts - units[0].dts for u in units] == [(p.dts - sent[0].dts) * 90 for p in sent]


def test_a_keyframe_is_preceded_by_delimiter_and_parameter_sets_and_marked() -> None:
    muxer = TsMuxer([AVC])
    (fragment,) = mux(muxer, [video(0, True), video(40)])

    key, other = tsreader.read(fragment.data).streams[VIDEO_PID].units

    assert [unit[0] & 0x1F for unit in split_annexb(key.payload)] == [9, 7, 8, 5]
    assert [unit[0] & 0x1F for unit in split_annexb(other.payload)] == [9, 1]
    assert (key.random_access, other.random_access) == (True, False)


def test_parameter_sets_and_delimiters_in_the_picture_are_not_doubled() -> None:
    muxer = TsMuxer([AVC])
    body = nal(2, 0x09) + nal(12, 0x67) + nal(5, 0x68) + nal(9, 0x06) + nal(30, 0x65)
    (fragment,) = mux(muxer, [video(0, True, body=body)])

    (key,) = tsreader.read(fragment.data).streams[VIDEO_PID].units

    assert [unit[0] & 0x1F for unit in split_annexb(key.payload)] == [9, 7, 8, 6, 5]


def test_every_piece_can_be_read_alone_and_counters_go_on() -> None:
    muxer = TsMuxer([AVC, AAC])
    counters: dict[int, int] = {}

    for fragment in mux(muxer, programme(3)):
        read = tsreader.read(fragment.data, counters)
        assert read.tables[0] == 0
        assert read.pcrs[0][0] == 2
        assert read.pcr_pid == VIDEO_PID


@pytest.mark.parametrize("fps", [60, 30, 24, 10, 1])
def test_pcrs_come_every_40_ms_and_tables_every_half_second(fps: int) -> None:
    muxer = TsMuxer([AVC, AAC])

    read = tsreader.read(b"".join(f.data for f in mux(muxer, programme(6, fps=fps, gop=fps), part_ms=2000)))

    clocks = [clock / 300 for _, clock in read.pcrs]
    assert all(0 < two - one <= 3600 for one, two in pairwise(clocks))
    when = [max(clock for at, clock in read.pcrs if at < max(table, 3)) / 27e6 for table in read.tables]
    assert all(two - one <= 0.5 for one, two in pairwise(when))
    assert len(read.tables) < 6 / 0.4 + 6


def test_no_frame_comes_after_its_time_by_the_pcr() -> None:
    muxer = TsMuxer([AVC, AAC])

    read = tsreader.read(b"".join(fragment.data for fragment in mux(muxer, programme(4))))

    for stream in read.streams.values():
        for unit in stream.units:
            clock = max(clock for at, clock in read.pcrs if at <= unit.at) // 300
            assert 0 < unit.dts - clock < SECOND


def test_timestamps_wrap_at_33_bits() -> None:
    start = (1 << 33) // 90 - 2_400
    muxer = TsMuxer([AVC, AAC])

    read = tsreader.read(b"".join(fragment.data for fragment in mux(muxer, programme(3, start=start))))

    stamps = [unit.dts for unit in read.streams[VIDEO_PID].units]
    assert min(stamps) < SECOND
    assert max(stamps) > (1 << 33) - SECOND
    assert {(two - one) % (1 << 33) for one, two in pairwise(stamps)} == {33 * 90, 34 * 90}
    clocks = [clock for _, clock in read.pcrs]
    assert all(0 < (two - one) % (300 << 33) <= 3600 * 300 for one, two in pairwise(clocks))


def test_a_negative_composition_time_moves_the_decode_time_so_that_no_picture_is_shown_before_it() -> None:
    muxer = TsMuxer([AVC])
    feed = [video(n * 40, not n, cts=(0, 80, -40, -20)[n % 4]) for n in range(1, 40)]

    units = tsreader.read(b"".join(f.data for f in mux(muxer, feed))).streams[VIDEO_PID].units

    assert all(unit.dts <= unit.pts for unit in units)
    assert all(one.dts < two.dts for one, two in pairwise(units))
    shown = [(packet.dts + packet.cts) * 90 for packet in feed]
    assert all(abs(unit.pts - units[0].pts - (pts - shown[0])) <= 4 for unit, pts in zip(units, shown, strict=True))


def test_a_hole_in_the_sound_begins_a_new_pes_packet() -> None:
    muxer = TsMuxer([AAC])
    times = [n * 1024 * 1000 // 48_000 for n in range(4)]
    feed = [audio(time) for time in times] + [audio(time + 500) for time in times]

    units = tsreader.read(b"".join(f.data for f in mux(muxer, feed, part_ms=5000))).streams[VIDEO_PID].units

    assert [len(tsreader.adts_frames(unit.payload)) for unit in units] == [4, 4]
    assert units[1].pts - units[0].pts == 500 * 90


@pytest.mark.parametrize(
    ("name", "stream_type", "stream_id"),
    [("ertmp_mp3.flv", 0x03, 0xC0), ("ertmp_ac3.flv", 0x81, 0xBD), ("ertmp_eac3.flv", 0x87, 0xBD)],
)
def test_sound_with_its_own_sync_words_stands_as_it_is(name: str, stream_type: int, stream_id: int) -> None:
    muxer = TsMuxer(tracks(name).tracks)

    read = tsreader.read(b"".join(fragment.data for fragment in mux(muxer, packets(name))))

    (stream,) = read.streams.values()
    assert stream.stream_type == stream_type
    assert {unit.stream_id for unit in stream.units} == {stream_id}
    sent = b"".join(packet.payload for packet in packets(name) if packet.role is Role.FRAME)
    assert b"".join(unit.payload for unit in stream.units) == sent


def test_frames_too_long_for_adts_are_dropped_and_counted() -> None:
    muxer = TsMuxer([AAC])
    for n, size in enumerate((8184, 8185)):
        muxer.write(audio(n * 21, bytes(size)))

    fragment = muxer.cut(last=True)

    assert fragment is not None
    assert (fragment.samples, muxer.odd) == (1, {"mux.too_long": 1})


@pytest.mark.parametrize(
    "one",
    [
        track(MediaKind.VIDEO, Codec.VP9),
        track(MediaKind.AUDIO, Codec.SPEEX),
        track(MediaKind.AUDIO, Codec.AAC, bytes.fromhex("f94a4000")),  # object type 42: xHE-AAC
    ],
    ids=["vp9", "speex", "xhe-aac"],
)
def test_what_has_no_place_in_a_transport_stream_is_refused(one) -> None:
    with pytest.raises(MuxError):
        TsMuxer([one])
