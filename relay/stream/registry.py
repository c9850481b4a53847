"""Which streams exist: public name -> `Stream`, and who wants to know.

Imports the stream. The rule it guards: a stream is listed from its first feed until it ends, and leaves the list before
anybody is told, so that an observer may create the next one of that name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from relay.stream.sinks import Sink
from relay.stream.stream import Stream, StreamLimits


class Registry:
    """All streams of this process. Append a callable to a list to be told; they are called in order.

    Attributes:
        on_started: called with a stream whose tracks are known now.
        on_ended: called with a stream that is over, its sinks closed, and the reason.
        on_switched: called with the stream, the names of the previous and the new live feed, and the reason.
        on_sink_failed: called with the stream, the sink that was detached, and what it raised.
        on_sink_closing: called with the stream, a closed sink, and what its `close` returned to be awaited.
    """

    def __init__(self, *, limits: StreamLimits | None = None) -> None:
        self.on_started: list[Callable[[Stream], None]] = []
        self.on_ended: list[Callable[[Stream, str], None]] = []
        self.on_switched: list[Callable[[Stream, str, str, str], None]] = []
        self.on_sink_failed: list[Callable[[Stream, Sink, Exception], None]] = []
        self.on_sink_closing: list[Callable[[Stream, Sink, Awaitable[None]], None]] = []
        self._limits = limits
        self._streams: dict[str, Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[Stream]:
        """Iterate over a copy: a stream may end meanwhile."""
        return iter(tuple(self._streams.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._streams

    def get(self, name: str) -> Stream | None:
        """Return the stream of this name."""
        return self._streams.get(name)

    def get_or_create(self, name: str) -> Stream:
        """Return the stream of this name, made now if there is none."""
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = self._make(name)
        return stream

    def close(self, reason: str) -> None:
        """End every stream."""
        for stream in self:
            stream.close(reason)

    def _make(self, name: str) -> Stream:
        def sink_failed(sink: Sink, error: Exception) -> None:
            for tell in self.on_sink_failed:
                tell(stream, sink, error)

        def sink_closing(sink: Sink, closing: Awaitable[None]) -> None:
            for tell in self.on_sink_closing:
                tell(stream, sink, closing)

        stream = Stream(
            name,
            limits=self._limits,
            on_sink_failed=sink_failed,
            on_sink_closing=sink_closing,
            on_started=self._started,
            on_switched=self._switched,
            on_ended=self._ended,
        )
        return stream

    def _started(self, stream: Stream) -> None:
        for tell in self.on_started:
            tell(stream)

    def _switched(self, stream: Stream, previous: str, feed: str, reason: str) -> None:
        for tell in self.on_switched:
            tell(stream, previous, feed, reason)

    def _ended(self, stream: Stream, reason: str) -> None:
        if self._streams.get(stream.name) is stream:
            del self._streams[stream.name]
        for tell in self.on_ended:
            tell(stream, reason)
