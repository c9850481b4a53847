"""Containers: packets become the bytes of a file, by the relay's own muxers.

The rule it guards: what `take` returns can be played without anything that follows. A fragment of fMP4 or TS therefore
lasts as long as the time between two calls, not a second: what a killed relay had in memory is lost.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.api import FlvMuxer, Fmp4Muxer, Fragment, MediaKind, MuxError, Packet, Role, Track, TrackSet, TsMuxer

Patch = tuple[int, bytes]


class Form:
    """One file in the making; *base* is the stream time at which it begins."""

    def __init__(self, name: str, tracks: TrackSet, base: int) -> None:
        self._muxer = make_muxer(name, tracks, base)
        self._pieces: list[bytes] = []
        self._begun = False
        self._cuts_at_keyframes = name != "flv"
        lead = next((track for track in self._muxer.tracks if track.kind is MediaKind.VIDEO), None)
        self._lead = -1 if lead is None else lead.track_id

    @property
    def tracks(self) -> Sequence[Track]:
        """Those that the file holds."""
        return self._muxer.tracks

    def write(self, packet: Packet) -> None:
        """Take a packet. A fragment ends before each keyframe, so that an index can point at it."""
        if packet.keyframe and self._cuts_at_keyframes and packet.track == self._lead and packet.role is Role.FRAME:
            self._add(self._muxer.cut_before(packet))
        self._muxer.write(packet)

    def take(self, *, last: bool = False) -> list[bytes]:
        """Return what can be written now; with *last*, everything."""
        self._add(self._muxer.cut(last=last))
        taken, self._pieces = self._pieces, []
        return taken

    def finish(self) -> tuple[bytes, Sequence[Patch]]:
        """Return what to append and what to write over the beginning, after the last `take`."""
        finish = self._muxer.finish()
        return finish.tail, finish.patches

    def _add(self, fragment: Fragment | None) -> None:
        if not self._begun and self._muxer.init:
            self._begun = True
            self._pieces.append(self._muxer.init)
        if fragment is not None:
            self._pieces.append(fragment.data)


def make_muxer(name: str, tracks: TrackSet, base: int) -> FlvMuxer | Fmp4Muxer | TsMuxer:
    """Return a muxer of this format. Raises MuxError when it can take none of the tracks."""
    if name == "flv":
        return FlvMuxer(tracks, origin=base)
    if name == "ts":
        return TsMuxer(tracks.tracks, origin=base)
    return Fmp4Muxer(tracks.tracks, origin=base, file=True)


def format_for(name: str, tracks: TrackSet) -> str:
    """Return the format to record *tracks* in: the wanted one, or FLV, which takes everything that RTMP carries."""
    try:
        make_muxer(name, tracks, 0)
    except MuxError:
        return "flv"
    return name
