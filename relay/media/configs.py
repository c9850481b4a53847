"""One door to the decoder configurations of all codecs: is it usable, what does it say, how is it called (RFC 6381)."""

from __future__ import annotations

from collections.abc import Callable

from relay.media import aac, ac3, av1, flac, h264, hevc, mp3, nal, opus, vp9
from relay.media.errors import MediaError, bad_config
from relay.media.facts import AudioFacts, VideoFacts
from relay.media.packets import Codec, Track

NEEDS_HEADER = frozenset({Codec.AVC, Codec.HEVC, Codec.VVC, Codec.AV1, Codec.AAC, Codec.OPUS, Codec.FLAC})
"""Codecs that nobody can decode, or put into a file, without their sequence header."""

_CHECKS: dict[Codec, Callable[[bytes], None]] = {
    Codec.AVC: h264.check,
    Codec.HEVC: hevc.check,
    Codec.AV1: av1.check,
    Codec.VP8: vp9.check,
    Codec.VP9: vp9.check,
    Codec.AAC: aac.check,
    Codec.OPUS: opus.check,
    Codec.FLAC: flac.check,
}
_VIDEO_FACTS: dict[Codec, Callable[[bytes], VideoFacts | None]] = {
    Codec.AVC: h264.facts,
    Codec.HEVC: hevc.facts,
    Codec.AV1: av1.facts,
}
_AUDIO_FACTS: dict[Codec, Callable[[bytes], AudioFacts]] = {
    Codec.AAC: aac.facts,
    Codec.OPUS: opus.facts,
    Codec.FLAC: flac.facts,
}
_STRINGS: dict[Codec, Callable[[bytes], str]] = {
    Codec.AVC: h264.codec_string,
    Codec.HEVC: hevc.codec_string,
    Codec.AV1: av1.codec_string,
    Codec.VP9: vp9.codec_string,
    Codec.VP8: lambda record: vp9.codec_string(record, "vp08"),
    Codec.AAC: aac.codec_string,
    Codec.OPUS: lambda _: "Opus",
    Codec.FLAC: lambda _: "fLaC",
    Codec.AC3: lambda _: "ac-3",
    Codec.EAC3: lambda _: "ec-3",
    Codec.MP3: lambda _: "mp4a.40.34",
}


def check(codec: Codec, record: bytes) -> None:
    """Raise `MediaError` when *record* cannot configure a decoder of *codec*."""
    verify = _CHECKS.get(codec)
    if verify is not None:
        verify(record)
    elif codec in NEEDS_HEADER and not record:
        raise bad_config("empty configuration")


def repair(codec: Codec, record: bytes) -> bytes | None:
    """Make a record from one that came as Annex B parameter sets; None when that is not what is wrong with it."""
    if not record.startswith((nal.START_CODE, nal.START_CODE[1:])):
        return None
    try:
        return from_units(codec, nal.split_annexb(record))
    except MediaError:
        return None


def from_units(codec: Codec, units: list[bytes]) -> bytes | None:
    """Make a record from the parameter sets among NAL *units*, None when some are missing or unusable."""
    try:
        if codec is Codec.AVC:
            return h264.config_from_nals(units)
        if codec is Codec.HEVC:
            return hevc.config_from_nals(units)
    except MediaError:
        pass
    return None


def from_keyframe(codec: Codec, payload: bytes) -> bytes | None:
    """Make a record from the parameter sets inside a keyframe, None when they are not there (or not usable)."""
    try:
        if codec is Codec.AV1:
            return av1.config_from_obus(payload)
        return from_units(codec, nal.split(payload))
    except MediaError:
        return None


def same(codec: Codec, one: bytes, other: bytes) -> bool:
    """Whether two records configure the same decoder. Bytes decide, but for FLAC (see `flac.same_decoder`)."""
    return one == other or (codec is Codec.FLAC and flac.same_decoder(one, other))


def video_facts(track: Track) -> VideoFacts | None:
    """Return what a video track's configuration says; None when it says nothing (VP9: see `vp9.frame_facts`)."""
    read = _VIDEO_FACTS.get(track.codec)
    try:
        return read(track.config) if read is not None else None
    except MediaError:
        return None


def audio_facts(track: Track, first_frame: bytes = b"") -> AudioFacts | None:
    """Return what an audio track's configuration says; AC-3 and MP3 have none and are read from *first_frame*."""
    try:
        if track.codec is Codec.MP3:
            return mp3.facts(first_frame)
        if track.codec in (Codec.AC3, Codec.EAC3):
            return ac3.facts(first_frame)
        read = _AUDIO_FACTS.get(track.codec)
        return read(track.config) if read is not None else None
    except MediaError:
        return None


def codec_string(track: Track) -> str | None:
    """Return the RFC 6381 string of a track for playlists; None when the codec has none or lacks its configuration."""
    name = _STRINGS.get(track.codec)
    try:
        return name(track.config) if name is not None else None
    except MediaError:
        return None
