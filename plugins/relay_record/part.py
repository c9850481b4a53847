"""One file of a recording as the reactor's thread sees it: packets go in, bytes go to the archive.

The rule it guards: the first file time is that of the earliest frame. Sound that belongs before the keyframe a file
begins with may arrive after it, so the packets of the first moments wait until the first flush.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.api import MediaKind, Packet, Role, Track, TrackSet, codec_string

from .archive import Archive
from .forms import Form, format_for
from .names import SUFFIXES
from .partfile import PartFacts, PartFile, Recording, TrackFacts

VIDEO = MediaKind.VIDEO
FRAME = Role.FRAME

MAX_EARLY = 2000
"""Packets that wait for the first flush: a cached GOP may bring hundreds at once."""


class Part:
    """A file that takes packets.

    Attributes:
        first_dts: stream time of the packet it began with.
        file: what the disk knows of it.
        dropped: packets that it should hold and does not.
        counted: bytes on the disk that its stream's total knows of.
    """

    def __init__(
        self, archive: Archive, recording: Recording, tracks: TrackSet, packet: Packet, *, wall: float, pending: bool
    ) -> None:
        self.tracks = tracks
        self.first_dts = packet.dts
        self.dropped = 0
        self.counted = 0
        self.format = format_for(recording.format, tracks)
        self.file = PartFile(recording, SUFFIXES[self.format], wall, pending)
        self._archive = archive
        self._early: list[Packet] | None = []
        self._form: Form | None = None
        self._first_dts = packet.dts
        self._last_dts = packet.dts
        self._video = 0
        self._audio = 0
        self._track_facts: tuple[TrackFacts, ...] = ()
        archive.open(self.file)

    @property
    def duration_ms(self) -> int:
        """How much programme it holds."""
        return max(0, self._last_dts - self._first_dts)

    def write(self, packet: Packet) -> None:
        """Take a packet."""
        if packet.role is FRAME:
            if packet.kind is VIDEO:
                self._video += 1
            else:
                self._audio += 1
            if packet.dts > self._last_dts:
                self._last_dts = packet.dts
        if self._form is not None:
            self._form.write(packet)
        elif self._early is not None:
            self._early.append(packet)
            if len(self._early) >= MAX_EARLY:
                self._settle()

    def flush(self) -> None:
        """Hand what came to the disk."""
        form = self._form or self._settle()
        pieces = form.take()
        self.file.facts = self._facts()
        if pieces:
            self._archive.write(self.file, pieces, sum(map(len, pieces)))

    def finish(self) -> None:
        """End the file."""
        form = self._form or self._settle()
        pieces = form.take(last=True)
        tail, patches = form.finish()
        self.file.facts = self._facts()
        self._archive.finish(self.file, [*pieces, tail], patches)

    def abandon(self) -> None:
        """Give it up after an error."""
        self._archive.abandon(self.file)

    def _settle(self) -> Form:
        early, self._early = self._early or [], None
        base = min((packet.dts for packet in early), default=self._first_dts)
        self._first_dts = base
        form = self._form = Form(self.format, self.tracks, base)
        self._track_facts = _describe(form.tracks)
        for packet in early:
            form.write(packet)
        return form

    def _facts(self) -> PartFacts:
        return PartFacts(
            first_ms=self._first_dts,
            last_ms=self._last_dts,
            video_frames=self._video,
            audio_frames=self._audio,
            dropped_packets=self.dropped,
            tracks=self._track_facts,
        )


def _describe(tracks: Sequence[Track]) -> tuple[TrackFacts, ...]:
    return tuple(
        TrackFacts(
            kind=track.kind.name.lower(),
            track_id=track.track_id,
            codec=track.codec.value,
            codec_string=codec_string(track) or "",
            config=track.config.hex(),
        )
        for track in tracks
    )
