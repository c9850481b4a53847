"""What a stream asks of a TrackSet: does a decoder notice the difference, and what may still come.

Imports packets. The rule it guards: functions only, and nothing that was published is changed.
"""

from __future__ import annotations

from dataclasses import replace

from relay.media.metadata import metadata_values
from relay.media.packets import Codec, MediaKind, Packet, Track, TrackSet

AUDIO = MediaKind.AUDIO
VIDEO = MediaKind.VIDEO


def announced_kinds(metadata: Packet) -> set[MediaKind]:
    """Return the kinds of track that the encoder says it will send; empty when it does not say."""
    values = metadata_values(metadata)
    return {kind for name, kind in (("videocodecid", VIDEO), ("audiocodecid", AUDIO)) if name in values}


def configuration(tracks: TrackSet) -> dict[tuple[MediaKind, int], tuple[Codec, bytes, tuple[bytes, ...]]]:
    """Return what decides whether a decoder can go on: codec, sequence header and side information of every track."""
    return {
        (track.kind, track.track_id): (
            track.codec,
            track.header.body if track.header is not None else b"",
            tuple(packet.body for packet in track.side),
        )
        for track in tracks.tracks
    }


def only_adds(before: TrackSet, after: TrackSet) -> bool:
    """Return whether what was known stays as it is, so that cached packets can still be decoded."""
    new = configuration(after)
    return all(new.get(key) == value for key, value in configuration(before).items() if value[1])


def restamped(tracks: TrackSet, dts: int) -> TrackSet:
    """Return *tracks* with every header at *dts*: they still carry the times of the feed they come from."""

    def moved(track: Track) -> Track:
        header = None if track.header is None else replace(track.header, dts=dts)
        return replace(track, header=header, side=tuple(replace(packet, dts=dts) for packet in track.side))

    metadata = None if tracks.metadata is None else replace(tracks.metadata, dts=dts)
    return replace(tracks, tracks=tuple(map(moved, tracks.tracks)), metadata=metadata)
