"""What the relay gives a plugin: `Context`, and nothing else of ours.

May import the floors below the plugin host. The rule it guards: a plugin reaches the relay through these few doors,
each of which is counted, isolated and bound to the plugin's name.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol

from typing_extensions import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from relay.config import TEMPLATE
from relay.config_file import ConfigModel
from relay.errors import ConfigError
from relay.events import Event
from relay.hookspecs import StreamInfo
from relay.secret import Secret
from relay.stream.sinks import Sink

StreamConfigT = TypeVar("StreamConfigT", bound=ConfigModel, default=ConfigModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushTarget:
    """A place to push a stream to. *url* never holds the key; *ca_file* is trusted beside the system's CAs."""

    name: str
    url: str
    key: Secret
    ca_file: Path | None = None


class Push(Protocol):
    """Opens RTMP pushes. The sink connects, reconnects and reports each target's state by events until it is closed."""

    def __call__(self, stream: str, targets: Sequence[PushTarget], /, *, merge_ms: int = 0) -> Sink:
        """Return the sink that pushes *stream* to all of *targets*."""
        ...


class Background(Protocol):
    """Runs a coroutine that nobody awaits."""

    def __call__(self, description: str, work: Coroutine[Deferred[object], object, object], /) -> Deferred[None]:
        """Start *work*; its failure is logged and counted under *description*. Cancel the result to stop it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Generic[StreamConfigT]):
    """The relay as one plugin sees it.

    Attributes:
        name: the plugin's name in the configuration.
        clock: the reactor's clock; every timer and deadline uses it, so that tests can turn it.
        log: bound to the plugin's name. Every secret of the configuration is hidden in what it writes.
        streams: the streams that are on now, by public name; read-only and always current.
        emit: tell everybody that something happened.
        run_in_background: start work that nobody awaits. It is cancelled when the relay stops.
    """

    name: str
    clock: IReactorTime
    log: Logger
    streams: Mapping[str, StreamInfo]
    emit: Callable[[Event], None]
    run_in_background: Background
    _push: Push | None = None
    _stream_configs: Mapping[str, StreamConfigT] = field(default_factory=dict)
    _declared: frozenset[str] = frozenset()
    _stream_defaults: StreamConfigT | None = None

    @property
    def configured_streams(self) -> Mapping[str, StreamConfigT]:
        """The sub-tables of this plugin by stream name, in the order of the file; ``"*"`` is the template."""
        return self._stream_configs

    def is_declared(self, stream_name: str) -> bool:
        """Whether the configuration has a ``[streams.NAME]`` table, or any table below it, for *stream_name*."""
        return stream_name in self._declared

    def stream_config(self, stream_name: str) -> StreamConfigT | None:
        """Return what this plugin should do for a stream: its own sub-table over the plugin's defaults.

        A stream that is not declared gets the template's. Without a sub-table the plugin's defaults stand alone;
        None when they do not suffice, because the stream's options have required ones.
        """
        own = self._stream_configs.get(stream_name)
        if own is None and stream_name not in self._declared:
            own = self._stream_configs.get(TEMPLATE)
        return own if own is not None else self._stream_defaults

    def push(self, stream: str, targets: Sequence[PushTarget], *, merge_ms: int = 0) -> Sink:
        """Open RTMP pushes of *stream* to *targets*: each lives its own life, what they share is made once.

        Packets of *merge_ms* go out together; 0 sends at the end of each reactor turn.
        """
        if self._push is None:
            raise ConfigError("", "this relay cannot push")
        return self._push(stream, targets, merge_ms=merge_ms)
