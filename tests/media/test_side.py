"""colorInfo, channel layouts and the nanosecond offset of ModEx."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import amf0
from relay.media import enhanced, side
from relay.media.flv import FlvDemuxer
from relay.media.packets import MediaKind, Packet, Role
from relay.media.side import ChannelLayout, ColorInfo
from tests.media import samples


def video_side(*values: amf0.Value) -> Packet:
    packet = FlvDemuxer().read(9, 0, b"\x84hvc1" + amf0.encode(*values))
    assert packet is not None
    return packet


def audio_side(payload: bytes) -> Packet:
    packet = FlvDemuxer().read(8, 0, b"\x94Opus" + payload)
    assert packet is not None
    return packet


def test_hdr10_color_info_is_read():
    mastering = {"redX": 0.68, "redY": 0.32, "maxLuminance": 1000.0, "minLuminance": 0.01}
    config = {"bitDepth": 10.0, "colorPrimaries": 9.0, "transferCharacteristics": 16.0, "matrixCoefficients": 9.0}
    info = side.color_info(
        video_side(
            "colorInfo", {"colorConfig": config, "hdrCll": {"maxFall": 100.0, "maxCLL": 800.0}, "hdrMdcv": mastering}
        )
    )

    assert info == ColorInfo(
        bit_depth=10,
        primaries=9,
        transfer=16,
        matrix=9,
        max_cll=800,
        max_fall=100,
        mastering=(0.68, 0.32, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1000.0, 0.01),
    )


@pytest.mark.parametrize("name", ["ertmp_hevc.flv", "ertmp_av1.flv", "ertmp_vp9.flv"])
def test_the_empty_color_info_of_ffmpeg_says_nothing(name):
    (packet,) = [p for p in samples.packets(name) if p.role is Role.SIDE]

    assert side.color_info(packet) is None


@pytest.mark.parametrize(
    "values",
    [
        ("colorInfo",),
        ("colorInfo", None),
        ("otherInfo", {"colorConfig": {"colorPrimaries": 9.0}}),
        ("colorInfo", {"colorConfig": 5.0}),
        ("colorInfo", {"colorConfig": {"colorPrimaries": float("nan"), "bitDepth": 1e300}}),
    ],
)
def test_color_info_that_cannot_be_believed_says_nothing(values):
    assert side.color_info(video_side(*values)) is None


@given(st.binary(min_size=1, max_size=40))
def test_arbitrary_side_packets_never_raise(data):
    for payload in (data, amf0.encode("colorInfo") + data):
        packet = FlvDemuxer().read(9, 0, b"\x84hvc1" + payload)
        assert packet is not None
        side.color_info(packet)
        side.channel_layout(packet)
        side.channel_layout(audio_side(payload))


@pytest.mark.parametrize(
    ("payload", "layout"),
    [
        (b"\x01\x02\x00\x00\x00\x03", ChannelLayout(order=1, channels=2, flags=3)),
        (b"\x02\x03\x00\x01\x02tail", ChannelLayout(order=2, channels=3, mapping=b"\x00\x01\x02")),
        (b"\x00\x08", ChannelLayout(order=0, channels=8)),
        (b"\x01\x02\x00\x00\x00", None),
        (b"\x02\x03\x00\x01", None),
        (b"\x01", None),
    ],
)
def test_channel_layouts(payload, layout):
    assert side.channel_layout(audio_side(payload)) == layout


def test_only_side_packets_of_the_right_kind_are_read():
    frame = next(p for p in samples.packets("ertmp_h264.flv") if p.kind is MediaKind.VIDEO)

    assert side.color_info(frame) is None
    assert side.channel_layout(frame) is None
    assert side.color_info(audio_side(b"\x00\x02")) is None


@pytest.mark.parametrize(
    ("body", "video", "nanos"),
    [
        (b"\xa7\x02\x0f\x42\x3f\x03av01x", True, 999_999),
        (b"\x97\x02\x00\x00\x05\x01Opusx", False, 5),
        (b"\x97\x00\x09\x17\x02\x00\x00\x05\x01Opusx", False, 5),
        (b"\xa7\x02\x00\x00\x05\x13av01x", True, 0),
        (b"\xa3av01x", True, 0),
        (b"\x27\x01\x00\x00\x00x", True, 0),
        (b"\xa7\x02\x00", True, 0),
        (b"", True, 0),
    ],
)
def test_the_nanosecond_offset_of_modex(body, video, nanos):
    assert enhanced.nano_offset(body, video=video) == nanos
