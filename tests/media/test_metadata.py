"""onMetaData: read, built, with and without @setDataFrame, and named codecs of every kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media import metadata
from relay.media.packets import Codec, MediaKind, Role, TrackSet
from relay.media.tracks import TrackTable
from tests.media import samples

AUDIO, VIDEO = MediaKind.AUDIO, MediaKind.VIDEO


def tracks(name: str) -> TrackSet:
    table = TrackTable()
    for packet in samples.packets(name):
        table.see(packet)
    return table.tracks


@given(st.dictionaries(st.text(max_size=10), st.one_of(st.floats(allow_nan=False), st.booleans(), st.text(max_size=9))))
def test_built_metadata_is_read_back(values):
    packet = metadata.packet(values, 5)

    assert metadata.metadata_values(packet) == values
    assert (packet.role, packet.dts, packet.kind) == (Role.METADATA, 5, MediaKind.DATA)
    assert metadata.canonical(packet.body) == (b"onMetaData", packet.body)


def test_set_data_frame_is_put_on_and_off_once():
    bare = metadata.build({"width": 160.0})
    dressed = metadata.for_servers(bare)

    assert dressed == b"\x02\x00\x0d@setDataFrame" + bare
    assert metadata.for_servers(dressed) == dressed
    assert metadata.for_players(dressed) == metadata.for_players(bare) == bare


@given(st.binary(max_size=60))
def test_arbitrary_data_messages_never_raise(data):
    for payload in (data, metadata.SET_DATA_FRAME + data, b"\x02\x00\x0aonMetaData" + data):
        name, body = metadata.canonical(payload)
        assert payload.endswith(body)
        assert len(name) <= len(payload)
        packet = metadata.packet({})
        packet.body = payload
        assert isinstance(metadata.metadata_values(packet), dict)


@pytest.mark.parametrize(("count", "name"), [(0, b"onMetaData"), (4, b"onMetaData"), (5, b"")])
def test_at_most_four_numbers_may_stand_in_front(count, name):
    assert metadata.canonical((b"\x00" + bytes(8)) * count + metadata.build({}))[0] == name


@pytest.mark.parametrize(
    ("kind", "value", "codec"),
    [
        (VIDEO, 7.0, Codec.AVC),
        (VIDEO, 12.0, Codec.HEVC),
        (VIDEO, 1752589105.0, Codec.HEVC),
        (VIDEO, 1635135537.0, Codec.AV1),
        (VIDEO, 1987063865.0, Codec.VP9),
        (VIDEO, "hvc1", Codec.HEVC),
        (VIDEO, "avc1", Codec.AVC),
        (AUDIO, 10.0, Codec.AAC),
        (AUDIO, 1332770163.0, Codec.OPUS),
        (AUDIO, "mp4a", Codec.AAC),
        (VIDEO, "nonsense", None),
        (VIDEO, -1.0, None),
        (VIDEO, float("nan"), None),
        (AUDIO, 2.0**40, None),
        (AUDIO, True, None),
        (AUDIO, None, None),
    ],
)
def test_codec_ids_of_every_kind_are_understood(kind, value, codec):
    assert metadata.codec_named(kind, value) is codec


@pytest.mark.parametrize("name", ["ertmp_h264.flv", "ertmp_hevc.flv", "ertmp_av1.flv"])
def test_what_we_describe_agrees_with_what_ffmpeg_wrote(name):
    written = metadata.metadata_values(samples.packets(name)[0])
    described = metadata.describe(tracks(name))

    assert {"videocodecid", "width", "height", "audiocodecid", "audiosamplerate", "stereo"} <= described.keys()
    for key in described.keys() & written.keys():
        assert described[key] == written[key], key


def test_nothing_is_described_of_nothing():
    assert metadata.describe(TrackSet()) == {}
