"""MPEG audio frame headers."""

from __future__ import annotations

import pytest

from relay.media import configs, mp3
from relay.media.errors import MediaError
from relay.media.packets import Codec, MediaKind, Role, Track
from tests.media import samples


@pytest.mark.parametrize(
    ("head", "rate", "channels", "frame"),
    [
        ("fffb9064", 44_100, 2, 1152),  # MPEG-1 layer III, joint stereo
        ("fffb54c4", 48_000, 1, 1152),  # mono
        ("fff36064", 22_050, 2, 576),  # MPEG-2 layer III
        ("ffe36864", 8_000, 2, 576),  # MPEG-2.5
        ("fffd9004", 44_100, 2, 1152),  # layer II
        ("ffff9004", 44_100, 2, 384),  # layer I
        ("fff59804", 16_000, 2, 1152),  # MPEG-2 layer II
    ],
)
def test_a_header_says_rate_channels_and_length(head: str, rate: int, channels: int, frame: int) -> None:
    facts = mp3.facts(bytes.fromhex(head))

    assert (facts.sample_rate, facts.channels, facts.samples_per_frame) == (rate, channels, frame)


@pytest.mark.parametrize("head", ["", "fffb90", "fff39c64", "ffeb9064", "fff99064", "00fb9064", "494433"])
def test_what_is_no_header_is_refused(head: str) -> None:
    with pytest.raises(MediaError) as caught:
        mp3.facts(bytes.fromhex(head))

    assert caught.value.code == "media.bad_frame"


def test_the_first_frame_of_a_track_is_its_configuration() -> None:
    frame = next(packet for packet in samples.packets("ertmp_mp3.flv") if packet.role is Role.FRAME)
    track = Track(kind=MediaKind.AUDIO, track_id=0, codec=Codec.MP3)

    facts = configs.audio_facts(track, frame.payload)

    assert facts == mp3.facts(frame.payload)
    assert configs.audio_facts(track, b"") is None
