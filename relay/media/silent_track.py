"""Silence as AAC, in step with the pictures: for destinations that refuse, or mistrust, a programme without sound.

Imports packets only. The rule it guards: silence never runs ahead of the picture, and a hole in the programme is a
hole in the silence too.
"""

from __future__ import annotations

from relay.media.packets import Codec, MediaKind, Packet, Role, Track

SAMPLE_RATE = 48_000
SAMPLES = 1024
"""Samples of one AAC frame."""

CONFIG = b"\x11\x90"
"""AudioSpecificConfig: AAC-LC, 48 kHz, stereo (ISO/IEC 14496-3 1.6.2.1)."""

FRAME = bytes.fromhex("21100460 8c1c")
"""A raw_data_block with one channel pair that has no spectral data (max_sfb 0), and the end element."""

JUMP_MS = 1000
"""Pictures further apart than this are a hole, not a slow programme."""


class SilentTrack:
    """Makes the silent frames that belong before a picture."""

    __slots__ = ("_base", "_frames")

    def __init__(self) -> None:
        self._base: int | None = None
        self._frames = 0

    @staticmethod
    def track(dts: int = 0) -> Track:
        """Return the track with its sequence header at *dts*."""
        header = _packet(Role.HEADER, dts, b"\xaf\x00" + CONFIG)
        return Track(kind=MediaKind.AUDIO, track_id=0, codec=Codec.AAC, header=header)

    def until(self, dts: int) -> list[Packet]:
        """Return the frames that begin after those of the last call and not after *dts*."""
        if self._base is None or abs(dts - self._next(self._base)) > JUMP_MS:
            self._base, self._frames = dts, 0
        packets = []
        while (begins := self._next(self._base)) <= dts:
            packets.append(_packet(Role.FRAME, begins, b"\xaf\x01" + FRAME))
            self._frames += 1
        return packets

    def _next(self, base: int) -> int:
        return base + self._frames * SAMPLES * 1000 // SAMPLE_RATE


def _packet(role: Role, dts: int, body: bytes) -> Packet:
    return Packet(MediaKind.AUDIO, 0, Codec.AAC, role, False, dts, 0, body, 2)
