"""The six hooks: the whole contract between the relay and a plugin. Their kind decides everything else.

decide   ``authorize_publish``, ``authorize_play``: asked in configuration order, first answer wins, nobody answers
         means Deny; raising or taking over 5 s means Deny.
collect  ``open_sinks``, ``http_resources``, ``services``: all answers joined; must not wait.
observe  ``on_event``: the answer is ignored; may be async, bounded number in flight.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pluggy

from relay.decisions import Decision, PlayRequest, PublishRequest
from relay.events import Event
from relay.media.packets import TrackSet
from relay.stream.sinks import Sink

if TYPE_CHECKING:
    from twisted.application.service import IService
    from twisted.web.resource import IResource

PROJECT = "rtmp_relay"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInfo:
    """A stream as plugins see it when it starts.

    *started_at* is wall-clock time in seconds since the epoch.
    """

    name: str
    tracks: TrackSet
    live_feed: str
    started_at: float


@hookspec
def authorize_publish(request: PublishRequest) -> Decision | Awaitable[Decision | None] | None:
    """Decide whether an encoder may publish, to which stream, and as which feed. None means no opinion."""
    return None


@hookspec
def authorize_play(request: PlayRequest) -> Decision | Awaitable[Decision | None] | None:
    """Decide whether a player may play. None means no opinion."""
    return None


@hookspec
def open_sinks(stream: StreamInfo) -> Iterable[Sink]:
    """Return the sinks to feed from *stream*; called once when it starts, with its tracks known."""
    return ()


@hookspec
def http_resources() -> Mapping[str, IResource]:
    """Return resources to mount on the relay's HTTP server, by first path segment. Called once at start."""
    return {}


@hookspec
def services() -> Iterable[IService]:
    """Return services to run for as long as the relay runs. Called once at start."""
    return ()


@hookspec
def on_event(event: Event) -> Awaitable[None] | None:
    """Observe something that happened. Unknown event classes must be ignored."""
    return None
