"""All targets of one stream as one sink.

Targets that are in step get their packets through shared lanes; the others by their own outbox. One target never
touches another: adding, failing and closing are each target's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from relay.media.packets import Packet, TrackSet
from relay.net.flusher import Flusher
from relay.net.lanes import Lanes
from relay.net.push import PushPlace, PushTools, RtmpPush


class PushGroup:
    """The sink that pushes one stream to its targets."""

    def __init__(
        self, tools: PushTools, flusher: Flusher, stream: str, places: Iterable[tuple[str, PushPlace]]
    ) -> None:
        self._lanes = Lanes(flusher)
        self.targets = {
            name: RtmpPush(tools, self, self._lanes, stream=stream, name=name, place=place) for name, place in places
        }
        self._separate = dict.fromkeys(self.targets.values())

    def configure(self, tracks: TrackSet) -> None:
        for target in self.targets.values():
            target.configure(tracks)

    def write(self, packet: Packet) -> None:
        self._lanes.write(packet)
        if self._separate:
            for target in tuple(self._separate):
                target.write(packet)

    def in_step(self, push: RtmpPush, yes: bool) -> None:
        """Note whether *push* gets its packets through a lane."""
        if yes:
            self._separate.pop(push, None)
        else:
            self._separate[push] = None

    def close(self) -> Deferred[Any]:
        return DeferredList([target.close() for target in self.targets.values()])
