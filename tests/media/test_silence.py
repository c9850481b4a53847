"""Silence that a decoder takes for its own."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from relay.media import aac
from relay.media.packets import Codec, MediaKind, Packet, Role, Track
from relay.media.silence import silence_for


def track(codec: Codec, config: bytes) -> Track:
    header = Packet(MediaKind.AUDIO, 0, codec, Role.HEADER, False, 0, 0, b"\xaf\x00" + config, 2)
    return Track(kind=MediaKind.AUDIO, track_id=0, codec=codec, header=header)


def opus_head(channels: int, family: int = 0, mapping: bytes = b"") -> bytes:
    return b"OpusHead\x01" + bytes((channels,)) + bytes(8) + bytes((family,)) + mapping


def test_known_frames() -> None:
    mono = silence_for(track(Codec.AAC, aac.build_config(2, 4, 1)))
    stereo = silence_for(track(Codec.AAC, aac.build_config(2, 3, 2)))

    assert mono is not None
    assert stereo is not None
    assert mono.payload == bytes.fromhex("00c80007")
    assert stereo.payload == bytes.fromhex("21000320641c")
    assert mono.duration == Fraction(1024_000, 44_100)
    assert stereo.duration == Fraction(64, 3)


@pytest.mark.parametrize(("channels", "payload"), [(1, b"\xf8\xff\xfe"), (2, b"\xfc\xff\xfe")])
def test_opus_silence_is_twenty_milliseconds(channels: int, payload: bytes) -> None:
    silence = silence_for(track(Codec.OPUS, opus_head(channels)))

    assert silence is not None
    assert (silence.payload, silence.duration) == (payload, 20)


@pytest.mark.parametrize(
    ("codec", "config"),
    [
        (Codec.AAC, aac.build_config(1, 3, 2)),
        (Codec.AAC, b""),
        (Codec.AAC, b"\xff"),
        (Codec.OPUS, opus_head(6, 1, bytes((4, 2, 0, 4, 1, 2, 3, 5)))),
        (Codec.OPUS, b"no"),
        (Codec.MP3, b""),
        (Codec.FLAC, bytes(34)),
    ],
)
def test_what_cannot_be_made_is_not_guessed(codec: Codec, config: bytes) -> None:
    assert silence_for(track(codec, config)) is None


@pytest.mark.parametrize("channel_config", range(1, 8))
def test_a_decoder_hears_nothing(channel_config: int, tmp_path: Path) -> None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("needs ffmpeg: apt install ffmpeg")
    config = aac.build_config(2, 3, channel_config)
    silence = silence_for(track(Codec.AAC, config))
    assert silence is not None
    file = tmp_path / "silence.aac"
    file.write_bytes((aac.adts_header(config, len(silence.payload)) + silence.payload) * 10)

    command = [ffmpeg, "-v", "error", "-xerror", "-f", "aac", "-i", file, "-f", "s16le", "-"]
    heard = subprocess.run(command, capture_output=True, timeout=20)

    assert (heard.returncode, heard.stderr) == (0, b"")
    channels = aac.parse_config(config).channels
    assert heard.stdout == bytes(10 * 1024 * 2 * channels)
