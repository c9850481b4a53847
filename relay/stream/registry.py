"""Which streams exist: public name -> `Stream`, and who wants to know.

Imports the stream. The rule it guards: a stream is listed from its first feed until it ends, and leaves the list before
anybody is told, so that an observer may create the next one of that name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from relay.stream.policy import FailoverOptions
from relay.stream.reports import Report
from relay.stream.sinks import Sink
from relay.stream.slowness import Slowness, still
from relay.stream.stream import Stream, StreamLimits


class Registry:
    """All streams of this process. Append a callable to a list to be told; they are called in order.

    Attributes:
        on_started: called with a stream whose tracks are known now.
        on_ended: called with a stream that is over, its sinks closed, and the reason.
        on_report: called with the stream and what happened to its feeds.
        on_sink_failed: called with the stream, the sink that was detached, and what it raised.
        on_sink_closing: called with the stream, a closed sink, and what its `close` returned to be awaited.
    """

    def __init__(
        self,
        *,
        limits: StreamLimits | None = None,
        failover: Callable[[str], FailoverOptions | None] = lambda name: None,
        seconds: Callable[[], float] = still,
        may_block: Callable[[Sink], bool] = lambda sink: False,
    ) -> None:
        """Start without streams; *failover* says what the stream of a name does about its feeds.

        A sink that blocks by the clock *seconds* is detached, unless *may_block* excuses it.
        """
        self.on_started: list[Callable[[Stream], None]] = []
        self.on_ended: list[Callable[[Stream, str], None]] = []
        self.on_report: list[Callable[[Stream, Report], None]] = []
        self.on_sink_failed: list[Callable[[Stream, Sink, Exception], None]] = []
        self.on_sink_closing: list[Callable[[Stream, Sink, Awaitable[None]], None]] = []
        self._limits = limits
        self._failover = failover
        self._seconds = seconds
        self._may_block = may_block
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
            failover=self._failover(name),
            slowness=Slowness(self._seconds, excused=self._may_block),
            on_sink_failed=sink_failed,
            on_sink_closing=sink_closing,
            on_started=self._started,
            on_report=self._reported,
            on_ended=self._ended,
        )
        return stream

    def _started(self, stream: Stream) -> None:
        for tell in self.on_started:
            tell(stream)

    def _reported(self, stream: Stream, report: Report) -> None:
        for tell in self.on_report:
            tell(stream, report)

    def _ended(self, stream: Stream, reason: str) -> None:
        if self._streams.get(stream.name) is stream:
            del self._streams[stream.name]
        for tell in self.on_ended:
            tell(stream, reason)
