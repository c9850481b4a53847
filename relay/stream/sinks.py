"""What a stream writes to. A sink is made once per stream; it is never asked per packet whether it wants one."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStatus:
    """What a sink tells the API and the metrics about itself; a copy of this moment.

    *numbers* are its own: a name that ends in ``_total`` is a counter, any other a gauge.
    """

    state: str = "open"
    bytes_out: int = 0
    dropped_gops: int = 0
    detail: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class ReportsStatus(Protocol):
    """A sink that tells about itself when it is asked."""

    def status(self) -> SinkStatus:
        """Return how it is; called from the reactor thread, quick, never raises."""
        ...
