"""The targets of one stream that get the same packets, as one sink.

Targets that are in step get their packets through shared lanes; the others by their own outbox. One target never
touches another: adding, removing, failing and closing are each target's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from relay.context import BACKUP_SUFFIX, PushTarget
from relay.media.packets import Packet, Role, TrackSet
from relay.net.addresses import AddressPolicy
from relay.net.attempt import PushTools
from relay.net.endpoints import parse_url
from relay.net.flusher import Flusher
from relay.net.lanes import Lanes
from relay.net.push import RtmpPush
from relay.net.trust import Trust
from relay.net.way import PushPlace
from relay.rtmp.auth import Credentials
from relay.stream.sinks import PLANNED_ENDS


class PushGroup:
    """The sink that pushes one stream to its targets, which come and go."""

    def __init__(self, tools: PushTools, flusher: Flusher, stream: str, targets: Iterable[PushTarget]) -> None:
        self._tools = tools
        self._stream = stream
        self._lanes = Lanes(flusher)
        self._tracks: TrackSet | None = None
        self._separate: dict[RtmpPush, None] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._leaving: dict[RtmpPush, Deferred[Any]] = {}
        self._bytes_before = 0
        self._fault = False
        self.targets: dict[str, RtmpPush] = {}
        for target in targets:
            self.add(target)

    @property
    def bytes_sent(self) -> int:
        """Bytes sent to every target, those that were removed included."""
        return self._bytes_before + sum(push.bytes_sent for push in (*self.targets.values(), *self._leaving))

    def add(self, target: PushTarget) -> None:
        """Push to *target* too. When the programme is on already, it begins at the next keyframe.

        Raises KeyError when there is a target of this name, ConfigError when its address is wrong.
        """
        places = places_of(target)
        for name in places:
            if name in self.targets:
                raise KeyError(name)
        self._names[target.name] = tuple(places)
        for name, place in places.items():
            self._add(name, place)

    def _add(self, name: str, place: PushPlace) -> None:
        push = RtmpPush(self._tools, self, self._lanes, stream=self._stream, name=name, place=place)
        self.targets[name] = push
        self._separate[push] = None
        if self._tracks is not None:
            push.outbox.begin_at_keyframe()
            push.configure(self._tracks)

    def remove(self, name: str) -> Deferred[Any]:
        """Stop pushing to this target; fires when its connection is gone. A name that is not known is gone already."""
        leaving = [self._remove(self.targets.pop(one)) for one in self._names.pop(name, ())]
        return leaving[0] if len(leaving) == 1 else DeferredList(leaving)

    def _remove(self, push: RtmpPush) -> Deferred[Any]:
        self._separate.pop(push, None)
        closing = push.close()
        if closing.called:
            self._bytes_before += push.bytes_sent
            return closing
        self._leaving[push] = closing
        return closing.addBoth(self._left, push)

    def _left(self, result: object, push: RtmpPush) -> object:
        del self._leaving[push]
        self._bytes_before += push.bytes_sent
        return result

    def configure(self, tracks: TrackSet) -> None:
        self._tracks = tracks
        for target in self.targets.values():
            target.configure(tracks)

    def write(self, packet: Packet) -> None:
        if packet.role is Role.METADATA and self._tracks is not None:
            self._tracks = replace(self._tracks, metadata=packet)
        self._lanes.write(packet)
        if self._separate:
            for target in tuple(self._separate):
                target.write(packet)

    def in_step(self, push: RtmpPush, yes: bool) -> None:
        """Note whether *push* gets its packets through a lane."""
        if yes or self.targets.get(push.name) is not push:
            self._separate.pop(push, None)
        else:
            self._separate[push] = None

    def stream_ending(self, reason: str, /) -> None:
        """Note whether the stream's end was planned."""
        self._fault = reason not in PLANNED_ENDS

    def close(self) -> Deferred[Any]:
        return DeferredList(
            [*(target.close(fault=self._fault) for target in self.targets.values()), *self._leaving.values()]
        )


def places_of(target: PushTarget) -> Mapping[str, PushPlace]:
    """Return where to push for *target*, by the names of what is shown. Raises ConfigError when an address is wrong."""
    place = PushPlace(
        url=parse_url(target.url),
        key=target.key,
        login=None if target.password is None else Credentials(user=target.user, password=target.password),
        trust=Trust(ca_file=target.ca_file, crl_file=target.crl_file, fingerprint=target.fingerprint),
        policy=None if target.allow_networks is None else AddressPolicy(tuple(target.allow_networks)),
        redirects=AddressPolicy(tuple(target.redirect_networks)),
        retry_s=target.retry_s,
        enhanced=target.announce_enhanced,
        close=target.close,
        close_on_fault=target.close_on_fault,
    )
    if target.backup_url is None:
        return {target.name: place}
    backup = parse_url(target.backup_url, "backup_url")
    if target.backup_mode == "failover":
        return {target.name: replace(place, backup=backup)}
    return {target.name: place, target.name + BACKUP_SUFFIX: replace(place, url=backup)}
