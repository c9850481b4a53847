"""A picture or clip of the operator, encoded to fit one stream: what a slate may show instead of the last picture.

Imports the media floor. The rule it guards: it is made for exactly one decoder configuration and shown with no other.
The pictures carry the stream's own parameter sets by construction (`relay.media.h264_refit`, `hevc_refit`), and the
sound has the stream's own configuration or is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from relay.media import aac, flvfile, h264, h264_refit, hevc, hevc_refit
from relay.media import nal as nals
from relay.media.errors import MediaError
from relay.media.flv import FlvDemuxer
from relay.media.packets import Codec, MediaKind, Packet, Role, Track, TrackSet

MAX_KEYFRAME_MS = 1000
"""Who joins during a slate waits no longer than this."""

CODECS = (Codec.AVC, Codec.HEVC)


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames of one turn, in order, and how long the turn is.

    Attributes:
        config: the decoder configuration of the video track that it fits.
        sound_config: that of the audio track, empty when it has no sound.
        pictures: time in ms, whether it is a keyframe, coded bytes.
        sounds: time in ms, coded bytes.
        duration_ms: after so long it begins again.
    """

    config: bytes
    sound_config: bytes
    pictures: tuple[tuple[int, bool, bytes], ...]
    sounds: tuple[tuple[int, bytes], ...]
    duration_ms: int

    @property
    def nbytes(self) -> int:
        """Coded bytes."""
        return sum(len(coded) for *_, coded in self.pictures) + sum(len(coded) for _, coded in self.sounds)

    def fits(self, tracks: TrackSet) -> bool:
        """Whether a decoder that is set up for *tracks* may see it."""
        video = tracks.find(MediaKind.VIDEO)
        return video is not None and video.codec in CODECS and video.config == self.config

    def has_sound_for(self, track: Track) -> bool:
        """Whether its sound is for the decoder of *track*."""
        return bool(self.sounds) and track.track_id == 0 and track.config == self.sound_config


def why_not(tracks: TrackSet) -> str:
    """Say why no clip can be made for *tracks*; empty when it can be tried."""
    video = tracks.find(MediaKind.VIDEO)
    if video is None:
        return "the stream has no picture"
    if video.codec not in CODECS:
        return f"the stream is {video.codec.name}; a slate of your own can be made for H.264 and HEVC only"
    return ""


def make_clip(data: bytes, tracks: TrackSet, *, fps: float) -> Clip:
    """Make a clip for *tracks* of an FLV file that an encoder wrote. Raises `MediaError` when it cannot be."""
    video, sound = tracks.find(MediaKind.VIDEO), tracks.find(MediaKind.AUDIO)
    if video is None or why_not(tracks):
        raise MediaError("media.misfit", why_not(tracks))
    headers, pictures, sounds = _read(data)
    source = headers.get(MediaKind.VIDEO)
    if source is None or not pictures:
        raise MediaError("media.misfit", "the encoder made no picture")
    if source.codec is not video.codec:
        raise MediaError("media.misfit", "the encoder made another codec")
    refit = _refit(video.codec, source.payload, video.config)
    fitted = tuple(
        (round(number * 1000 / fps), packet.keyframe, refit(nals.split(packet.payload)))
        for number, packet in enumerate(pictures)
    )
    duration = round(len(fitted) * 1000 / fps)
    made, config = headers.get(MediaKind.AUDIO), b"" if sound is None else sound.config
    frames: tuple[tuple[int, bytes], ...] = ()
    if sound is not None and made is not None and sound.codec is Codec.AAC and same_sound(made.payload, config):
        step = 1024_000 / aac.parse_config(config).sample_rate
        count = min(len(sounds), int(duration / step))
        frames = tuple((int(number * step), packet.payload) for number, packet in enumerate(sounds[:count]))
    return Clip(video.config, config if frames else b"", fitted, frames, duration)


def _refit(codec: Codec, source: bytes, target: bytes) -> Callable[[Iterable[bytes]], bytes]:
    """Return what rewrites pictures of the configuration *source* for *target*."""
    if codec is Codec.HEVC:
        size = hevc.parse_config(target).length_size
        ours = hevc_refit.Parameters.of(source, hevc_refit.OUR_PROFILES)
        theirs = hevc_refit.Parameters.of(target)
        return hevc_refit.Refit(ours, theirs, length_size=size).picture
    size = h264.parse_config(target).length_size
    one, other = h264_refit.Parameters.of(source), h264_refit.Parameters.of(target)
    return h264_refit.Refit(one, other, length_size=size).picture


def same_sound(made: bytes, wanted: bytes) -> bool:
    """Whether frames of an AAC encoder with the configuration *made* are for a decoder with *wanted*."""
    try:
        one, other = aac.parse_config(made), aac.parse_config(wanted)
    except MediaError:
        return False
    return one == other


def _read(data: bytes) -> tuple[dict[MediaKind, Packet], list[Packet], list[Packet]]:
    """Return the sequence headers, pictures and frames of sound in an FLV file."""
    demuxer = FlvDemuxer()
    headers: dict[MediaKind, Packet] = {}
    frames: dict[MediaKind, list[Packet]] = {MediaKind.VIDEO: [], MediaKind.AUDIO: []}
    for tag in flvfile.read(data):
        for packet in demuxer.read_many(tag.type_id, tag.timestamp, tag.body):
            if packet.role is Role.HEADER:
                headers.setdefault(packet.kind, packet)
            elif packet.role is Role.FRAME and packet.kind in frames:
                frames[packet.kind].append(packet)
    return headers, frames[MediaKind.VIDEO], frames[MediaKind.AUDIO]
