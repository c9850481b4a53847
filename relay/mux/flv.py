"""Packets to an FLV file (FLV 10.1 Annex E): bodies bit for bit as they came, whatever the codec, all tracks.

The verbs are those of the other muxers, but nothing is held back: a tag needs no duration. The file begins with an
onMetaData that has room for what is only known at the end (duration, size, an index of keyframes); `finish` returns
that tag anew, to be written over the first.
"""

from __future__ import annotations

from collections import Counter

from relay.amf0 import Value
from relay.media import flvfile, metadata
from relay.media.errors import MediaError
from relay.media.packets import MediaKind, Packet, Role, Track, TrackSet
from relay.mux.errors import MuxError
from relay.mux.segment import MAX_PENDING_BYTES, Finish, Fragment

INDEX = 450
"""Keyframes in the index: 8 KiB are reserved for them. A longer recording lists every second, fourth, ... keyframe.
With two values each, onMetaData stays below the 1024 values that servers like this one (`AmfLimits`) let through."""
MAX_METADATA = 32 * 1024
"""An encoder's onMetaData that is longer is not repeated in the file: the list ends at 16 bits anyway."""
_METADATA_AT = flvfile.HEADER_SIZE + 4
_VIDEO = MediaKind.VIDEO


class KeyframeIndex:
    """Times and places of keyframes, thinned out evenly when there are too many."""

    __slots__ = ("_every", "_skip", "places", "times")

    def __init__(self) -> None:
        self.times: list[float] = []
        self.places: list[float] = []
        self._every = 1
        self._skip = 0

    def add(self, seconds: float, place: int) -> None:
        """Note a keyframe."""
        if self._skip:
            self._skip -= 1
            return
        self.times.append(seconds)
        self.places.append(float(place))
        if len(self.times) > INDEX:
            del self.times[1::2], self.places[1::2]
            self._every *= 2
        self._skip = self._every - 1


def front_matter(values: dict[str, Value], index: KeyframeIndex, duration: float, size: int) -> bytes:
    """Write the body of the file's onMetaData; it has the same length whatever the index holds.

    An empty index goes by another name of as many letters: FFmpeg complains about empty ``keyframes``.
    """
    times: list[Value] = list(index.times)
    places: list[Value] = list(index.places)
    spacer: list[Value] = [0.0] * (2 * (INDEX - len(times)))
    known: dict[str, Value] = {"duration": duration, "filesize": float(size), "hasKeyframes": bool(times)}
    index_value: Value = {"filepositions": places, "times": times}
    return metadata.build(values | known | {"keyframes" if times else "no_frames": index_value, "spacer": spacer})


class FlvMuxer:
    """Writes FLV. *origin* is the stream time that becomes 0."""

    def __init__(self, tracks: TrackSet, *, origin: int = 0) -> None:
        if not tracks.tracks:
            raise MuxError("mux.no_tracks", "nothing to record")
        self.odd: Counter[str] = Counter()
        self.tracks: tuple[Track, ...] = tracks.tracks
        self.pending_bytes = 0
        self._origin = origin
        self._values = _describe(tracks)
        self._index = KeyframeIndex()
        self._pending: list[bytes] = []
        self._frames = 0
        self._independent: bool | None = None
        self._begin: int | None = None
        self._newest = self._end = origin
        self.init = self._opening(tracks)
        self._size = len(self.init)

    def _opening(self, tracks: TrackSet) -> bytes:
        audio = tracks.find(MediaKind.AUDIO) is not None
        head = flvfile.file_header(audio=audio, video=tracks.has_video)
        first = flvfile.tag(MediaKind.DATA, 0, front_matter(self._values, self._index, 0.0, 0))
        headers = (packet for packet in tracks.opening() if packet.role is not Role.METADATA)
        return b"".join((head, first, *(flvfile.tag(packet.kind, 0, packet.body) for packet in headers)))

    def configure(self, tracks: TrackSet) -> None:
        """Write the sequence headers that changed into the file, at the time of the newest frame."""
        before = {(track.kind, track.track_id): track.config for track in self.tracks}
        for track in tracks.tracks:
            header = track.header
            if header is not None and before.get((track.kind, track.track_id)) != track.config:
                self._append(flvfile.tag(header.kind, self._newest - self._origin, header.body))
        self.tracks = tracks.tracks

    def write(self, packet: Packet) -> None:
        """Take one packet of any kind but a sequence header."""
        if packet.role is Role.HEADER:
            return
        if self.pending_bytes > MAX_PENDING_BYTES:
            self.odd["mux.full"] += 1
            return
        try:
            tag = flvfile.packet_tag(packet, self._origin)
        except MediaError:
            self.odd["mux.too_long"] += 1
            return
        if packet.role is Role.FRAME:
            self._note(packet)
        self._append(tag)

    def _append(self, tag: bytes) -> None:
        self._pending.append(tag)
        self.pending_bytes += len(tag)

    def _note(self, packet: Packet) -> None:
        """Keep count of frames, time and keyframes."""
        self._frames += 1
        dts = packet.dts
        if self._begin is None:
            self._begin = self._end = dts
        self._newest = max(self._newest, dts)
        if packet.kind is _VIDEO:
            if self._independent is None:
                self._independent = packet.keyframe
            if packet.keyframe and packet.track == 0:
                self._index.add(max(0, dts - self._origin) / 1000, self._size + self.pending_bytes)

    @property
    def pending_ms(self) -> int:
        """Time that `cut` would return."""
        return max(0, self._newest - self._end) if self._pending else 0

    def cut(self, *, last: bool = False) -> Fragment | None:
        """Return the tags written since the last cut; None when there are none."""
        return self._cut(self._newest)

    def cut_before(self, packet: Packet, *, last: bool = False) -> Fragment | None:
        """Return the tags written since the last cut, whose time ends where *packet* begins."""
        return self._cut(max(self._newest, packet.dts))

    def _cut(self, end: int) -> Fragment | None:
        if not self._pending:
            return None
        start, end = self._end, max(self._end, end)
        independent = self._independent
        fragment = Fragment(
            data=b"".join(self._pending),
            start_ms=start,
            duration_ms=float(end - start),
            independent=independent is None or independent,
            samples=self._frames,
        )
        self._pending = []
        self._size += self.pending_bytes
        self.pending_bytes = self._frames = 0
        self._independent = None
        self._end = end
        return fragment

    def finish(self) -> Finish:
        """Return the metadata tag to write over the first one. Call it after the last cut was written."""
        duration = max(0, self._newest - (self._begin if self._begin is not None else self._newest)) / 1000
        body = front_matter(self._values, self._index, duration, self._size)
        return Finish(tail=b"", patches=((_METADATA_AT, flvfile.tag(MediaKind.DATA, 0, body)),))


def _describe(tracks: TrackSet) -> dict[str, Value]:
    """Return what the encoder said of itself, and what the sequence headers prove."""
    own: dict[str, Value] = {}
    if tracks.metadata is not None and len(tracks.metadata.body) <= MAX_METADATA:
        own = metadata.metadata_values(tracks.metadata)
        for name in ("duration", "filesize", "hasKeyframes", "keyframes", "spacer"):
            own.pop(name, None)
    return metadata.describe(tracks) | own
