"""Containers: packets become the bytes of a file.

The rule it guards: what `take` returns can be played without anything that follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from relay.api import MediaKind, Packet, TrackSet

Patch = tuple[int, bytes]

AUDIO = MediaKind.AUDIO

FLV_TAG_HEAD = 11


class Form(Protocol):
    """One file in the making. Times of packets count from *base*, the stream time at which the file begins."""

    def write(self, packet: Packet) -> None:
        """Take a packet."""
        ...

    def take(self) -> tuple[list[bytes], int]:
        """Return what can be written now, and how many bytes that is."""
        ...

    def finish(self) -> Sequence[Patch]:
        """End the file: what is left comes out of `take`; return what to write over the beginning."""
        ...


class FlvForm:
    """FLV: the bodies of the messages as they came, bit for bit."""

    def __init__(self, tracks: TrackSet, base: int) -> None:
        self._base = base
        self._pieces: list[bytes] = [b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"]
        self._size = 13
        for packet in tracks.opening():
            self._tag(packet, 0)

    def write(self, packet: Packet) -> None:
        """Take a packet."""
        self._tag(packet, packet.dts - self._base)

    def _tag(self, packet: Packet, time: int) -> None:
        body = packet.body
        size = len(body)
        time = max(time, 0)
        head = bytes((packet.kind,)) + size.to_bytes(3, "big") + (time & 0xFFFFFF).to_bytes(3, "big")
        head += bytes((time >> 24 & 0x7F, 0, 0, 0))
        self._pieces += (head, body, (size + FLV_TAG_HEAD).to_bytes(4, "big"))
        self._size += size + FLV_TAG_HEAD + 4

    def take(self) -> tuple[list[bytes], int]:
        """Return the tags so far."""
        taken = self._pieces, self._size
        self._pieces, self._size = [], 0
        return taken

    def finish(self) -> Sequence[Patch]:
        """Nothing is left to do."""
        return ()


FORMS: dict[str, type[FlvForm]] = {"flv": FlvForm}
