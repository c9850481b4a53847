"""What a stream writes to. A sink is made once per stream; it is never asked per packet whether it wants one."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, runtime_checkable

from relay.media.packets import Packet, TrackSet

PLANNED_ENDS = frozenset({"unpublished", "shutdown"})
"""Reasons of a stream's end that a person wanted: the encoder said goodbye, the relay stops. With
any other the programme was lost."""


@runtime_checkable
class Sink(Protocol):
    """Receives one stream. All calls come from the reactor thread and must not block."""

    def configure(self, tracks: TrackSet) -> None:
        """Take the tracks: before the first packet, and again whenever a track or its sequence header changes."""
        ...

    def write(self, packet: Packet) -> None:
        """Take one packet: frames, side packets, metadata updates and data. Never sequence headers (see configure)."""
        ...

    def close(self) -> Awaitable[None] | None:
        """Finish: the stream is over or the sink was detached. Called once."""
        ...


@runtime_checkable
class HearsReason(Protocol):
    """A sink that wants to know why its stream ends."""

    def stream_ending(self, reason: str, /) -> None:
        """Note the reason; `close` follows at once. Not called when the sink alone is detached."""
        ...
