"""Small packets and sinks for the tests of the stream floor."""

from __future__ import annotations

from collections.abc import Awaitable

from relay.media.packets import Codec, MediaKind, Packet, Role, Track, TrackSet

AVC_HEADER = bytes.fromhex("1700000000" + "0142c01effe1000a6742c01ed900a047fe8801000468ce3c80")
AAC_HEADER = bytes.fromhex("af001210")


def video(dts: int, key: bool = False, *, size: int = 20, track: int = 0) -> Packet:
    """Make a coded picture."""
    head = b"\x17\x01\x00\x00\x00" if key else b"\x27\x01\x00\x00\x00"
    return Packet(MediaKind.VIDEO, track, Codec.AVC, Role.FRAME, key, dts, 0, head.ljust(size, b"v"), 5)


def audio(dts: int, *, size: int = 10, codec: Codec = Codec.AAC, track: int = 0) -> Packet:
    """Make a coded audio frame."""
    return Packet(MediaKind.AUDIO, track, codec, Role.FRAME, False, dts, 0, b"\xaf\x01".ljust(size, b"a"), 2)


def data(dts: int, *, role: Role = Role.OTHER, body: bytes = b"\x02\x00\x02hi") -> Packet:
    """Make a data message."""
    return Packet(MediaKind.DATA, 0, Codec.AMF, role, False, dts, 0, body, 0)


def video_header(dts: int = 0, body: bytes = AVC_HEADER) -> Packet:
    """Make an AVC sequence header."""
    return Packet(MediaKind.VIDEO, 0, Codec.AVC, Role.HEADER, False, dts, 0, body, 5)


def audio_header(dts: int = 0, body: bytes = AAC_HEADER) -> Packet:
    """Make an AAC sequence header."""
    return Packet(MediaKind.AUDIO, 0, Codec.AAC, Role.HEADER, False, dts, 0, body, 2)


def tracks(*headers: Packet, generation: int = 1, metadata: Packet | None = None) -> TrackSet:
    """Make the tracks that *headers* describe."""
    listed = (Track(kind=h.kind, track_id=h.track, codec=h.codec, header=h) for h in headers)
    return TrackSet(tuple(listed), metadata, generation)


class RecordingSink:
    """Remembers every call in order: ("configure", TrackSet), ("write", Packet), ("close", None)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []

    def configure(self, tracks: TrackSet) -> None:
        self.calls.append(("configure", tracks))

    def write(self, packet: Packet) -> None:
        self.calls.append(("write", packet))

    def close(self) -> Awaitable[None] | None:
        self.calls.append(("close", None))
        return None

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    @property
    def packets(self) -> list[Packet]:
        return [value for _, value in self.calls if isinstance(value, Packet)]

    @property
    def configured(self) -> list[TrackSet]:
        return [value for _, value in self.calls if isinstance(value, TrackSet)]

    @property
    def closed(self) -> int:
        return self.names.count("close")
