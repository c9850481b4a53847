"""Does another feed's picture fit where the one before stopped? And what may a sink do when it does not?

Imports the media floor. The rule it guards: whatever the answer, new headers go in front of the first frame that needs
them (`Stream.adopt`); a decoder is never given frames of parameters that it does not know.

The seam for policies per sink: every change of configuration raises `TrackSet.generation`; a sink that keeps the
TrackSet it had can ask `compatibility` what the change means to it. Sinks that ask nothing go on inline, with the new
headers.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from relay.media import configs
from relay.media import nal as nals
from relay.media.errors import MediaError
from relay.media.packets import Codec, MediaKind, Packet, Track, TrackSet
from relay.stream.tracksets import configuration


class Compatibility(IntEnum):
    """How far two sets of tracks agree; the higher, the more a receiver has to cope with."""

    SAME = 0
    """Equal parameter sets: bit-exact continuation."""
    HEADERS = 1
    """The same codecs and picture size in other parameters: new sequence headers suffice."""
    CLASS = 2
    """Another codec, picture size, sampling rate or set of tracks: many platforms need a new connection."""


def compatibility(before: TrackSet, after: TrackSet) -> Compatibility:
    """Return what a decoder that is set up for *before* must do for *after*."""
    if configuration(before) == configuration(after):
        return Compatibility.SAME
    if {_class(track) for track in before.tracks} == {_class(track) for track in after.tracks}:
        return Compatibility.HEADERS
    return Compatibility.CLASS


def strays(recent: Iterable[Packet], tracks: TrackSet) -> bool:
    """Whether decoders of *tracks* hold parameter sets that came within the pictures and differ from the header's.

    *recent* begins with the newest keyframe. An encoder that repeats its header in front of keyframes does no harm;
    one that changes it there alone leaves behind a decoder that the header does not describe.
    """
    keyframe = next((packet for packet in recent if packet.keyframe), None)
    track = None if keyframe is None else tracks.find(keyframe.kind, keyframe.track)
    if keyframe is None or track is None:
        return False
    return any(unit not in track.config for unit in parameter_sets(keyframe))


def parameter_sets(packet: Packet) -> list[bytes]:
    """Return the parameter sets within a picture."""
    try:
        units = nals.split(packet.payload)
    except MediaError:
        return []
    if packet.codec is Codec.AVC:
        return [unit for unit in units if unit[0] & 0x1F in (7, 8)]
    if packet.codec is Codec.HEVC:
        return [unit for unit in units if unit[0] >> 1 & 0x3F in (32, 33, 34)]
    return []


def _class(track: Track) -> tuple[object, ...]:
    if track.kind is MediaKind.VIDEO:
        video = configs.video_facts(track)
        size = None if video is None else (video.width, video.height, video.bit_depth, video.chroma_format)
        return (track.kind, track.track_id, track.codec, size)
    audio = configs.audio_facts(track)
    sound = None if audio is None else (audio.sample_rate, audio.channels)
    return (track.kind, track.track_id, track.codec, sound)
