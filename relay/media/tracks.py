"""What a feed consists of right now: its tracks, their sequence headers, side packets and onMetaData.

The rule: a track is listed once it can be decoded, and a repeated identical sequence header is no news.
"""

from __future__ import annotations

from relay.media import configs
from relay.media.packets import Codec, MediaKind, Packet, Role, Track, TrackSet

MAX_TRACKS = 18
"""The demuxer's 16 multitrack ids and the default video and audio track."""
MAX_SIDE = 4
"""Kinds of side packets kept per track: colorInfo and multichannel configuration exist today."""

_FRAME, _HEADER, _SIDE, _METADATA = Role.FRAME, Role.HEADER, Role.SIDE, Role.METADATA


class _Entry:
    """One track while it is collected."""

    __slots__ = ("codec", "header", "ready", "side")

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.header: Packet | None = None
        self.ready = codec not in configs.NEEDS_HEADER
        self.side: dict[bytes, Packet] = {}


class TrackTable:
    """Collects the tracks of one feed from its packets."""

    __slots__ = ("_entries", "_generation", "_metadata", "_tracks")

    def __init__(self) -> None:
        self._entries: dict[tuple[MediaKind, int], _Entry] = {}
        self._metadata: Packet | None = None
        self._generation = 0
        self._tracks: TrackSet | None = TrackSet()

    def see(self, packet: Packet) -> bool:
        """Take note of *packet*; True when a track or its sequence header changed, so that sinks must be configured."""
        role = packet.role
        if role is _FRAME:
            entry = self._entries.get((packet.kind, packet.track))
            if entry is not None and entry.codec is packet.codec:
                return False
            return packet.codec not in configs.NEEDS_HEADER and self._changed(self._replace(packet))
        if role is _HEADER:
            return self._see_header(packet)
        if role is _SIDE:
            return self._see_side(packet)
        if role is _METADATA:
            self._metadata = packet
            self._tracks = None
        return False

    def ready(self, packet: Packet) -> bool:
        """Whether *packet* can be decoded: False for frames of a codec whose sequence header has not come yet."""
        if packet.role is not _FRAME:
            return True
        entry = self._entries.get((packet.kind, packet.track))
        return entry is not None and entry.ready and entry.codec is packet.codec

    @property
    def tracks(self) -> TrackSet:
        """All tracks that can be decoded: video first, then audio, by track id."""
        if self._tracks is None:
            listed = sorted(
                (key for key, entry in self._entries.items() if entry.ready),
                key=lambda key: (-key[0], key[1]),
            )
            self._tracks = TrackSet(tuple(self._track(key) for key in listed), self._metadata, self._generation)
        return self._tracks

    def _track(self, key: tuple[MediaKind, int]) -> Track:
        entry = self._entries[key]
        side = tuple(entry.side.values())
        return Track(kind=key[0], track_id=key[1], codec=entry.codec, header=entry.header, side=side)

    def _replace(self, packet: Packet) -> _Entry | None:
        """Begin a track, or begin it anew because its codec changed; None when there are too many."""
        key = (packet.kind, packet.track)
        if key not in self._entries and len(self._entries) >= MAX_TRACKS:
            return None
        entry = self._entries[key] = _Entry(packet.codec)
        return entry

    def _changed(self, entry: _Entry | None) -> bool:
        """Begin a new generation if *entry* can be decoded; say so."""
        if entry is None or not entry.ready:
            return False
        self._generation += 1
        self._tracks = None
        return True

    def _see_header(self, packet: Packet) -> bool:
        entry = self._entries.get((packet.kind, packet.track))
        if entry is None or entry.codec is not packet.codec:
            entry = self._replace(packet)
            if entry is None:
                return False
        elif entry.header is not None and configs.same(entry.codec, entry.header.payload, packet.payload):
            return False
        entry.header = packet
        entry.ready = True
        return self._changed(entry)

    def _see_side(self, packet: Packet) -> bool:
        """Keep the latest side packet of each name. Only one that begins a track is a change of configuration."""
        changed = False
        entry = self._entries.get((packet.kind, packet.track))
        if entry is None or entry.codec is not packet.codec:
            entry = self._replace(packet)
            changed = self._changed(entry)
            if entry is None:
                return False
        name = _side_name(packet)
        if name in entry.side or len(entry.side) < MAX_SIDE:
            entry.side[name] = packet
            self._tracks = None
        return changed


def _side_name(packet: Packet) -> bytes:
    """Tell side packets apart: video metadata by its AMF0 name, the others by being the only one of their kind."""
    payload = packet.payload
    if packet.kind is MediaKind.VIDEO and payload.startswith(b"\x02"):
        return payload[3 : 3 + int.from_bytes(payload[1:3], "big")][:64]
    return b""
