"""Cuts and times: nothing is lost, nothing overlaps, whatever the encoder sends and whenever the caller cuts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from struct import unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.amf0 import encode
from relay.media import hevc
from relay.media.packets import Codec, MediaKind, Packet, Role, Track
from relay.mux.fmp4 import Fmp4Muxer
from relay.mux.mpegts import TsMuxer
from relay.mux.segment import MAX_PENDING_BYTES, Fragment, SegmentMuxer
from tests.media.samples import AV1C_HDR10, HVCC_HDR10, record
from tests.mux import boxreader, tsreader
from tests.mux.material import AAC, AVC, audio, mux, nal, packets, programme, track, tracks, video

OPUS = track(MediaKind.AUDIO, Codec.OPUS, record("ertmp_opus.flv", "Opus"))
steps = st.one_of(st.integers(1, 60), st.integers(61, 3_000), st.just(600_000))
offsets = st.sampled_from([0, 0, 33, 67, -40, 8_388_607, -8_388_608])
feeds = st.lists(st.tuples(st.sampled_from(["picture", "key", "sound"]), steps, offsets), min_size=1, max_size=60)
schedules = st.lists(st.sampled_from(["none", "none", "cut", "before", "last"]), min_size=1, max_size=20)


def played(feed: list[tuple[str, int, int]]) -> list[Packet]:
    """Packets whose times rise as they do behind a stream."""
    now, made = 0, []
    for what, step, cts in feed:
        now += step
        made.append(audio(now) if what == "sound" else video(now, what == "key", cts=cts))
    return made


def run(muxer: SegmentMuxer, feed: list[Packet], schedule: list[str]) -> list[Fragment]:
    found: list[Fragment | None] = []
    for n, packet in enumerate(feed):
        action = schedule[n % len(schedule)]
        if action == "before":
            found.append(muxer.cut_before(packet))
        elif action != "none":
            found.append(muxer.cut(last=action == "last"))
        muxer.write(packet)
    found.append(muxer.cut(last=True))
    return [fragment for fragment in found if fragment is not None]


@given(feed=feeds, schedule=schedules)
def test_no_frame_is_lost_and_no_time_goes_back_over_any_cuts(
    feed: list[tuple[str, int, int]], schedule: list[str]
) -> None:
    muxer, sent = Fmp4Muxer([AVC, AAC]), played(feed)

    fragments = run(muxer, sent, schedule)

    samples = boxreader.read(muxer.init + b"".join(fragment.data for fragment in fragments))
    for number, kind in ((1, MediaKind.VIDEO), (2, MediaKind.AUDIO)):
        mine = [packet for packet in sent if packet.kind is kind]
        read = samples.get(number, [])
        assert [sample.data for sample in read] == [packet.payload for packet in mine]
        assert all(one.time + one.duration <= two.time for one, two in pairwise(read))
        assert all(sample.duration > 0 for sample in read)
        scale = 90_000 if number == 1 else 48_000
        assert all(sample.time + sample.offset >= -1 for sample in read)
        if "last" not in schedule:
            late = 1 if number == 1 else 41
            for sample, packet in zip(read, mine, strict=True):
                assert -42 < sample.time * 1000 / scale - packet.dts < late + 1
    assert sum(fragment.samples for fragment in fragments) == len(sent)
    assert muxer.pending_bytes == 0
    assert muxer.odd == {}


@given(feed=feeds, schedule=schedules)
def test_fragments_measure_time_without_gap_or_overlap(feed: list[tuple[str, int, int]], schedule: list[str]) -> None:
    fragments = run(Fmp4Muxer([AVC, AAC]), played(feed), schedule)

    assert all(fragment.duration_ms >= 0 for fragment in fragments)
    assert all(two.start_ms == pytest.approx(one.start_ms + one.duration_ms, abs=1) for one, two in pairwise(fragments))


@given(feed=feeds, schedule=schedules)
def test_both_containers_cut_at_the_same_places(feed: list[tuple[str, int, int]], schedule: list[str]) -> None:
    sent = [packet for packet in played(feed) if abs(packet.cts) < 1000]

    mp4, ts = (run(muxer, sent, schedule) for muxer in (Fmp4Muxer([AVC, AAC]), TsMuxer([AVC, AAC])))

    assert [(f.start_ms, f.duration_ms, f.independent, f.samples) for f in mp4] == [
        (f.start_ms, f.duration_ms, f.independent, f.samples) for f in ts
    ]
    counters: dict[int, int] = {}
    streams = [stream for f in ts for stream in tsreader.read(f.data, counters).streams.values()]
    pictures = sum(len(stream.units) for stream in streams if stream.stream_type == 0x1B)
    assert pictures == sum(packet.kind is MediaKind.VIDEO for packet in sent)


@pytest.mark.parametrize("make", [Fmp4Muxer, TsMuxer])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"\0\0\0\x20" + bytes(8), "mux.nal_length"),
        (b"\xff\xff\xff\xff" + b"\x65" * 8, "mux.nal_length"),
        (nal(20) + b"\0\0", "mux.nal_length"),
        (nal(20, 0x65) + b"\0\0\1", "mux.nal_length"),
        (b"\0\0\0\0", "mux.empty"),
        (b"\0\0\0\1\x65" * 5000, "mux.nal_length"),
        (b"", "mux.empty"),
    ],
    ids=["past the end", "4 GiB", "half a length of zero", "half a length", "only an empty one", "too many", "no data"],
)
def test_a_picture_with_broken_nal_unit_lengths_is_dropped_and_counted(make, body: bytes, code: str) -> None:
    muxer = make([AVC])
    muxer.write(video(0, True))

    muxer.write(video(40, body=body))
    muxer.write(video(80))

    fragment = muxer.cut(last=True)
    assert fragment is not None
    assert (fragment.samples, muxer.odd) == (2, {code: 1})


def test_empty_nal_units_are_left_out_and_the_rest_stays() -> None:
    muxer = Fmp4Muxer([AVC])
    muxer.write(video(0, True, body=bytes(4) + nal(30, 0x65) + bytes(8) + nal(5, 0x06)))

    fragment = muxer.cut(last=True)

    assert fragment is not None
    (sample,) = boxreader.read(fragment.data)[1]
    assert sample.data == nal(30, 0x65) + nal(5, 0x06)


def test_captions_in_sei_pass_untouched() -> None:
    sei = nal(60, 0x06, 0xB5)  # user_data_registered_itu_t_t35 begins with B5
    muxers = Fmp4Muxer([AVC]), TsMuxer([AVC])
    for muxer in muxers:
        muxer.write(video(0, True, body=sei + nal(500, 0x65)))

    mp4, ts = (muxer.cut(last=True) for muxer in muxers)

    assert mp4 is not None
    assert ts is not None
    assert boxreader.read(mp4.data)[1][0].data == sei + nal(500, 0x65)
    assert sei[4:] in tsreader.read(ts.data).streams[0x100].units[0].payload


@pytest.mark.parametrize("size", [7_900_000, 16_000_000])
@pytest.mark.parametrize("make", [Fmp4Muxer, TsMuxer])
def test_a_giant_picture_goes_through(make, size: int) -> None:
    muxer = make([AVC])
    muxer.write(video(0, True, size=size))

    fragment = muxer.cut(last=True)

    assert fragment is not None
    if make is Fmp4Muxer:
        assert len(boxreader.read(fragment.data)[1][0].data) == size + 4
    else:
        assert len(tsreader.read(fragment.data).streams[0x100].units[0].payload) > size


def test_frames_nobody_cuts_are_bounded() -> None:
    muxer = Fmp4Muxer([AVC])
    muxer.pending_bytes = MAX_PENDING_BYTES + 1

    muxer.write(video(0, True))

    assert muxer.odd == {"mux.full": 1}
    assert muxer.cut(last=True) is None


def test_time_that_does_not_rise_is_dropped_and_counted() -> None:
    muxer = Fmp4Muxer([AVC])
    for dts in (100, 100, 50, 140):
        muxer.write(video(dts, dts == 100))

    fragment = muxer.cut(last=True)

    assert fragment is not None
    assert (fragment.samples, fragment.start_ms, muxer.odd) == (2, 100, {"mux.backwards": 2})


def test_other_tracks_headers_and_data_are_ignored_and_another_codec_is_counted() -> None:
    muxer = Fmp4Muxer([AVC])
    muxer.write(audio(0))
    muxer.write(Packet(MediaKind.DATA, 0, Codec.AMF, Role.METADATA, False, 0, 0, b"\2\0\1x", 0))
    muxer.write(Packet(MediaKind.VIDEO, 0, Codec.AVC, Role.HEADER, False, 0, 0, b"\x17\0\0\0\0", 5))
    muxer.write(video(0, True, codec=Codec.HEVC))

    assert muxer.cut(last=True) is None
    assert muxer.odd == {"mux.codec": 1}


def test_sound_counts_samples_although_milliseconds_round() -> None:
    muxer = Fmp4Muxer([AAC])

    fragments = mux(muxer, [packet for packet in programme(60) if packet.kind is MediaKind.AUDIO])

    samples = boxreader.read(b"".join(fragment.data for fragment in fragments))[1]
    assert {sample.duration for sample in samples} == {1024}
    assert sum(fragment.duration_ms for fragment in fragments) == pytest.approx(len(samples) * 1024 / 48, abs=0.01)


@pytest.mark.parametrize("drift", [1.01, 0.99])
def test_sound_that_drifts_stays_within_40_ms_of_its_timestamps(drift: float) -> None:
    muxer = Fmp4Muxer([AAC])
    times = [round(n * 1024 / 48 * drift) for n in range(2_000)]

    fragments = mux(muxer, [audio(time) for time in times])

    samples = boxreader.read(b"".join(fragment.data for fragment in fragments))[1]
    assert all(abs(sample.time / 48 - time) <= 41 for sample, time in zip(samples, times, strict=True))
    assert sum(sample.duration != 1024 for sample in samples) == pytest.approx(2_000 * 0.01 * 1024 / 48 / 40, rel=1)


def test_opus_packets_have_their_own_durations() -> None:
    muxer = Fmp4Muxer([OPUS])
    toc = {0xF8: 960, 0xF9: 1920, 0x50: 1920, 0xE8: 240, 0x18: 2880}  # CELT 20 ms, twice, SILK 40, CELT 5, SILK 60
    now, sent = 0.0, []
    for first, count in toc.items():
        sent.append((round(now), first, count))
        now += count / 48

    for dts, first, _ in sent:
        muxer.write(audio(dts, bytes((first, 1, 2)), codec=Codec.OPUS))
    fragment = muxer.cut(last=True)

    assert fragment is not None
    assert [sample.duration for sample in boxreader.read(fragment.data)[1]][:-1] == [count for _, _, count in sent][:-1]


def test_a_file_can_begin_its_time_at_the_keyframe_and_loses_no_earlier_sound() -> None:
    muxer = Fmp4Muxer([AVC, AAC], origin=1_000_000)
    feed = [video(1_000_000 + 40 * n, not n) for n in range(50)] + [audio(999_970 + n * 64 // 3) for n in range(90)]

    fragments = mux(muxer, sorted(feed, key=lambda packet: packet.dts))

    samples = boxreader.read(b"".join(fragment.data for fragment in fragments))
    assert samples[1][0].time == 0
    assert len(samples[2]) == 90
    assert samples[2][3].time / 48 == pytest.approx(999_970 + 64 - 1_000_000, abs=1)
    assert sum(one.duration for one in samples[2]) / 48 == pytest.approx(90 * 64 / 3 - 30, abs=1)


def test_video_alone_and_sound_alone_make_whole_files() -> None:
    for only in (AVC, AAC):
        feed = [packet for packet in programme(3) if packet.kind is only.kind]
        muxer = Fmp4Muxer([only])
        fragments = mux(muxer, feed)
        assert len(boxreader.read(muxer.init + b"".join(f.data for f in fragments))[1]) == len(feed)
        assert all(fragment.independent for fragment in fragments) is (only is AAC)


def test_when_pictures_stop_sound_goes_on_alone_and_time_stays_whole() -> None:
    muxer = Fmp4Muxer([AVC, AAC])
    feed = [packet for packet in programme(20) if packet.kind is MediaKind.AUDIO or not 5_000 < packet.dts < 15_000]
    found: list[Fragment] = []
    waits = []

    for packet in feed:
        muxer.write(packet)
        if muxer.pending_ms >= 200 and (fragment := muxer.cut()):
            found.append(fragment)
            waits.append(packet.dts - (found[-1].start_ms + found[-1].duration_ms))
    last = muxer.cut(last=True)
    assert last is not None

    times = [fragment.start_ms for fragment in found]
    assert max(two - one for one, two in pairwise(times)) < 2_500
    assert max(waits) < 2_100
    assert sum(f.duration_ms for f in [*found, last]) == pytest.approx(20_000, abs=50)


def test_sound_that_starts_30_s_later_is_not_waited_for() -> None:
    muxer = Fmp4Muxer([AVC, AAC])
    feed = [packet for packet in programme(32) if packet.kind is MediaKind.VIDEO or packet.dts >= 30_000]

    fragments = mux(muxer, feed)

    assert max(fragment.duration_ms for fragment in fragments) < 300
    samples = boxreader.read(b"".join(fragment.data for fragment in fragments))
    assert samples[2][0].time / 48 == pytest.approx(30_000, abs=22)


def test_pictures_that_start_30_s_later_are_not_waited_for_longer_than_2_s() -> None:
    muxer = Fmp4Muxer([AVC, AAC])
    feed = [packet for packet in programme(32) if packet.kind is MediaKind.AUDIO or packet.dts >= 30_000]

    fragments = mux(muxer, feed)

    assert max(fragment.duration_ms for fragment in fragments) < 2_300
    assert boxreader.read(b"".join(f.data for f in fragments))[1][0].time / 90 == 30_000


@pytest.mark.parametrize("name", ["ertmp_vp9.flv", "ertmp_ac3.flv", "ertmp_eac3.flv", "ertmp_mp3.flv"])
def test_the_init_segment_of_codecs_without_configuration_waits_for_the_first_frame(name: str) -> None:
    muxer = Fmp4Muxer(tracks(name).tracks)
    assert muxer.init == b""

    fragments = mux(muxer, packets(name))

    assert fragments
    assert muxer.init[4:8] == b"ftyp"


def test_a_track_that_never_says_what_it_is_is_given_up_after_2_s() -> None:
    ac3 = track(MediaKind.AUDIO, Codec.AC3, track_id=1)
    muxer = Fmp4Muxer([AVC, ac3])
    feed = [packet for packet in programme(4) if packet.kind is MediaKind.VIDEO]

    fragments = mux(muxer, feed)

    assert (muxer.tracks, muxer.odd) == ((AVC,), {"mux.late_track": 1})
    assert sum(fragment.samples for fragment in fragments) == len(feed)
    assert fragments[0].duration_ms >= 1_900
    assert set(boxreader.tracks(muxer.init)) == {1}


def test_vp9_begins_with_a_key_frame() -> None:
    vp9 = tracks("ertmp_vp9.flv").find(MediaKind.VIDEO)
    assert vp9 is not None
    feed = [packet for packet in packets("ertmp_vp9.flv") if packet.codec is Codec.VP9 and packet.role is Role.FRAME]
    others = [packet for packet in feed if not packet.keyframe]
    muxer = Fmp4Muxer([Track(kind=vp9.kind, track_id=0, codec=Codec.VP9)])  # without its header, too

    for packet in others:
        muxer.write(packet)
    assert (muxer.cut(), muxer.init) == (None, b"")
    muxer.write(replace(feed[0], dts=5_000))

    assert muxer.odd == {"mux.no_config": len(others)}
    (made,) = boxreader.tracks(muxer.init).values()
    assert (made.width, made.height) == (160, 90)
    assert made.config["vpcC"][4] == vp9.config[4]


def test_several_sounds_are_alternatives_of_which_the_first_is_enabled() -> None:
    second = track(MediaKind.AUDIO, Codec.AAC, AAC.config, 1)
    muxer = Fmp4Muxer([AVC, AAC, second, OPUS_3])

    info = boxreader.tracks(muxer.init)

    assert [one.enabled for one in info.values()] == [True, True, False, False]
    assert [one.entry for one in info.values()] == ["avc1", "mp4a", "mp4a", "Opus"]
    assert [one.scale for one in info.values()] == [90_000, 48_000, 48_000, 48_000]


OPUS_3 = track(MediaKind.AUDIO, Codec.OPUS, OPUS.config, 3)


def test_a_stream_of_ten_years_still_fits() -> None:
    start = 10 * 365 * 86_400_000
    muxer = Fmp4Muxer([AVC, AAC])

    fragments = mux(muxer, programme(2, start=start))

    samples = boxreader.read(b"".join(fragment.data for fragment in fragments))
    assert samples[1][0].time == start * 90 > 1 << 32


def test_a_hole_longer_than_a_duration_can_say_is_no_error() -> None:
    muxer = Fmp4Muxer([AVC])
    day = 86_400_000
    for n, dts in enumerate((0, day, day + 40, day + 80)):
        muxer.write(video(dts, not n))

    first = muxer.cut_before(video(2 * day, True))
    muxer.write(video(2 * day, True))
    last = muxer.cut(last=True)

    assert first is not None
    assert last is not None
    assert boxreader.read(last.data)[1][0].time == 2 * day * 90
    assert next(sample.duration for sample in boxreader.read(first.data)[1]) == 0xFFFF_FFFF


def test_colours_of_hdr_stand_in_the_sample_entry() -> None:
    muxer = Fmp4Muxer([track(MediaKind.VIDEO, Codec.HEVC, HVCC_HDR10)])

    config = boxreader.tracks(muxer.init)[1].config

    assert config["hvcC"] == hevc.complete(HVCC_HDR10)
    assert config["colr"] == b"nclx" + bytes((0, 9, 0, 16, 0, 9, 0))


def test_what_the_bitstream_does_not_say_of_colour_is_taken_from_color_info() -> None:
    plain = track(MediaKind.VIDEO, Codec.AV1, AV1C_HDR10)
    light = {"maxLuminance": 1000.0, "minLuminance": 0.005, "whitePointX": 0.3127, "whitePointY": 0.329}
    light |= {"redX": 0.708, "redY": 0.292, "greenX": 0.17, "greenY": 0.797, "blueX": 0.131, "blueY": 0.046}
    told = {
        "colorConfig": {"colorPrimaries": 9.0, "transferCharacteristics": 16.0, "matrixCoefficients": 1.0},
        "hdrCll": {"maxCLL": 1000.0, "maxFall": 400.0},
        "hdrMdcv": light,
    }
    side = Packet(MediaKind.VIDEO, 0, Codec.AV1, Role.SIDE, False, 0, 0, encode("colorInfo", told), 0)
    muxer = Fmp4Muxer([replace(plain, side=(side,))])

    config = boxreader.tracks(muxer.init)[1].config

    assert config["colr"] == b"nclx" + bytes((0, 9, 0, 16, 0, 9, 0))
    assert config["clli"] == (1000).to_bytes(2, "big") + (400).to_bytes(2, "big")
    assert unpack(">8H2I", config["mdcv"]) == (8500, 39850, 6550, 2300, 35400, 14600, 15635, 16450, 10_000_000, 50)
