"""The FLV container: whole, in pieces, cut off, and not FLV at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media import flvfile
from relay.media.errors import MediaError
from relay.media.flvfile import FlvReader, Tag
from tests.media import samples

TAGS = st.lists(
    st.builds(Tag, st.sampled_from([8, 9, 18]), st.integers(0, 2**31 - 1), st.binary(max_size=40)), max_size=6
)


@pytest.mark.parametrize("name", samples.FLV_FILES)
def test_a_file_written_from_its_tags_is_the_same(name):
    data = (samples.CORPUS / name).read_bytes()
    audio, video = bool(data[4] & 4), bool(data[4] & 1)
    written = flvfile.file_header(audio=audio, video=video) + b"".join(
        flvfile.tag(tag.type_id, tag.timestamp, tag.body) for tag in samples.tags(name)
    )

    assert written == data


@given(TAGS, st.integers(1, 50))
def test_tags_come_back_whatever_the_pieces(tags, size):
    data = flvfile.file_header() + b"".join(flvfile.tag(tag.type_id, tag.timestamp, tag.body) for tag in tags)
    reader = FlvReader()
    found = [tag for at in range(0, len(data), size) for tag in reader.receive(data[at : at + size])]

    assert found == tags


def test_a_file_cut_off_anywhere_gives_its_complete_tags():
    data = (samples.CORPUS / "ertmp_mp3.flv").read_bytes()
    whole = flvfile.read(data)
    for length in range(len(data)):
        found = flvfile.read(data[:length])
        assert found == whole[: len(found)]
    assert len(whole) == 22


@pytest.mark.parametrize("data", [b"X", b"FLx", b"RTMP" + bytes(9), b"FLV\x01\x05\x00\x00\x00\x08" + bytes(9)])
def test_what_is_no_flv_file_raises(data):
    with pytest.raises(MediaError) as caught:
        flvfile.read(data)
    assert caught.value.code == "media.not_flv"


@pytest.mark.parametrize(("offset", "fits"), [(9, True), (1024, True), (1025, False)])
def test_the_file_header_may_be_longer_within_a_bound(offset, fits):
    data = b"FLV\x01\x05" + offset.to_bytes(4, "big") + bytes(offset - 9 + 4) + flvfile.tag(8, 5, b"x")
    if fits:
        assert flvfile.read(data) == [Tag(8, 5, b"x")]
    else:
        with pytest.raises(MediaError):
            flvfile.read(data)


@pytest.mark.parametrize("time", [0xFFFFFF, 0x1000000, 2**31 - 1, 2**31, 2**31 + 5])
def test_timestamps_use_31_bits(time):
    (tag,) = flvfile.read(flvfile.file_header() + flvfile.tag(9, time, b"x"))

    assert tag.timestamp == time % 2**31


def test_a_recording_starts_at_zero():
    packets = samples.packets("ertmp_h264.flv")
    for packet in packets:
        packet.dts += 5000
    tags = flvfile.read(flvfile.file_header() + b"".join(flvfile.packet_tag(packet, 5000) for packet in packets))

    assert tags == list(samples.tags("ertmp_h264.flv"))
    assert flvfile.read(flvfile.write(packets))[0].timestamp == 5000


def test_a_body_of_24_bits_is_the_longest():
    with pytest.raises(MediaError):
        flvfile.tag(9, 0, bytes(2**24))
    assert len(flvfile.tag(9, 0, bytes(2**24 - 1))) == 2**24 + 14
