"""The track table: what counts as a change, and which frames can be decoded."""

from __future__ import annotations

import pytest

from relay.media.packets import Codec, MediaKind, Packet, Role
from relay.media.tracks import MAX_SIDE, MAX_TRACKS, TrackTable
from tests.media import samples

AUDIO, VIDEO, DATA = MediaKind.AUDIO, MediaKind.VIDEO, MediaKind.DATA


def packet(
    codec: Codec, role: Role = Role.FRAME, payload: bytes = b"x", *, kind: MediaKind = VIDEO, track: int = 0
) -> Packet:
    return Packet(kind, track, codec, role, False, 0, 0, payload, 0)


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("ertmp_h264.flv", [(VIDEO, 0, Codec.AVC), (AUDIO, 0, Codec.AAC)]),
        ("ertmp_mp3.flv", [(AUDIO, 0, Codec.MP3)]),
        ("ertmp_ac3.flv", [(AUDIO, 0, Codec.AC3)]),
        (
            "ertmp_multitrack.flv",
            [(VIDEO, 0, Codec.AVC), (VIDEO, 1, Codec.AVC), (AUDIO, 0, Codec.AAC), (AUDIO, 1, Codec.AAC)],
        ),
    ],
)
def test_tracks_of_the_corpus(name, listed):
    table = TrackTable()
    changes = sum(table.see(item) for item in samples.packets(name))

    assert [(t.kind, t.track_id, t.codec) for t in table.tracks.tracks] == listed
    assert changes == table.tracks.generation == len(listed)
    assert table.tracks.metadata is not None


def test_a_joining_player_gets_metadata_then_headers_then_side_packets():
    table = TrackTable()
    for item in samples.packets("ertmp_hevc.flv"):
        table.see(item)

    assert [(p.kind, p.role) for p in table.tracks.opening()] == [
        (DATA, Role.METADATA),
        (VIDEO, Role.HEADER),
        (VIDEO, Role.SIDE),
        (AUDIO, Role.HEADER),
    ]


@pytest.mark.parametrize("codec", [Codec.AVC, Codec.HEVC, Codec.AV1, Codec.VVC, Codec.AAC, Codec.OPUS, Codec.FLAC])
def test_frames_before_their_sequence_header_are_not_ready(codec):
    table = TrackTable()
    before = table.see(packet(codec)), table.ready(packet(codec)), table.tracks.tracks
    changed = table.see(packet(codec, Role.HEADER))

    assert before == (False, False, ())
    assert changed
    assert table.ready(packet(codec))
    assert not table.ready(packet(codec, track=1))


@pytest.mark.parametrize("codec", [Codec.MP3, Codec.G711A, Codec.VP9, Codec.AC3])
def test_codecs_without_sequence_header_are_ready_with_their_first_frame(codec):
    table = TrackTable()

    assert table.see(packet(codec))
    assert not table.see(packet(codec))
    assert table.ready(packet(codec))
    assert table.tracks.tracks[0].config == b""


def test_a_repeated_identical_header_is_no_change():
    table = TrackTable()
    results = [table.see(packet(Codec.AVC, Role.HEADER, payload)) for payload in (b"one", b"one", b"two", b"two")]

    assert results == [True, False, True, False]
    assert table.tracks.generation == 2
    assert table.tracks.tracks[0].config == b"two"


def test_the_final_flac_header_is_no_change():
    table = TrackTable()
    headers = [p for p in samples.packets("ertmp_flac.flv") if p.role is Role.HEADER]

    assert [table.see(header) for header in headers] == [True, False]


def test_a_codec_change_begins_the_track_anew():
    table = TrackTable()
    table.see(packet(Codec.AVC, Role.HEADER))
    table.see(packet(Codec.AVC, Role.SIDE, b"\x02\x00\x01a"))
    early = table.see(packet(Codec.HEVC)), table.ready(packet(Codec.HEVC)), table.ready(packet(Codec.AVC))
    changed = table.see(packet(Codec.HEVC, Role.HEADER))

    assert early == (False, False, True)
    assert changed
    assert not table.ready(packet(Codec.AVC))
    (track,) = table.tracks.tracks
    assert (track.codec, track.side, table.tracks.generation) == (Codec.HEVC, (), 2)


def test_a_codec_that_needs_no_header_replaces_one_that_does():
    table = TrackTable()
    table.see(packet(Codec.AAC, Role.HEADER, kind=AUDIO))

    assert table.see(packet(Codec.MP3, kind=AUDIO))
    assert [t.codec for t in table.tracks.tracks] == [Codec.MP3]


def test_side_packets_are_kept_by_name_and_are_no_change():
    table = TrackTable()
    table.see(packet(Codec.HEVC, Role.HEADER))
    changes = [table.see(packet(Codec.HEVC, Role.SIDE, body)) for body in (b"\x02\x00\x01a1", b"\x02\x00\x01b1")]
    changes.append(table.see(packet(Codec.HEVC, Role.SIDE, b"\x02\x00\x01a2")))

    assert not any(changes)
    assert [side.payload[-2:] for side in table.tracks.tracks[0].side] == [b"a2", b"b1"]
    assert table.tracks.generation == 1


def test_a_side_packet_may_come_before_its_sequence_header():
    table = TrackTable()
    early = table.see(packet(Codec.HEVC, Role.SIDE, b"\x02\x00\x01a")), table.tracks.tracks
    table.see(packet(Codec.HEVC, Role.HEADER))
    without = table.see(packet(Codec.AC3, Role.SIDE, kind=AUDIO))

    assert early == (False, ())
    assert [len(track.side) for track in table.tracks.tracks] == [1, 1]
    assert without


@pytest.mark.parametrize(("names", "kept"), [(MAX_SIDE, MAX_SIDE), (MAX_SIDE + 1, MAX_SIDE)])
def test_the_number_of_side_packets_is_bounded(names, kept):
    table = TrackTable()
    table.see(packet(Codec.HEVC, Role.HEADER))
    for index in range(names):
        table.see(packet(Codec.HEVC, Role.SIDE, b"\x02\x00\x01" + bytes((index,))))

    assert len(table.tracks.tracks[0].side) == kept


@pytest.mark.parametrize(("count", "kept"), [(MAX_TRACKS, MAX_TRACKS), (MAX_TRACKS + 1, MAX_TRACKS)])
def test_the_number_of_tracks_is_bounded(count, kept):
    table = TrackTable()
    for index in range(count):
        table.see(packet(Codec.AVC, Role.HEADER, track=index))

    assert len(table.tracks.tracks) == kept
    assert table.ready(packet(Codec.AVC, track=count - 1)) is (count == kept)


def test_metadata_is_replaced_without_a_new_generation():
    table = TrackTable()
    first, second = packet(Codec.AMF, Role.METADATA, kind=DATA), packet(Codec.AMF, Role.METADATA, kind=DATA)
    table.see(first)
    before = table.tracks
    table.see(second)

    assert before.metadata is first
    assert table.tracks.metadata is second
    assert table.tracks.generation == before.generation == 0


@pytest.mark.parametrize("role", [Role.END, Role.OTHER, Role.SIDE, Role.METADATA])
def test_what_is_no_frame_is_always_ready(role):
    assert TrackTable().ready(packet(Codec.AVC, role))
